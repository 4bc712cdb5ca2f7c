"""Many callers of a server in one event loop, as cheap as they can be: requests that are ready, bytes that come back.

Each caller has a connection of its own, kept open. What httpx does with a request takes longer than a small server
does; so many callers of it would measure the client.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

Record = dict[str, Any]

_HEAD_END = b"\r\n\r\n"
_LIMIT = 1 << 24


def request(path: str, body: bytes, *, kind: str, accept: str = "*/*", announced: int | None = None) -> bytes:
    """A POST as bytes; `announced`: what it says of its length, where that is a lie."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nAccept: {accept}\r\n"
        f"Content-Length: {len(body) if announced is None else announced}\r\n\r\n"
    )
    return head.encode() + body


def delete(path: str) -> bytes:
    """A DELETE as bytes."""
    return f"DELETE {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def json_request(path: str, body: Record) -> bytes:
    """A POST of JSON as bytes."""
    return request(path, json.dumps(body).encode(), kind="application/json")


class Refused(Exception):  # it is no error of ours, and is counted
    """The server said no, with this status."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"{status}: {body[:200].decode(errors='replace')}")
        self.status = status


class Caller:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, url: str, **options: Any) -> "Caller":
        """Connect; raises OSError."""
        there = urlsplit(url)
        return cls(*await asyncio.open_connection(there.hostname, there.port, limit=_LIMIT, **options))

    async def call(self, raw: bytes) -> bytes:
        """The body of the answer to a request; raises Refused, and OSError or EOFError where the connection ends."""
        self.writer.write(raw)
        status, headers = await self._head()
        body = await self.reader.readexactly(int(headers[b"content-length"]))
        if status != 200:
            raise Refused(status, body)
        return body

    async def events(self, raw: bytes) -> AsyncIterator[bytes]:
        """Each server-sent event's data as it comes; raises as `call` does."""
        self.writer.write(raw)
        status, headers = await self._head()
        if status != 200:
            raise Refused(status, await self.reader.readexactly(int(headers.get(b"content-length", 0))))
        held = b""
        while size := int((await self.reader.readline()).strip() or b"0", 16):
            chunk = await self.reader.readexactly(size + 2)
            *whole, held = (held + chunk[:-2]).split(b"\n\n")
            for event in whole:
                said = event.removeprefix(b"data: ")
                if said != b"[DONE]":
                    yield said
        await self.reader.readline()

    async def close(self) -> None:
        """End it, as a client does who is done."""
        self.writer.close()
        with suppress(OSError):  # the server was faster
            await self.writer.wait_closed()

    async def _head(self) -> tuple[int, dict[bytes, bytes]]:
        head = await self.reader.readuntil(_HEAD_END)
        first, *lines = head.split(b"\r\n")
        headers = dict(line.lower().split(b": ", 1) for line in lines if line)
        return int(first.split(b" ")[1]), headers


@dataclass(frozen=True, slots=True)
class Load:
    """What some callers got done."""

    calls: int
    seconds: float
    latency_ms: tuple[float, ...]
    bodies: tuple[tuple[int, bytes], ...]
    """The first answer of each caller, by its number."""

    @property
    def per_s(self) -> float:
        """Throughput."""
        return self.calls / self.seconds


async def load(callers: list[Caller], requests: list[bytes], seconds: float) -> Load:
    """Every caller asks its own request again as soon as it is answered, for so long; all begin at once."""
    latency_ms: list[float] = []
    bodies: list[tuple[int, bytes]] = []
    began_s = perf_counter()
    due_s = began_s + seconds

    async def ask(number: int) -> None:
        is_first = True
        while is_first or perf_counter() < due_s:
            asked_s = perf_counter()
            body = await callers[number].call(requests[number])
            latency_ms.append(1e3 * (perf_counter() - asked_s))
            if is_first:
                bodies.append((number, body))
                is_first = False

    await asyncio.gather(*map(ask, range(len(callers))))
    return Load(len(latency_ms), perf_counter() - began_s, tuple(latency_ms), tuple(bodies))
