"""/v1/completions, /v1/chat/completions and /v1/tokenize: from what is asked to a request, from chunks to answers."""

import logging
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from time import monotonic
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from lenses.errors import ConfigError, PromptError
from lenses.text import quoted
from runtime.serve.ask import ChatBody, CompletionBody, TokenizeBody
from runtime.serve.catalogue import Catalogue
from runtime.serve.choice import Answer, ChatShape, CompletionShape, Shape, Told
from runtime.serve.conversation import Conversation, Kind, NextTurn
from runtime.serve.documents import EVENT_STREAM, ChatCompletion, Completion, Tokenized
from runtime.serve.refusal import Refusal
from runtime.serve.request import Chunk, Request
from runtime.serve.service import Service
from runtime.serve.shown import Shown
from runtime.serve.wire import DONE, CountedJson, Counts, EventStream, Part, event, while_here

_log = logging.getLogger("phoropter.serve")
_GONE = Response(status_code=499)
"""For nobody: the client has left."""

Body = CompletionBody | ChatBody


@dataclass(slots=True)
class _Asked:
    """What is to be generated, in the terms of one of the APIs."""

    body: Body
    shape: Shape
    kind: Kind
    prompt: Callable[[Service], Awaitable[list[int]]]
    """Token ids without a session."""
    turn: Callable[[Service, Conversation], Awaitable[NextTurn]]
    """What a session is to read next."""


class _Running:
    """One request that the engine has, from its submission to its end."""

    def __init__(
        self,
        service: Service,
        asked: _Asked,
        request: Request,
        one: Conversation | None,
        leave: Callable[[], None],
    ) -> None:
        """Raises what `submit` raises; `leave` is called once, at its end."""
        body = asked.body
        self._service, self.body, self._request, self._conversation = service, body, request, one
        assert request.sampling.seed is not None, "it was drawn"
        self.answer = Answer(asked.shape, service.name, request.sampling.seed)
        self._shown: Shown | None = None
        if request.lenses is not None and body.lenses is not None:
            alarms = service.alarms(request.lenses.alarm_budget)
            wants = body.lenses
            self._shown = Shown(
                service.pack, request.lenses, vectors=wants.vectors, alarms=alarms, runs=wants.run
            )
        self._began_s = monotonic()
        self._is_first = True
        self._stream = service.scheduler.submit(request)
        self._leave: Callable[[], None] | None = leave

    async def chunks(self) -> AsyncGenerator[tuple[Chunk, dict[str, Any] | None], None]:
        """What comes, and what is told of lenses with it; raises Refusal where it ends in an error."""
        async with aclosing(self._stream.__aiter__()) as chunks:  # type: ignore[type-var]
            async for chunk in chunks:
                if self._is_first and chunk.token is not None:
                    self._service.metrics.count_first(monotonic() - self._began_s)
                self._service.metrics.count_dropped(chunk.dropped)
                if chunk.finish is not None:
                    self._note(chunk)
                    self._free()  # before it is told: who reads that it is over may take the next turn at once
                if chunk.finish == "error":
                    raise Refusal(500, f"the engine could not go on: {chunk.detail}", code="engine_error")
                shown = None if self._shown is None else self._shown.part(chunk, is_first=self._is_first)
                self._is_first = False
                yield chunk, shown

    def end(self) -> None:
        """The client has it all, or has gone; idempotent."""
        self._stream.cancel()
        if self._leave is not None:
            self._leave()
            self._leave = None
        if self._conversation is not None:
            self._service.later(self._let_end(self._conversation))
            self._conversation = None

    async def _let_end(self, conversation: Conversation) -> None:
        """The session is free for its next turn when the engine has let go of this one."""
        async for _ in self._stream:
            pass
        conversation.is_busy = False

    def _free(self) -> None:
        """The session may have its next turn, which is no business of this one's."""
        if self._conversation is not None:
            self._conversation.is_busy = False
            self._conversation = None

    def _note(self, chunk: Chunk) -> None:
        assert chunk.finish is not None
        self._service.metrics.count_finished(chunk.finish, chunk.usage)
        tokens = "" if chunk.usage is None else f"{chunk.usage.prompt} + {chunk.usage.completion} tokens, "
        took_ms = (monotonic() - self._began_s) * 1e3
        _log.info("%s %s: %s%.0f ms", self.answer.id, chunk.finish, tokens, took_ms)


def routes(catalogue: Catalogue) -> APIRouter:
    """The routes."""
    router = APIRouter()

    @router.post("/v1/completions", responses={200: {"model": Completion, "content": EVENT_STREAM}})
    async def completions(body: CompletionBody, http: HttpRequest) -> Response:
        """Go on from a text."""
        prompt = body.text_or_ids

        async def first(service: Service) -> list[int]:
            return await service.tokens.prompt(prompt) if isinstance(prompt, str) else prompt

        def turn(service: Service, one: Conversation) -> Awaitable[NextTurn]:
            return service.conversations.next_text(one, prompt)

        return await _generate(catalogue, _Asked(body, CompletionShape(), "text", first, turn), http)

    @router.post("/v1/chat/completions", responses={200: {"model": ChatCompletion, "content": EVENT_STREAM}})
    async def chat(body: ChatBody, http: HttpRequest) -> Response:
        """Answer in a chat."""
        messages = [message.to_template() for message in body.messages]

        def first(service: Service) -> Awaitable[list[int]]:
            return service.tokens.chat(messages)

        def turn(service: Service, one: Conversation) -> Awaitable[NextTurn]:
            return service.conversations.next_chat(one, messages)

        return await _generate(catalogue, _Asked(body, ChatShape(), "chat", first, turn), http)

    @router.post("/v1/tokenize", responses={200: {"model": Tokenized}})
    async def tokenize(body: TokenizeBody) -> Response:
        """The tokens of a text or a chat."""
        async with catalogue.using(body.model) as service:
            if body.messages is not None:
                ids = await service.tokens.chat([message.to_template() for message in body.messages])
            else:
                ids = await service.tokens.encode(body.prompt or "", special=body.add_special_tokens)
            context = service.scheduler.config.max_context
        told = {"tokens": Part.of("ids", ids), "count": len(ids), "max_model_len": context}
        return CountedJson(told, catalogue.ledger)

    return router


async def _generate(catalogue: Catalogue, asked: _Asked, http: HttpRequest) -> Response:
    service = await catalogue.use(asked.body.model)
    try:
        address = http.client.host if http.client else ""
        running = await _begin(service, asked, address, lambda: catalogue.leave(service))
    except BaseException:
        catalogue.leave(service)
        raise
    if asked.body.stream:
        return EventStream(_messages(running), service.ledger, running.end)
    try:
        told = await while_here(http.receive, _all(running))
    finally:
        running.end()
    return _GONE if told is None else CountedJson(running.answer.whole(told), service.ledger)


async def _begin(service: Service, asked: _Asked, address: str, leave: Callable[[], None]) -> _Running:
    """Have the engine take it; raises what `submit` raises, and PromptError, ConfigError."""
    body, session = asked.body, asked.body.session
    if session is None:
        request = _request(service, asked.body, await asked.prompt(service), 0, address)
        return _Running(service, asked, request, None, leave)
    one = service.conversations.take(session, asked.kind)
    try:
        turn = await asked.turn(service, one)
        request = _request(service, body, turn.token_ids, turn.before, address)
        running = _Running(service, asked, request, one, leave)
    except BaseException:
        one.is_busy = False
        raise
    one.turns = turn.turns
    return running


def _request(service: Service, body: Body, token_ids: Sequence[int], kept: int, address: str) -> Request:
    """As the engine takes it; raises PromptError, ConfigError for what is beyond the limits."""
    limits = service.limits
    if token_ids and max(token_ids) >= service.vocabulary:
        raise PromptError(
            f"the prompt has the token id {max(token_ids)}, the host's vocabulary ends at {service.vocabulary - 1}"
        )
    if len(token_ids) > limits.prompt_tokens:
        raise PromptError(
            f"the prompt has {len(token_ids):,} tokens, {limits.prompt_tokens:,} are allowed; shorten it"
        )
    room = max(1, service.scheduler.config.max_context - kept - len(token_ids))
    most = min(limits.new_tokens, room) if body.most_tokens is None else body.most_tokens
    if most > limits.new_tokens:
        raise ConfigError(
            f"{most:,} new tokens are asked for, {limits.new_tokens:,} are allowed; ask for less"
        )
    if service.log_prompts:
        _log.info(
            "prompt of %s: %s", address, quoted(service.scheduler.host.tokenizer.decode(list(token_ids)))
        )
    return Request(
        tuple(token_ids),
        most,
        body.sampling(secrets.randbits(62)),
        body.stops(),
        body.alternatives,
        None if body.lenses is None else body.lenses.wishes(),
        body.session,
        body.user or address,
        body.deadline_s,
    )


async def _all(running: _Running) -> Told:
    """A whole generation."""
    told = Told()
    async with aclosing(running.chunks()) as chunks:
        async for chunk, shown in chunks:
            told.add(chunk, shown)
    return told


async def _messages(running: _Running) -> AsyncGenerator[tuple[bytes, Counts], None]:
    """A generation as server-sent events."""
    told, is_first = Told(), True
    try:
        async with aclosing(running.chunks()) as chunks:
            async for chunk, shown in chunks:
                told = Told()
                told.add(chunk, shown)
                if not told.is_nothing:
                    yield event(running.answer.part(told, is_first=is_first))
                    is_first = False
    except Refusal as refusal:  # the head of the answer is sent already
        yield event(refusal.to_json())
        return
    options = running.body.stream_options
    if options is not None and options.include_usage and told.usage is not None:
        yield event(running.answer.usage(told.usage))
    yield DONE, {}
