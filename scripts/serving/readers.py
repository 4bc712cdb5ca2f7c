"""One stream, read as fast as it comes or at a pace: a reader that takes pauses. Nothing is parsed while time is taken.

Sockets hide what is behind: a slow reader's own buffer is small, so that the server feels it as soon as it can.
"""

import json
import socket
import time
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter
from urllib.parse import urlsplit

from serving.calls import Record, json_request

_SMALL_BUFFER = 4096
_READ_AHEAD = 4096
_DONE = b"[DONE]"


@dataclass(frozen=True, slots=True)
class Pace:
    """How a slow reader reads: so many bytes, then a pause."""

    bytes: int
    pause_s: float

    @classmethod
    def of(cls, size: int, seconds: float, share: float) -> "Pace":
        """A share of the speed at which `size` bytes came in so many seconds, with at least eight pauses."""
        piece = min(1 << 14, max(1, size // 8))
        return cls(piece, piece / size * seconds / share)


@dataclass(frozen=True)
class Read:
    """A stream that was read to its end."""

    raw: tuple[bytes, ...]
    """Each event's data."""
    arrived_ms: tuple[float, ...]
    """From asking to each event."""
    total_ms: float
    received: int
    """Bytes, head of HTTP and all."""

    @cached_property
    def messages(self) -> list[Record]:
        """The events."""
        return [json.loads(one) for one in self.raw]


def read_stream(url: str, path: str, body: Record, pace: Pace | None = None) -> Read:
    """Ask, and read to the end; raises OSError where the server says anything but 200."""
    there = urlsplit(url)
    raw: list[bytes] = []
    arrived_s: list[float] = []
    with socket.socket() as connection:
        if pace is not None:  # before it connects, or it is too late
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER)
        connection.connect((there.hostname, there.port))
        asked_s = perf_counter()
        connection.sendall(json_request(path, body))
        with connection.makefile("rb", buffering=_READ_AHEAD) as file:
            received = len(line := file.readline())
            if line.split(b" ")[1] != b"200":
                raise OSError(f"the server said {line.decode().strip()}: {file.read(500)!r}")
            while line not in (b"\r\n", b""):
                line = file.readline()
                received += len(line)
            since_pause = 0
            while size := int((line := file.readline()).strip() or b"0", 16):
                chunk = file.read(size + 2)
                said = chunk[:-4].removeprefix(b"data: ")  # each chunk is an event
                if said != _DONE:
                    raw.append(said)
                    arrived_s.append(perf_counter())
                received += len(line) + len(chunk)
                since_pause += len(line) + len(chunk)
                if pace is not None and since_pause >= pace.bytes:
                    time.sleep(since_pause // pace.bytes * pace.pause_s)
                    since_pause %= pace.bytes
            received += len(line) + len(file.readline())
            ended_s = perf_counter()
    arrived_ms = tuple(1e3 * (one - asked_s) for one in arrived_s)
    return Read(tuple(raw), arrived_ms, 1e3 * (ended_s - asked_s), received)
