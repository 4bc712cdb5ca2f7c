"""One request on its way: tokens to feed, rows to read, a draw, a chunk."""

from time import monotonic
from typing import Any

import torch

from runtime.events import Event
from runtime.reading import Reader
from runtime.rows import Row
from runtime.rows import Sequence as RowSequence
from runtime.serve.request import Chunk, Finish, Request, Usage
from runtime.serve.sampling import Sampler, logprobs
from runtime.serve.sessions import Session
from runtime.serve.stream import Stream
from runtime.serve.text import TextOut


class Generation:
    """What the engine knows of a request. `sequence` is what the lenses know of it, and None where nobody watches."""

    def __init__(
        self,
        request: Request,
        stream: Stream,
        tokenizer: Any,
        eos_tokens: frozenset[int],
        session: Session | None,
    ) -> None:
        self.request, self.stream, self.session = request, stream, session
        self.slot = -1
        """Where its keys and values are; -1 while it waits."""
        self.sequence: RowSequence | None = None
        self.todo = [*(session.pending if session else ()), *request.token_ids]
        """Tokens that the host has not read: the prompt's, then the one drawn last."""
        self._prompt_tokens = len(self.todo)
        self.is_prompt = True
        """Whether `todo` is the prompt's."""
        self.prompt_events: list[Event] = []
        self.drawn: list[int] = []
        self._sampler = Sampler(request.sampling)
        self._text = TextOut(tokenizer, request.stop)
        self._tokenizer, self._eos_tokens = tokenizer, eos_tokens
        self._kept = session.length if session else 0
        self._due_s = None if request.deadline_s is None else monotonic() + request.deadline_s
        self._last: Row | None = None
        self._is_first = True
        self._is_over = False

    @property
    def seed(self) -> int:
        """Of its draws."""
        return self._sampler.seed

    @property
    def is_due(self) -> bool:
        """Whether its time is over."""
        return self._due_s is not None and monotonic() >= self._due_s

    def feed(self, tokens: int, bos_token: int | None) -> list[Row]:
        """The host has read so many tokens of `todo`: the rows that came of it, in order; none where nobody watches."""
        fed, after = self.todo[:tokens], self.todo[tokens : tokens + 1]
        self.todo = self.todo[tokens:]
        if self.sequence is None:
            return []
        wishes = self.request.lenses
        rows = []
        for token, next_token in zip(fed, [*fed[1:], *(after or [None])], strict=True):
            at = self.sequence.length
            is_bos = at == 0 and token == bos_token
            row = Row(
                self.sequence,
                at,
                "prompt" if self.is_prompt else "generation",
                token,
                "bos" if is_bos else "ok",
            )
            row.predicts, row.next_token = next_token is None, next_token
            row.is_wanted = wishes is not None and (row.predicts or wishes.prompt)
            self.sequence.length += 1
            rows.append(row)
        self._last = rows[-1] if rows[-1].predicts else None
        return rows

    def tell_prompt(self, rows: list[Row], reader: Reader) -> None:
        """Keep the events of prompt rows that were asked for and predict nothing that is drawn."""
        if self.request.lenses is not None and self.request.lenses.prompt:
            self.prompt_events += [reader.event(row) for row in rows if not row.predicts]

    def draw(self, logits_V: torch.Tensor, reader: Reader | None, room: int) -> Chunk:
        """Draw a token from logits in fp32: what there is to tell. `room`: tokens that the sequence may yet have."""
        self.is_prompt = False
        token = self._sampler.draw(logits_V)
        self.drawn.append(token)
        self.todo = [token]
        chunk = Chunk(token=token)
        if self.request.logprobs is not None:
            chunk.logprob, chunk.top_logprobs = logprobs(
                logits_V, token, self.request.logprobs, self._tokenizer
            )
        if self._last is not None:
            self._last.next_token = token
            if self.request.lenses is not None and reader is not None:
                chunk.event = reader.event(self._last)
        is_end = token in self._eos_tokens
        if is_end:
            self.todo = []  # a turn that follows says itself how the last one ended
        else:
            chunk.text = self._text.push(token)
        finish: Finish | None = None
        if is_end or self._text.is_stopped:
            finish = "stop"
        elif self.sequence is not None and self.sequence.is_stopped:
            finish = "rule"
        elif len(self.drawn) >= self.request.max_new_tokens or room <= 1:
            finish = "length"
        return self._chunk(chunk, finish)

    def end(self, finish: Finish, detail: str = "") -> Chunk:
        """The last chunk of a request that ends where it is."""
        return self._chunk(Chunk(detail=detail), finish)

    def tell(self, chunk: Chunk) -> None:
        """Hand a chunk to the reader, and nothing after the last one."""
        if not self._is_over:
            self._is_over = chunk.finish is not None
            self.stream.put(chunk)

    def _chunk(self, chunk: Chunk, finish: Finish | None) -> Chunk:
        if self._is_first:
            self._is_first = False
            chunk.prompt_events = tuple(self.prompt_events)
        if finish is None:
            return chunk
        if not self._text.is_stopped:
            chunk.text += self._text.rest()
        chunk.finish = finish
        if finish == "rule" and chunk.event is not None:
            chunk.detail = "; ".join(str(met.rule) for met in chunk.event.stopped_by)
        chunk.usage = Usage(self._prompt_tokens, self._kept, len(self.drawn), self.stream.dropped_events)
        return chunk
