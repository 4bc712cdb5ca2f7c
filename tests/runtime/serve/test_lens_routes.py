"""States in, scores out."""

from concurrent.futures import Future, ThreadPoolExecutor
from threading import Timer
from typing import Any

import numpy as np
import pytest
import torch

from lenses.state import normalise
from tests import hosts
from tests.runtime.serve.conftest import Served

BINARY = "application/octet-stream"


def states(rows: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=(rows, hosts.HIDDEN)).astype(np.float32)


def score(served: Served, states_RD: Any, accept: str = BINARY) -> Any:
    headers = {"content-type": BINARY, "accept": accept}
    answer = served.http.post("/v1/lenses/score", content=states_RD.astype("<f4").tobytes(), headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-pack"] == served.service.pack.identity
    shape = tuple(map(int, answer.headers["x-shape"].split(",")))
    return np.frombuffer(answer.content, "<f2" if "float16" in accept else "<f4").reshape(shape)


def test_lenses_are_listed_in_the_order_of_vectors(served: Served) -> None:
    pack, told = served.service.pack, served.http.get("/v1/lenses").json()
    assert [one["id"] for one in told["data"]] == [concept.id for concept in pack.hierarchy]
    assert (told["pack"], told["hidden_size"]) == (pack.identity, hosts.HIDDEN)
    assert told["data"][3]["slope"] == float(pack.heads.platt_slope[3])


def test_scores_are_those_of_one_lens_after_the_other(served: Served) -> None:
    pack, states_RD = served.service.pack, states(3)
    rows = normalise(states_RD, pack.config.input)
    slow = [[pack.lens(n).logit(torch.from_numpy(row)) for n in range(len(pack.hierarchy))] for row in rows]
    fast = score(served, states_RD)
    np.testing.assert_allclose(fast, slow, rtol=0, atol=1e-5 * max(1.0, float(np.abs(slow).max())))
    half = score(served, states_RD, f"text/plain, {BINARY}; dtype=float16")
    np.testing.assert_array_equal(half, fast.astype("<f2"))
    told = served.http.post("/v1/lenses/score", json={"states": states_RD.tolist()}).json()
    np.testing.assert_array_equal(np.array(told["scores"], np.float32), fast)


def test_calls_are_joined_and_each_gets_its_own(served: Served) -> None:
    alone = [score(served, states(2, seed)) for seed in range(16)]
    joined = served.service.scheduler._joined
    calls, passes = joined.calls, joined.passes
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(lambda seed: score(served, states(2, seed)), range(16)))
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))
    assert joined.calls - calls == 16
    assert joined.passes - passes <= 16


def test_who_waits_while_the_engine_closes_is_told_so(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting: Future[Any] = Future()
    monkeypatch.setattr(served.service.scheduler, "score", lambda states_RD: waiting)
    Timer(0.1, waiting.cancel).start()
    told = served.http.post("/v1/lenses/score", json={"states": states(1).tolist()})
    assert (told.status_code, told.json()["error"]["code"]) == (503, "closing")


@pytest.mark.parametrize(
    ("content", "kind", "status", "says"),
    [
        (b"x" * 63, BINARY, 400, "rows of 16 numbers in float32, 64 bytes each"),
        (b"", BINARY, 400, "0 bytes"),
        (np.full(16, np.nan, "<f4").tobytes(), BINARY, 400, "not finite"),
        (np.full(16, 3e38, "<f4").tobytes(), BINARY, 400, "whose squares overflow"),
        (bytes(64 * 1025), BINARY, 400, "1,024 are allowed"),
        (b'{"states": [[1, 2]]}', "application/json", 400, "rows of 16 numbers"),
        (b'{"states": [[1], [1, 2]]}', "application/json", 400, "rows of 1 numbers"),
        (b'{"states": [[]]}', "application/json", 400, "rows of 0 numbers"),
        (b'{"states": [[1e300' + b", 0" * 15 + b"]]}", "application/json", 400, "whose squares overflow"),
        (b'{"states": 5}', "application/json", 400, "parameter states"),
        (b'{"states"', "application/json", 400, "not JSON"),
        (b"x", "text/plain", 415, "say which in content-type"),
    ],
)
def test_states_that_are_none_are_refused(
    served: Served, content: bytes, kind: str, status: int, says: str
) -> None:
    answer = served.http.post("/v1/lenses/score", content=content, headers={"content-type": kind})
    assert answer.status_code == status
    assert says in answer.json()["error"]["message"]


def test_forms_of_scores_that_are_none_are_refused(served: Served) -> None:
    headers = {"content-type": BINARY, "accept": f"{BINARY}; dtype=int8"}
    answer = served.http.post("/v1/lenses/score", content=states(1).tobytes(), headers=headers)
    assert answer.status_code == 406
