"""Health, readiness, counters, bytes by cause, and the end of a server."""

import json
import logging
import socket
from dataclasses import replace
from threading import Event
from time import sleep
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest
import torch

from lenses.errors import EngineFailed
from lenses.pack import LensPack
from runtime.host import Host
from runtime.known import KnownScores, record
from runtime.serve.health import Health
from runtime.serve.ledger import CAUSES
from runtime.serve.limits import Limits
from runtime.serve.scheduler import Progress
from tests import hosts
from tests.runtime.serve.conftest import Served, expect, serving

BODY: dict[str, Any] = {"prompt": "the dog", "max_tokens": 4, "temperature": 0}


def test_health_is_judged_by_progress(served: Served) -> None:
    now = 0.0
    still: Progress = replace(served.service.scheduler.progress, waiting=0, running=0, paused=0, failure=None)
    at = still
    health = Health(lambda: at, stall_s=30, clock=lambda: now)
    now = 1000.0
    assert health.problem() is None  # nothing to do for a long time
    at = replace(still, waiting=2, running=1)
    now = 1029.0
    assert health.problem() is None
    now = 1031.0
    assert health.problem() == "nothing has moved for 31 s while 2 requests wait and 1 run"
    at = replace(at, steps=at.steps + 1)
    assert health.problem() is None
    at = replace(at, waiting=0, running=1, paused=1)
    now = 2000.0
    assert health.problem() is None  # it is the reader who does not move
    at = replace(at, failure="out of memory")
    assert health.problem() == "the engine has ended: out of memory"


def test_a_server_that_stands_still_says_so(pack: LensPack) -> None:
    with serving(pack, limits=Limits(stall_s=0.2)) as served:
        expect(lambda: served.http.get("/ready").status_code == 200)
        gate = Event()
        scheduler = served.service.scheduler
        step = scheduler._advance

        def gated(*arguments: Any) -> None:
            gate.wait(10)
            step(*arguments)

        scheduler._advance = gated  # type: ignore[method-assign]
        with served.http.stream("POST", "/v1/completions", json=BODY | {"stream": True}) as answer:
            expect(lambda: served.http.get("/health").status_code == 503)
            assert "nothing has moved" in served.http.get("/health").json()["detail"]
            gate.set()
            answer.read()
        assert served.http.get("/health").json() == {"status": "ok"}


def test_a_server_ends_when_its_engine_does(pack: LensPack) -> None:
    with serving(pack) as served:
        expect(lambda: served.http.get("/ready").status_code == 200)

        def broken(*_: Any) -> None:
            raise RuntimeError("a wire is loose")

        served.service.scheduler._advance = broken  # type: ignore[method-assign]
        statuses = set()
        for _ in range(3):
            try:
                statuses.add(served.http.post("/v1/completions", json=BODY).status_code)
            except httpx.TransportError:
                break
        assert statuses <= {500, 429}
        expect(lambda: bool(served.failures))
    assert isinstance(served.failures[0], EngineFailed)
    assert "a wire is loose" in str(served.failures[0])


def test_an_error_in_a_stream_is_told_in_it(pack: LensPack) -> None:
    with serving(pack) as served:
        expect(lambda: served.http.get("/ready").status_code == 200)
        scheduler = served.service.scheduler
        step, left = scheduler._advance, [3]

        def breaks_once(*arguments: Any) -> None:
            left[0] -= 1
            step(*arguments)
            if left[0] == 0:
                raise RuntimeError("a wire was loose")

        scheduler._advance = breaks_once  # type: ignore[method-assign]
        with pytest.raises(openai.APIError, match="a wire was loose"):
            list(
                served.client.completions.create(
                    model="tiny/host", stream=True, **(BODY | {"max_tokens": 50})
                )
            )
        assert served.http.post("/v1/completions", json=BODY).status_code == 200
        assert served.http.get("/health").status_code == 200


def test_ready_when_a_known_text_is_scored_as_it_was(pack: LensPack, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(hosts.gemma3(), hosts.tokenizer(), "tiny/host", None)
    with torch.inference_mode():
        known = record(host.model, host.tokenizer, pack)
    off = replace(known, logits={id: logit + 1.0 for id, logit in known.logits.items()})
    for recorded, status in ((known, 200), (off, 503)):
        monkeypatch.setattr(KnownScores, "of", lambda _, recorded=recorded: recorded)
        with serving(pack, host=host) as served:
            expect(lambda: served.service.readiness is not None)  # called at once
            answer = served.http.get("/ready")
            assert answer.status_code == status
            assert "12 recorded logits" in answer.json()["known_scores"]
            assert answer.json()["pack"] == pack.identity


def test_what_is_counted_moves(served: Served) -> None:
    def numbers() -> dict[str, float]:
        lines = served.http.get("/metrics").text.splitlines()
        return {
            name: float(value)
            for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")
        }

    before = numbers()
    served.http.post("/v1/completions", json=BODY | {"lenses": {}})
    served.http.post("/v1/completions", json=BODY | {"n": 2})
    after = numbers()
    moved = {name: value - before.get(name, 0.0) for name, value in after.items()}
    assert moved['phoropter_requests_total{route="/v1/completions",status="200"}'] == 1
    assert moved['phoropter_requests_total{route="/v1/completions",status="400"}'] == 1
    assert moved['phoropter_generations_total{finish="length"}'] == 1
    assert moved['phoropter_tokens_total{kind="prompt"}'] == 3
    assert moved['phoropter_tokens_total{kind="completion"}'] == 4
    assert moved['phoropter_drawn_tokens_total{model="tiny/host"}'] == 4
    assert moved['phoropter_positions_total{model="tiny/host"}'] == 4
    assert moved['phoropter_steps_total{model="tiny/host"}'] >= 3, "the last is counted when it is over"
    assert moved["phoropter_first_token_seconds_count"] == 1
    assert moved['phoropter_families_total{model="tiny/host",phase="generation",tier="hot"}'] > 0
    assert moved['phoropter_sent_bytes_total{cause="events"}'] > 100
    assert moved["phoropter_received_bytes_total"] > 100
    for name in ("waiting", "running", "paused", "sessions", "kv_parked_bytes", "step_seconds", "up"):
        assert f'phoropter_{name}{{model="tiny/host"}}' in after


def test_every_byte_is_of_a_cause(served: Served) -> None:
    """Counted at this end of the connection as well."""
    body = json.dumps(
        BODY | {"stream": True, "logprobs": 1, "lenses": {"vectors": True, "track": ["animal"]}}
    )
    ledger = served.service.ledger
    before, before_total = ledger.by_cause(), ledger.total
    where = urlsplit(served.url)
    with socket.create_connection((where.hostname or "", where.port or 0), timeout=10) as client:
        client.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body.encode())
        )
        raw = b"".join(iter(lambda: client.recv(1 << 16), b""))
    after = ledger.by_cause()
    moved = {cause: after[cause] - before[cause] for cause in after}
    assert ledger.total - before_total == sum(moved.values()) == len(raw)
    told = [
        json.loads(line[6:])["choices"][0] for line in raw.decode().splitlines() if line.startswith("data: {")
    ]
    assert moved["text"] == sum(len(json.dumps(one["text"])) for one in told)
    vectors = [entry["vector"] for one in told for entry in one["lenses"]["content"]]
    assert moved["vectors"] == sum(map(len, vectors)) + 2 * len(vectors)
    assert moved["ids"] == len(json.dumps(told[0]["lenses"]["concepts"], separators=(",", ":")))
    assert moved["scores"] == 0
    assert all(moved[cause] > 0 for cause in CAUSES if cause != "scores")
    assert moved["framing"] > 100 * len(told)


@pytest.mark.parametrize("log_prompts", [True, False])
def test_prompts_are_logged_where_that_is_asked_for_alone(
    pack: LensPack, log_prompts: bool, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "violin house violin"
    with serving(pack, log_prompts=log_prompts) as served:
        for body in (
            BODY | {"prompt": secret},
            BODY | {"prompt": secret, "max_tokens": 99},
            BODY | {"prompt": secret, "unknown": secret},
            {"prompt": [secret, secret]},
            {"messages": [{"role": secret, "content": secret}]},
        ):
            served.http.post("/v1/completions", json=body)
            served.http.post("/v1/chat/completions", json=body)
        said = "".join(record.getMessage() for record in caplog.records) + "".join(capfd.readouterr())
    assert (secret in said) == log_prompts
    assert "cmpl-" in said


def test_those_who_are_served_have_a_grace(pack: LensPack) -> None:
    """A stream that is longer than that is told that the server closes."""
    with serving(pack, grace_s=0.3) as served:
        expect(lambda: served.http.get("/ready").status_code == 200)
        scheduler = served.service.scheduler
        step = scheduler._advance

        def slowed(*arguments: Any) -> None:
            sleep(0.05)
            step(*arguments)

        scheduler._advance = slowed  # type: ignore[method-assign]
        with served.http.stream(
            "POST", "/v1/completions", json=BODY | {"stream": True, "max_tokens": 90}
        ) as answer:
            lines = answer.iter_lines()
            next(lines)
            served.server.stop()
            rest = [line for line in lines if line]
        assert len(rest) > 2
        assert "the server closes" in rest[-1]
    assert not served.failures
