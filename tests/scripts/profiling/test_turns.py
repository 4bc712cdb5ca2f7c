"""Ways take turns, their differences are paired, and a way that sees something else is refused."""

from dataclasses import replace

import numpy as np
import pytest
from profiling.runs import Differs, Run, Task
from profiling.token_times import token_times
from profiling.turns import AGAIN, CLOCKED, OFF, ON, take_turns
from profiling.watching import Watching

from lenses.pack import LensPack
from runtime.clock import Clock
from runtime.config import MonitorConfig
from runtime.host import Host

TASKS = [Task("the dog runs", 5), Task("a red house", 5)]


def test_every_way_runs_every_text_once_a_round(host: Host, pack: LensPack) -> None:
    config, sampled = MonitorConfig(), []
    with (
        Watching(pack.path, config, "warm") as on,
        Watching(pack.path, config, "warm", clock=Clock) as clocked,
    ):
        turns = take_turns(host, TASKS, on, clocked, rounds=2, between=lambda: sampled.append(1))
    assert list(turns.runs) == [OFF, AGAIN, ON, CLOCKED]
    assert all([len(by_round) for by_round in by_task] == [2, 2] for by_task in turns.runs.values())
    assert len(sampled) == 2
    assert turns.runs[OFF][0][0].contents is None
    assert turns.runs[ON][0][0].contents == turns.runs[CLOCKED][0][1].contents is not None
    assert turns.runs[ON][0][0].steps == ()
    assert len(turns.runs[CLOCKED][1][0].steps) == 5
    for by_round, runs in zip(turns.clocked, turns.runs[CLOCKED], strict=True):
        assert [watched.run for watched in by_round] == runs


def test_a_monitor_that_sees_something_else_is_refused(host: Host, pack: LensPack) -> None:
    with (
        Watching(pack.path, MonitorConfig(), "warm") as on,
        Watching(pack.path, MonitorConfig(load_threshold=0.9), "warm") as other,
        pytest.raises(Differs, match="not with the contents"),
    ):
        take_turns(host, TASKS[:1], on, other, rounds=1, between=lambda: None)


def test_differences_are_paired_by_token_and_totals_by_round() -> None:
    def runs(first: float, tokens: list[float], ending: float) -> list[list[Run]]:
        run = Run((1, 2, 3), np.array([first, *tokens]), ending)
        return [[run, replace(run, ending_ms=ending + 1)]]

    off = runs(10, [1, 5], 0)
    found = token_times({OFF: off, AGAIN: off, ON: runs(20, [2, 8], 0.5), CLOCKED: runs(20, [3, 9], 0.5)})
    overhead = found["differences"]["overhead"]
    assert overhead["token_ms"]["n"] == 4
    assert overhead["token_ms"]["max"] == 3
    assert overhead["token_ms"]["median"] == 2
    assert overhead["first_ms"]["median"] == 10
    assert overhead["total_ms"]["median"] == 14.5
    assert found["differences"]["clock"]["token_ms"]["mean"] == 1
    assert found["differences"]["off again - off"]["token_ms"]["max"] == 0
    assert overhead["total_ratio"].value == pytest.approx(31 / 16.5)
    assert found["ways"][ON]["total_ms"]["n"] == 2
