"""A monitor is kept where the cache is warm, and made anew with nothing in memory where it is cold."""

import pytest
from profiling.counted import counted
from profiling.runs import Task
from profiling.watching import State, Watching

from lenses.pack import LensPack
from runtime.clock import Clock
from runtime.config import MonitorConfig
from runtime.host import Host

TASK = Task("the dog runs", 8)


def test_a_warm_monitor_reads_nothing_more_after_its_first_run(host: Host, pack: LensPack) -> None:
    with Watching(pack.path, MonitorConfig(), "warm") as watching:
        watching.prepare()
        first = watching.run(host, TASK)
        watching.prepare()
        second = watching.run(host, TASK)
    assert len(watching.start_up_ms) == 1
    cold, warm = counted([first]), counted([second])
    assert cold["reads"] > 0
    assert warm["reads"] == warm["bytes_read"] == 0
    assert warm["generation"]["requests"] == warm["generation"]["hot_hits"] > 0
    assert warm["generation"]["hot_rate"] == 1


def test_a_cold_monitor_reads_the_same_again_in_every_run(host: Host, pack: LensPack) -> None:
    with Watching(pack.path, MonitorConfig(), "cold", clock=Clock) as watching:
        runs = []
        for _ in range(2):
            watching.prepare()
            runs.append(watching.run(host, TASK))
    assert len(watching.start_up_ms) == 2
    one, other, both = counted(runs[:1]), counted(runs[1:]), counted(runs)
    assert one["reads"] == other["reads"] > 0
    assert both["bytes_read"] == 2 * one["bytes_read"]
    assert both["runs"] == 2
    assert runs[0].run.contents == runs[1].run.contents


@pytest.mark.parametrize("state", ["warm", "cold"])
def test_every_request_is_counted_somewhere(host: Host, pack: LensPack, state: State) -> None:
    config = MonitorConfig(hot_budget_bytes=1000, prewarm=False)
    with Watching(pack.path, config, state) as watching:
        watching.prepare()
        found = counted([watching.run(host, TASK)])
    for phase in ("prompt", "generation"):
        one = found[phase]
        served = one["hot_hits"] + one["warm_hits"] + one["cold_misses"] + one["failed"]
        assert one["requests"] == served > 0
    assert found["promotions"] > 0
    assert found["hot_peak_bytes"] <= found["hot_budget_bytes"] == 1000


def test_a_run_without_requests_has_no_rate(host: Host, pack: LensPack) -> None:
    with Watching(pack.path, MonitorConfig(exhaustive=True), "warm") as watching:
        watching.prepare()
        found = counted([watching.run(host, TASK)])
    assert found["generation"]["requests"] == 0
    assert found["generation"]["hot_rate"] is None
