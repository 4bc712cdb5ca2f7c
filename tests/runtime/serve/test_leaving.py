"""Clients who go, wait, or read slowly: real sockets, closed in the middle."""

import json
import socket
from contextlib import ExitStack
from threading import Event
from typing import Any
from urllib.parse import urlsplit

import pytest

from lenses.pack import LensPack
from runtime.host import Host
from runtime.serve.config import ServeConfig
from tests import hosts
from tests.runtime.serve.conftest import Served, expect, serving

LONG: dict[str, Any] = {"prompt": "the dog", "max_tokens": 90, "temperature": 1}


def connect(served: Served, body: dict[str, Any], *, buffer: int | None = None) -> socket.socket:
    """A connection that has asked."""
    where = urlsplit(served.url)
    client = socket.socket()
    if buffer is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    assert where.hostname is not None
    client.settimeout(10)
    client.connect((where.hostname, where.port))
    raw = json.dumps(body).encode()
    client.sendall(
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(raw), raw)
    )
    return client


def is_idle(served: Served) -> bool:
    progress = served.service.scheduler.progress
    return not progress.waiting and not progress.running


@pytest.fixture
def slow(pack: LensPack) -> Any:
    """A server whose engine waits a little at every step."""
    with serving(pack, config=ServeConfig(max_sequences=4, max_context=100)) as one:
        expect(lambda: is_idle(one))
        gate = Event()
        scheduler = one.service.scheduler
        step = scheduler._advance

        def gated(*arguments: Any) -> None:
            gate.wait(0.02)
            step(*arguments)

        scheduler._advance = gated  # type: ignore[method-assign]
        yield one
        gate.set()


@pytest.mark.parametrize("stream", [True, False])
def test_who_leaves_is_not_generated_for(slow: Served, stream: bool) -> None:
    before = slow.service.scheduler.progress.tokens
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(slow, LONG | {"stream": stream})) for _ in range(6)]
        expect(lambda: slow.service.scheduler.progress.tokens > before + 8)
        for client in clients:
            if stream and client is not clients[-1]:  # the last one may still wait for a slot
                assert client.recv(15)
    expect(lambda: is_idle(slow))
    assert slow.service.scheduler.progress.tokens - before < 6 * 90 / 2
    assert slow.http.post("/v1/completions", json=LONG | {"max_tokens": 2}).status_code == 200


def test_who_does_not_read_holds_nobody_up_and_is_let_go(pack: LensPack) -> None:
    body = LONG | {"stream": True, "max_tokens": 900, "lenses": {"show": 21, "vectors": True}}
    host = Host(hosts.llama(max_position_embeddings=2048), hosts.tokenizer(), "tiny/host", None)
    with (
        serving(pack, host=host, config=ServeConfig(max_sequences=4, max_context=1000)) as served,
        connect(served, body, buffer=4096) as stalled,
    ):
        expect(lambda: served.service.scheduler.progress.paused == 1)
        assert served.http.post("/v1/completions", json=LONG | {"max_tokens": 3}).status_code == 200
        assert served.service.health.problem() is None
        stalled.close()
        expect(lambda: is_idle(served))


def test_events_are_dropped_as_declared_and_counted(pack: LensPack) -> None:
    wishes = {"show": 21, "vectors": True, "policy": "drop-oldest"}
    body = LONG | {"stream": True, "max_tokens": 260, "lenses": wishes}
    host = Host(hosts.llama(max_position_embeddings=2048), hosts.tokenizer(), "tiny/host", None)
    with (
        serving(pack, host=host, config=ServeConfig(max_sequences=4, max_context=1000)) as served,
        connect(served, body, buffer=4096) as late,
    ):
        expect(lambda: served.service.scheduler.progress.paused == 1)
        late.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)  # from now on it reads fast
        raw = bytearray()
        while not raw.endswith(b"0\r\n\r\n"):
            raw += late.recv(1 << 16)
        lines = [line[6:] for line in raw.decode().splitlines() if line.startswith("data: {")]
        told = [json.loads(line)["choices"][0] for line in lines]
        content = [entry for one in told for entry in one["lenses"]["content"]]
        missing = content.count(None)
        assert len(content) == 260
        assert missing > 0
        assert sum(one["lenses"].get("dropped", 0) for one in told) == missing
        assert told[-1]["lenses"]["coverage"]["dropped"] == missing
        assert told[-1]["lenses"]["coverage"]["entries"] == 260 - missing
        assert f"phoropter_events_dropped_total {missing}.0" in served.http.get("/metrics").text
