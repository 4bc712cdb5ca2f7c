"""Runs an app on a socket until it is told to end, or the engine ends; the only file that knows uvicorn.

Bytes are counted here, where sockets take and give them.
"""

import asyncio
import ipaddress
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from lenses.errors import ConfigError, EngineFailed
from runtime.serve.catalogue import Catalogue
from runtime.serve.ledger import Ledger

HEAD_BYTES = 64 * 2**10
"""Of a request's head at the most; who sends more is cut off."""
KEEP_ALIVE_S = 75
"""How long a connection without a request is kept: longer than clients keep theirs, so that they close it."""
SEND_BYTES = 128 * 2**10
"""What the system may hold of a connection's answers: left alone it takes megabytes, thousands of messages, from a
generation whose reader has stopped reading, and nobody would know."""
_LOOK_S = 0.25


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server at this address; False for a name that is not `localhost`."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bind(host: str, port: int) -> socket.socket:
    """A socket at this address, 0 for any free port; raises ConfigError where there can be none."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"host {host!r} is no address of this machine; give one, such as 127.0.0.1"
        ) from error
    bound = socket.socket(family, kind, protocol)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)  # of its connections too
    try:
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise ConfigError(
            f"{host} port {port} cannot be had ({error.strerror}); give another with --port, 0 takes a free one"
        ) from error
    return bound


class Server:
    """One app on one socket. `run` serves until it is told to end and has told all who are served."""

    def __init__(
        self, app: FastAPI, catalogue: Catalogue, bound: socket.socket, *, grace_s: float = 10.0
    ) -> None:
        self._catalogue, self._bound, self._grace_s = catalogue, bound, grace_s
        ledger = catalogue.ledger

        class Protocol(_CountedProtocol):
            def __init__(self, *arguments: Any, **named: Any) -> None:
                super().__init__(*arguments, **named)
                self.ledger = ledger

        self._uvicorn = _Uvicorn(
            uvicorn.Config(
                app,
                http=Protocol,
                ws="none",
                lifespan="on",
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=int(grace_s) + 10,
            )
        )

    @property
    def url(self) -> str:
        """Where it is."""
        host, port = self._bound.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def is_started(self) -> bool:
        """Whether it takes requests."""
        return self._uvicorn.started

    def run(self) -> None:
        """Serve; raises EngineFailed, and KeyboardInterrupt where Ctrl-C ended it."""
        with asyncio.Runner(loop_factory=self._uvicorn.config.get_loop_factory()) as runner:
            runner.run(self._serve())
        failure = self._catalogue.failure
        if failure is not None:
            raise EngineFailed(f"the engine has ended: {failure}; start the server again")
        if self._uvicorn.interrupted:
            raise KeyboardInterrupt

    def stop(self) -> None:
        """End: those who are served have the grace to finish. From any thread."""
        self._uvicorn.should_exit = True

    async def _serve(self) -> None:
        watching = asyncio.create_task(self._watch())
        try:
            await self._uvicorn.serve(sockets=[self._bound])
        finally:
            watching.cancel()

    async def _watch(self) -> None:
        """End when the engine has; when all is to end, end what is still generated after the grace."""
        while not self._uvicorn.should_exit:
            if self._catalogue.failure is not None:
                self.stop()
            await asyncio.sleep(_LOOK_S)
        await asyncio.sleep(self._grace_s)
        await asyncio.to_thread(self._catalogue.end_engines)


class _Uvicorn(uvicorn.Server):
    """uvicorn's server, which ends at a signal without sending it to itself once more when all is done."""

    interrupted = False

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Where this is the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {which: signal.signal(which, self._end) for which in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for which, handler in before.items():
                signal.signal(which, handler)

    def _end(self, which: int, _: object) -> None:
        self.force_exit = self.should_exit and which == signal.SIGINT  # a second Ctrl-C does not wait
        self.should_exit = True
        self.interrupted |= which == signal.SIGINT


class _CountedProtocol(HttpToolsProtocol):
    """One connection, its bytes counted."""

    ledger: Ledger
    _in_head = _head_began = False
    _header_bytes = _later_bytes = 0
    """Of the head that is coming: of its whole headers, and of what came after the piece that it began in."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the transport through which bytes are counted."""
        super().connection_made(_CountedTransport(transport, self.ledger))  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        """Count, and cut off who sends a head without end."""
        self.ledger.received += len(data)
        self._head_began = False
        super().data_received(data)
        if self._in_head:
            self._later_bytes += 0 if self._head_began else len(data)
            if max(self._header_bytes, self._later_bytes) > HEAD_BYTES:
                self.transport.close()

    def on_message_begin(self) -> None:
        """A head begins."""
        self._in_head = self._head_began = True
        self._header_bytes = self._later_bytes = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header of it."""
        self._header_bytes += len(name) + len(value)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is over; what comes is a body, whose size is looked at elsewhere."""
        self._in_head = False
        super().on_headers_complete()


class _CountedTransport:
    """A transport whose writes are counted."""

    def __init__(self, transport: asyncio.Transport, ledger: Ledger) -> None:
        self._transport, self._ledger = transport, ledger

    def write(self, data: bytes) -> None:
        """Write and count."""
        self._ledger.total += len(data)
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
