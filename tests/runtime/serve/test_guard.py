"""Who may come in, how large a body may be, how often somebody may ask."""

import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest

from lenses.errors import ConfigError
from lenses.pack import LensPack
from runtime.serve.config import ServeConfig
from runtime.serve.guard import RateLimit
from runtime.serve.limits import Limits
from runtime.serve.server import HEAD_BYTES, bind, is_loopback
from tests.runtime.serve.conftest import Served, serving

BODY = {"prompt": "the dog", "max_tokens": 2}


@pytest.fixture(scope="module")
def guarded(pack: LensPack) -> Iterator[Served]:
    limits = Limits(body_bytes=20_000, prompt_tokens=20, new_tokens=50, body_s=0.3, score_rows=3)
    with serving(pack, token="open-sesame", limits=limits) as one:
        yield one


def test_every_route_but_health_wants_the_token(guarded: Served) -> None:
    document = guarded.http.get("/openapi.json").json()
    paths = [*document["paths"], "/openapi.json", "/nowhere"]
    assert "/metrics" in paths
    for header in (None, "Bearer open-sesam", "Bearer", "Basic open-sesame", "Bearer open-sesame x", "\xff"):
        headers = {"Authorization": "" if header is None else header.encode("latin-1")}
        for path in paths:
            answers = [
                guarded.http.request(method, path, headers=headers) for method in ("GET", "POST", "DELETE")
            ]
            if path == "/health":
                assert answers[0].status_code == 200
                continue
            assert {answer.status_code for answer in answers} == {401}, (path, header)
            assert answers[0].json()["error"]["code"] == "invalid_api_key"
            assert answers[0].headers["www-authenticate"] == "Bearer"
    assert guarded.client.completions.create(model="tiny/host", **BODY).choices[0].text
    with (
        openai.OpenAI(base_url=f"{guarded.url}/v1", api_key="wrong", max_retries=0) as wrong,
        pytest.raises(openai.AuthenticationError, match="wants its token"),
    ):
        wrong.models.list()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "localhost:8000"}, 200),
        ({"Host": "[::1]:8000"}, 200),
        ({"Host": "127.0.0.1", "Origin": "http://127.0.0.1"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_pages_of_others_cannot_use_a_server_without_a_token(
    served: Served, headers: dict[str, str], status: int
) -> None:
    assert served.http.post("/v1/tokenize", json={"prompt": "x"}, headers=headers).status_code == status


def test_a_body_may_be_so_large(guarded: Served) -> None:
    def pieces() -> Iterator[bytes]:  # of unknown length
        yield b'{"prompt": "'
        for _ in range(5):
            yield b"dog " * 2_000
        yield b'"}'

    kind = {"content-type": "application/json"}
    for content in (b'{"prompt": "' + b"x" * 30_000 + b'"}', pieces()):
        for path in ("/v1/completions", "/v1/lenses/score"):
            if isinstance(content, bytes) or path == "/v1/completions":
                answer = guarded.http.post(path, content=content, headers=kind)
                assert answer.status_code == 413, answer.text
                assert answer.json()["error"]["code"] == "body_too_large"


def test_a_body_must_come_in_time(guarded: Served) -> None:
    with _connection(guarded) as client:
        client.sendall(
            b"POST /v1/tokenize HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer open-sesame\r\n"
            b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        )
        assert client.recv(100).startswith(b"HTTP/1.1 408")


def _is_cut_off(client: socket.socket, line: bytes, times: int) -> bool:
    """Whether the server ends the connection; which error it is depends on the moment, a silent end is none."""
    try:
        for _ in range(times):
            client.sendall(line)
        return client.recv(1000) == b""
    except ConnectionError:  # a timeout would be none
        return True


def test_a_head_has_an_end(guarded: Served) -> None:
    with _connection(guarded) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n")
        assert _is_cut_off(client, b"x-long: " + b"x" * 990 + b"\r\n", 2 * HEAD_BYTES // 1000)
    assert guarded.http.get("/health").status_code == 200


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"prompt": "the dog " * 20}, "20 are allowed; shorten it"),
        ({"prompt": "the", "max_tokens": 51}, "50 are allowed; ask for less"),
    ],
)
def test_prompts_and_answers_may_be_so_long(guarded: Served, body: dict[str, Any], says: str) -> None:
    answer = guarded.http.post("/v1/completions", json=body)
    assert answer.status_code == 400
    assert says in answer.json()["error"]["message"]


def test_a_client_may_ask_so_often(pack: LensPack) -> None:
    with serving(pack, limits=Limits(rate_per_minute=3)) as served:
        answers = [served.http.get("/v1/models") for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 20
        assert answers[-1].json()["error"]["type"] == "rate_limit_error"
        assert served.http.get("/health").status_code == 200


def test_a_rate_is_of_each_client_and_fills_up_again() -> None:
    now = 0.0
    limit = RateLimit(lambda *_: None, per_minute=60, clock=lambda: now)  # type: ignore[arg-type, return-value]
    assert [limit._take("a") for _ in range(60)] == [0.0] * 60
    assert limit._take("a") == pytest.approx(1.0)
    assert limit._take("b") == 0.0
    now = 0.5
    assert limit._take("a") == pytest.approx(0.5)
    now = 1.0
    assert limit._take("a") == 0.0
    assert limit._take("a") > 0


def test_a_full_server_says_when_to_come_again(pack: LensPack) -> None:
    with serving(pack, config=ServeConfig(max_context=100, max_sessions=1)) as served:
        assert served.http.post("/v1/sessions").status_code == 200
        answer = served.http.post("/v1/sessions")
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
        with pytest.raises(openai.RateLimitError):
            served.client.post("/sessions", cast_to=object)


def test_what_is_the_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "localhost", "::1", "127.1.2.3")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "example.org", "", "10.0.0.1")))


def test_a_port_that_is_taken_is_said_so(served: Served) -> None:
    port = urlsplit(served.url).port
    assert port is not None
    with pytest.raises(ConfigError, match=f"port {port} cannot be had .*; give another with --port"):
        bind("127.0.0.1", port)
    with pytest.raises(ConfigError, match="is no address of this machine"):
        bind("no such host", 0)


def _connection(served: Served) -> socket.socket:
    where = urlsplit(served.url)
    return socket.create_connection((where.hostname or "", where.port or 0), timeout=10)
