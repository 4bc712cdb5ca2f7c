"""Tails are p99 over the median; memory is flat or it is not; everything timed is hot."""

import numpy as np
import pytest
from profiling.runs import Task
from profiling.states import record
from profiling.tail import FLAT_BYTES, LEAK_BYTES, Memory, measure_memory, measure_tail, tail

from lenses.pack import LensPack
from runtime.config import MonitorConfig
from runtime.engine import Engine
from runtime.host import Host


def test_a_tail_is_p99_over_the_median() -> None:
    found = tail([1.0] * 99 + [5.0])
    assert found["p99_to_median"] == pytest.approx(np.quantile([1.0] * 99 + [5.0], 0.99))
    assert found["ms"]["n"] == 100


def test_everything_is_hot_and_takes_turns_with_the_loop(host: Host, pack: LensPack) -> None:
    recorded = record(host, Task("the dog runs", 8), pack)
    seen = []
    with Engine(pack, MonitorConfig()) as engine:
        found = measure_tail(engine, recorded.states_PD, 20, lambda: seen.append(1))
    assert found["engine"]["ms"]["n"] == found["empty loop"]["ms"]["n"] == len(seen) == 20
    assert found["requests"] > 0
    assert found["hot_rate"] == 1.0


@pytest.mark.parametrize(("growth", "flat"), [(0, True), (FLAT_BYTES, True), (FLAT_BYTES + 1, False)])
def test_growth_is_bytes_a_token_from_the_second_quarter_on(growth: int, flat: bool) -> None:
    tokens = list(range(0, 400, 5))
    memory = Memory([10_000_000 - (n < 5) * 3_000_000 + growth * n for n in tokens], tokens)
    found = memory.to_json()
    assert found["growth_bytes_a_token"] == growth
    assert found["flat"] == flat


def test_what_keeps_something_of_every_token_is_seen_to_grow(host: Host, pack: LensPack) -> None:
    recorded = record(host, Task("the dog runs", 8), pack)
    with Engine(pack, MonitorConfig()) as engine:
        found = measure_memory(engine, recorded.states_PD, 400, lambda: None, leak=True)
    assert found["samples"] == 200
    assert not found["flat"]
    assert found["growth_bytes_a_token"] > LEAK_BYTES / 2
