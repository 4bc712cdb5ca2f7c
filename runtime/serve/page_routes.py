"""The page at / and what it asks for beside OpenAI's API: the lenses, the words of a prompt, what a recording holds.

The page itself holds nothing of host or pack, so it comes without a token, and asks for one where it is wanted.
"""

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from lenses.errors import PromptError, RecordingError
from lenses.pack import LensPack
from runtime.page.contents import page_contents, start_contents
from runtime.page.live import format_live_page
from runtime.recording.recording import SUFFIX, Recording
from runtime.recording.replay import Replay
from runtime.serve.ask import TokenizeBody
from runtime.serve.catalogue import Catalogue
from runtime.serve.refusal import Refusal
from runtime.serve.service import Service
from runtime.serve.wire import CountedJson, Part
from runtime.session import Pace
from runtime.transcript import TextPieces, Transcript
from runtime.wording import special_name, visible

_HEADERS = {
    "Content-Security-Policy": "frame-ancestors 'none'",  # the rest is in the page; this cannot be
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
_NAMED = 1000
"""Special tokens whose names are told; a host may have thousands that it never writes."""


def routes(catalogue: Catalogue) -> APIRouter:
    """The routes; none of them is part of the API, and all are about the first model."""
    service = catalogue.first
    router = APIRouter(include_in_schema=False)
    document = format_live_page().encode()
    start = Part.of("ids", _start(service))
    tokenizer = service.scheduler.host.tokenizer

    @router.get("/")
    async def page() -> Response:
        return Response(document, media_type="text/html", headers=_HEADERS)

    @router.get("/page/start")
    async def begin() -> Response:
        return CountedJson(start, service.ledger)

    @router.post("/page/words")
    async def words(body: TokenizeBody) -> Response:
        if body.messages is not None:
            ids = await service.tokens.chat([message.to_template() for message in body.messages])
        else:
            ids = await service.tokens.prompt(body.prompt or "")
        most = service.scheduler.config.max_context
        if len(ids) > most:
            raise PromptError(f"the prompt has {len(ids):,} tokens, the context is of {most:,}; shorten it")
        return CountedJson(Part.of("text", await asyncio.to_thread(_words, tokenizer, ids)), service.ledger)

    @router.post("/page/recording")
    async def recording(http: HttpRequest) -> Response:
        contents = await asyncio.to_thread(_recorded, await http.body(), service.pack)
        return CountedJson(Part.of("text", contents), service.ledger)

    return router


def _start(service: Service) -> dict[str, Any]:
    tokenizer, config = service.scheduler.host.tokenizer, service.scheduler.config
    special = [id for id, token in tokenizer.added_tokens_decoder.items() if token.special][:_NAMED]
    contents = start_contents(service.pack, title=f"{service.name} · lenses {service.pack.name}")
    return contents | {
        "special": {id: special_name(tokenizer, id) for id in special},
        "server": {
            "model": service.name,
            "has_chat": getattr(tokenizer, "chat_template", None) is not None,
            "new_tokens": min(service.limits.new_tokens, config.max_context),
            "context": config.max_context,
        },
    }


def _words(tokenizer: Any, ids: list[int]) -> dict[str, Any]:
    """As a page's contents have them."""
    pieces = TextPieces(tokenizer)
    texts = [pieces.add(id) for id in ids]
    return {
        "tokens": ids,
        "words": [visible(text) for text in texts],
        "marks": {at: special_name(tokenizer, id) for at, id in enumerate(ids) if not texts[at]},
    }


def _recorded(raw: bytes, pack: LensPack) -> dict[str, Any]:
    """The page's contents of a recording's first sequence, which the served pack must have scored; raises Refusal."""
    with TemporaryDirectory() as directory:
        path = Path(directory) / f"recording{SUFFIX}"
        path.write_bytes(raw)
        try:
            recording = Recording.load(path)
            source = Replay(recording, pack)
            of = recording.sequences[0]
            transcript, pace = Transcript(recording.tokenizer, of.read[: of.prompt]), Pace(source.clock_s)
            for event in source.events():
                if event.sequence == of.number:
                    pace(event)
                    transcript.add(event)
        except RecordingError as error:
            said = str(error).replace(str(path), "the file")
            raise Refusal(400, said, code="no_recording") from None
    about = recording.about
    return page_contents(
        source,
        transcript,
        title=f"{about.host.id} · lenses {pack.name} · recorded {about.date[:10]}",
        pace=pace,
        facts=[("recorded", about.date), ("phoropter", about.versions.get("phoropter", "unknown"))],
        tracks=(),
        alarms=None,
    )
