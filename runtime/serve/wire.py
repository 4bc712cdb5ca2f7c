"""Messages as bytes: JSON of parts that are ready, each counted under its cause, and server-sent events.

An event of server-sent events is one `data:` line and has no name: names of our own break OpenAI's clients.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from runtime.serve.ledger import Cause, Ledger

T = TypeVar("T")
Counts = Mapping[Cause, int]
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Part:
    """JSON that is ready, and what it is for."""

    cause: Cause
    raw: bytes

    @classmethod
    def of(cls, cause: Cause, value: object) -> "Part":
        """The part of a plain value."""
        return cls(cause, to_json(value))


def to_json(value: object) -> bytes:
    """Compact JSON; raises ValueError for numbers that JSON has not."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def join(tree: Any, counts: Counter[Cause]) -> bytes:
    """JSON of dicts, lists and plain values, with parts and tuples of parts among them, whose bytes are counted."""
    match tree:
        case Part():
            counts[tree.cause] += len(tree.raw)
            return tree.raw
        case dict():
            return b"{" + b",".join(to_json(key) + b":" + join(tree[key], counts) for key in tree) + b"}"
        case tuple():  # what follows each other without anything in between
            return b"".join(join(one, counts) for one in tree)
        case list():
            return b"[" + b",".join(join(one, counts) for one in tree) + b"]"
        case _:
            return to_json(tree)


def event(tree: Any) -> tuple[bytes, Counter[Cause]]:
    """One server-sent event, and its bytes by cause."""
    counts: Counter[Cause] = Counter()
    return b"data: " + join(tree, counts) + b"\n\n", counts


class CountedJson(Response):
    """A whole answer, counted when it was sent."""

    media_type = "application/json"

    def __init__(self, tree: Any, ledger: Ledger) -> None:
        self._counts: Counter[Cause] = Counter()
        self._ledger = ledger
        super().__init__(join(tree, self._counts))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        await super().__call__(scope, receive, send)
        self._ledger.add(self._counts)


class CountedBytes(Response):
    """An answer that is of one cause, counted when it was sent."""

    def __init__(self, raw: bytes, cause: Cause, ledger: Ledger, **arguments: Any) -> None:
        super().__init__(raw, **arguments)
        self._counts: Counter[Cause] = Counter({cause: len(raw)})
        self._ledger = ledger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        await super().__call__(scope, receive, send)
        self._ledger.add(self._counts)


class EventStream(Response):
    """Server-sent events as they come. Whoever leaves ends it at once, also while it waits for them to read."""

    media_type = "text/event-stream"

    def __init__(
        self,
        messages: AsyncGenerator[tuple[bytes, Counts], None],
        ledger: Ledger,
        on_end: Callable[[], None],
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        # Response counts the body that it was made with.
        del self.headers["content-length"]
        self._messages, self._ledger, self._on_end = messages, ledger, on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send what comes until it ends, or the client has gone."""
        try:
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            await while_here(receive, self._write(send))
        finally:  # here, because a generator that was never begun has no end either
            self._on_end()

    async def _write(self, send: Send) -> None:
        async with aclosing(self._messages) as messages:  # told at once when the client has gone
            async for raw, counts in messages:
                await send({"type": "http.response.body", "body": raw, "more_body": True})
                self._ledger.add(counts)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def while_here(receive: Receive, work: Awaitable[T]) -> T | None:
    """Do this while the client is there: its result, or None where they left before, when it was cancelled.

    The request's body must have been read. Raises what `work` raises, CancelledError where another has cancelled it.
    """

    async def leaving() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    working: asyncio.Future[T] = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(leaving())
    both: set[asyncio.Future[Any]] = {working, gone}
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
        left = not working.done()
        if left:
            working.cancel()
        await asyncio.wait(both)
    return None if left and working.cancelled() else working.result()
