"""A client of a server through httpx: whole answers, server-sent events, bytes counted at the socket."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpcore
import httpx

Record = dict[str, Any]
TIMEOUT_S = 600.0


@dataclass(slots=True)
class Traffic:
    """Bytes of some connections."""

    sent: int = 0
    received: int = 0

    def since(self, before: "Traffic") -> "Traffic":
        """What came after another look."""
        return Traffic(self.sent - before.sent, self.received - before.received)

    @property
    def total(self) -> int:
        """Both ways."""
        return self.sent + self.received


class Client:
    """One client, one connection at a time."""

    def __init__(self, url: str) -> None:
        self._traffic = Traffic()
        transport = httpx.HTTPTransport()
        transport.close()
        # httpx has no other way to a network of one's own.
        transport._pool = httpcore.ConnectionPool(
            max_connections=1, network_backend=_CountedNetwork(self._traffic)
        )
        self._http = httpx.Client(base_url=url, transport=transport, timeout=TIMEOUT_S)

    @property
    def traffic(self) -> Traffic:
        """Bytes so far."""
        return Traffic(self._traffic.sent, self._traffic.received)

    def events(self, path: str, body: Record) -> Iterator[Record]:
        """Each server-sent event's JSON as it comes; raises httpx.HTTPError."""
        with self._http.stream("POST", path, json=body) as response:
            if response.is_error:
                response.read()
            response.raise_for_status()
            held = b""
            for raw in response.iter_raw():
                *whole, held = (held + raw).split(b"\n\n")
                for event in whole:
                    said = event.removeprefix(b"data: ")
                    if said != b"[DONE]":
                        yield json.loads(said)

    def send(self, path: str, body: bytes) -> bytes:
        """The answer to some bytes; raises httpx.HTTPError."""
        response = self._http.post(path, content=body)
        response.raise_for_status()
        return response.content

    def get(self, path: str) -> Any:
        """A JSON answer; raises httpx.HTTPError."""
        return self._http.get(path).raise_for_status().json()

    def text(self, path: str) -> str:
        """An answer as text; raises httpx.HTTPError."""
        return self._http.get(path).raise_for_status().text

    def post(self, path: str, body: Record) -> Any:
        """The JSON answer to JSON; raises httpx.HTTPError."""
        return self._http.post(path, json=body).raise_for_status().json()

    def delete(self, path: str) -> None:
        """Remove something; raises httpx.HTTPError."""
        self._http.delete(path).raise_for_status()

    def close(self) -> None:
        """End the connection."""
        self._http.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _CountedNetwork(httpcore.SyncBackend):
    """Connections that count."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic

    def connect_tcp(self, *arguments: Any, **named: Any) -> httpcore.NetworkStream:
        """One of them."""
        return _CountedStream(super().connect_tcp(*arguments, **named), self._traffic)


class _CountedStream(httpcore.NetworkStream):
    """A connection whose bytes are counted as they pass."""

    def __init__(self, stream: httpcore.NetworkStream, traffic: Traffic) -> None:
        self._stream, self._traffic = stream, traffic

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read and count."""
        found = self._stream.read(max_bytes, timeout)
        self._traffic.received += len(found)
        return found

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Count and write."""
        self._traffic.sent += len(buffer)
        self._stream.write(buffer, timeout)

    def close(self) -> None:
        """End it."""
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        """As the connection says."""
        return self._stream.get_extra_info(info)
