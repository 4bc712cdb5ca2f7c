"""Streams as clients have them in the wild: read to their end, left, reset, never begun; what they told is checked.

    finish   read to the end, and held against the rules of what must be in it
    vanish   closed after some events
    reset    the same, by a reset of the connection
    half     half a body is sent, then the connection is closed

A stream is whole where every position of it is in it: an entry with expected = scored + pending + failed, or a null
that `dropped` counts.
"""

import asyncio
import json
import socket
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from serving.asking import COMPLETIONS, SESSIONS
from serving.calls import Caller, Record, Refused, delete, json_request, request

Behaviour = Literal["finish", "vanish", "reset", "half"]
SHARES: dict[Behaviour, float] = {"finish": 0.6, "vanish": 0.2, "reset": 0.1, "half": 0.1}
_IN_SESSION = 0.2
_RETRY_S = 0.2
_MOST_EVENTS = 12
"""That somebody reads who leaves."""


@dataclass(slots=True)
class Seen:
    """What happened to the streams of all clients."""

    counts: Counter[str] = field(default_factory=Counter)
    entries: int = 0
    dropped: int = 0
    problems: list[str] = field(default_factory=list)
    """Of streams that were not whole."""


class Clients:
    """Clients that ask one server, each stream another one's turn at random."""

    def __init__(self, url: str, prompts: Sequence[str], new_tokens: int, seed: int) -> None:
        self._url, self._prompts, self._new_tokens = url, prompts, new_tokens
        self._random = np.random.default_rng(seed)
        self.seen = Seen()

    async def run(self, until_s: float) -> None:
        """One client: stream after stream until that time of the event loop."""
        loop = asyncio.get_running_loop()
        while loop.time() < until_s:
            behaviour = self._random.choice(list(SHARES), p=list(SHARES.values()))
            try:
                await self._stream(behaviour)
            except Refused as refused:
                self.seen.counts[f"refused, {refused.status}"] += 1
                await asyncio.sleep(_RETRY_S)
            except (OSError, EOFError) as error:
                self.seen.problems.append(f"{behaviour}: the connection ended ({type(error).__name__})")

    async def _stream(self, behaviour: Behaviour) -> None:
        caller = await Caller.open(self._url)
        try:
            await self._behave(caller, behaviour)
            self.seen.counts[behaviour] += 1
        finally:
            if behaviour == "reset":
                abort(caller)
            else:
                await caller.close()

    async def _behave(self, caller: Caller, behaviour: Behaviour) -> None:
        body = self._body()
        if behaviour == "half":
            raw = json.dumps(body).encode()
            caller.writer.write(
                request(COMPLETIONS, raw[: len(raw) // 2], kind="application/json", announced=len(raw))
            )
            await caller.writer.drain()
            return
        if self._random.random() < _IN_SESSION:
            body["session"] = json.loads(await caller.call(json_request(SESSIONS, {})))["id"]
            self.seen.counts["in a session"] += 1
        leaves_after = None if behaviour == "finish" else int(self._random.integers(0, _MOST_EVENTS))
        told: list[Record] = []
        async for raw in caller.events(json_request(COMPLETIONS, body)):
            message = json.loads(raw)
            if "error" in message:
                self.seen.counts["ended by an error"] += 1
                return
            told.append(message)
            if leaves_after is not None and len(told) > leaves_after:
                return
        self._check(told, prompt=body["lenses"]["prompt"])
        if "session" in body:
            await caller.call(delete(f"{SESSIONS}/{body['session']}"))

    def _body(self) -> Record:
        random = self._random
        return {
            "prompt": self._prompts[int(random.integers(len(self._prompts)))],
            "max_tokens": int(random.integers(1, self._new_tokens + 1)),
            "temperature": 0.8,
            "stream": True,
            "stream_options": {"include_usage": True},
            "lenses": {
                "show": 3,
                "prompt": bool(random.random() < 0.5),
                "policy": str(random.choice(["block", "drop-oldest"])),
            },
        }

    def _check(self, told: Sequence[Record], *, prompt: bool) -> None:
        problem, entries, dropped = check(told, prompt=prompt)
        self.seen.counts["read to the end"] += 1
        self.seen.entries += entries
        self.seen.dropped += dropped
        if problem is not None:
            self.seen.problems.append(problem)


def check(told: Sequence[Record], *, prompt: bool) -> tuple[str | None, int, int]:
    """What is missing in a stream that was read to its end; entries and nulls in it."""
    lenses = [message["choices"][0]["lenses"] for message in told if message["choices"]]
    usage = told[-1].get("usage")
    if not lenses or usage is None or "coverage" not in lenses[-1]:
        return "the last chunk is missing", 0, 0
    content = [entry for part in lenses for entry in part["content"]]
    before = lenses[0].get("prompt", [])
    entries = [entry for entry in (*before, *content) if entry is not None]
    nulls = len(content) - len(entries) + len(before)
    coverage = lenses[-1]["coverage"]
    declared = sum(part.get("dropped", 0) for part in lenses)
    start = usage["prompt_tokens"] - 1
    places = [(at, entry) for at, entry in enumerate(before)]
    places += [(start + at, entry) for at, entry in enumerate(content) if entry is not None]
    problem = None
    if len(content) != usage["completion_tokens"]:
        problem = f"{usage['completion_tokens']} tokens, {len(content)} entries"
    elif prompt and len(before) != start:
        problem = f"{start} positions of the prompt before the last, {len(before)} entries"
    elif not nulls == declared == coverage["dropped"]:
        problem = f"{nulls} nulls, {declared} and {coverage['dropped']} declared"
    elif coverage["entries"] != len(entries):
        problem = f"{len(entries)} entries, {coverage['entries']} declared"
    elif any(entry["position"] != at for at, entry in places):
        problem = "positions are not in order"
    elif any(not _adds_up(entry["coverage"]) for entry in entries):
        problem = "expected is not scored + pending + failed"
    return problem, len(entries), nulls


def _adds_up(coverage: Record) -> bool:
    found: int = coverage["scored"] + coverage["pending"] + coverage["failed"]
    return bool(coverage["expected"] == found)


def abort(caller: Caller) -> None:
    """End a connection by a reset."""
    raw: Any = caller.writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    caller.writer.transport.abort()
