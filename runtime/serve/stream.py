"""Chunks on their way from the engine's thread to one reader, at most so many: how slow readers are held.

The engine asks `is_full` before it works on a request again, so a reader who stops reading stops their own generation
and nobody else's. With the policy `drop-oldest` events beyond `EVENTS` are taken out of the chunks that wait, oldest
first; what alarms or meets a rule stays. Tokens and text are never dropped. Socket buffers hide thousands of messages,
so the bound is here, on what was not yet taken.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from threading import Lock

from runtime.events import Event
from runtime.serve.request import Chunk, EventPolicy

CHUNKS = 24
"""That may wait for a reader. An event holds all of its scores, some 5 KB of them with the travelling pack."""
EVENTS = 8
"""Of these that may have an event, where the oldest are dropped."""


class Stream:
    """One reader's chunks. Made in the reader's event loop; `put` is for the engine's thread."""

    def __init__(
        self,
        policy: EventPolicy = "block",
        is_loud: Callable[[Event], bool] = lambda _: False,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        """`is_loud` says which events are never dropped; `wake` is called when there is room again, or nobody reads."""
        self._policy, self._is_loud, self._wake = policy, is_loud, wake
        self._chunks: deque[Chunk] = deque()
        self._lock = Lock()
        self._loop = asyncio.get_running_loop()
        self._arrived = asyncio.Event()
        self._dropped = 0
        self.cancelled = False
        """The reader has gone: the engine ends the request at its next step."""
        self.dropped_events = 0

    @property
    def is_full(self) -> bool:
        """Whether the reader is so far behind that its request must wait."""
        return len(self._chunks) >= CHUNKS

    @property
    def has_room(self) -> bool:
        """Whether the reader has caught up enough for the request to go on."""
        return len(self._chunks) <= CHUNKS // 2

    def put(self, chunk: Chunk) -> None:
        """Hand one chunk over; never waits."""
        with self._lock:
            self._chunks.append(chunk)
            if self._policy == "drop-oldest":
                self._thin()
        try:
            self._loop.call_soon_threadsafe(self._arrived.set)
        except RuntimeError:  # the reader's event loop has ended, and the reader with it
            self.cancelled = True

    def cancel(self) -> None:
        """The reader leaves; idempotent."""
        if not self.cancelled:
            self.cancelled = True
            self._wake()

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        """Chunks until the last one, which has `finish`. Leaving early cancels the request."""
        try:
            while True:
                while (chunk := self._take()) is not None:
                    yield chunk
                    if chunk.finish is not None:
                        return
                await self._arrived.wait()
                self._arrived.clear()
        finally:
            self.cancel()

    def _take(self) -> Chunk | None:
        with self._lock:
            if not self._chunks:
                return None
            chunk = self._chunks.popleft()
            chunk.dropped, self._dropped = self._dropped, 0
            is_roomy = len(self._chunks) == CHUNKS // 2
        if is_roomy:
            self._wake()
        return chunk

    def _thin(self) -> None:
        quiet = [c for c in self._chunks if c.event is not None and not self._is_loud(c.event)]
        for chunk in quiet[: max(0, len(quiet) - EVENTS)]:
            chunk.event = None
            self._dropped += 1
            self.dropped_events += 1
