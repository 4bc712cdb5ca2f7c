"""The clock charges every instant to one component, and parts sum to the whole."""

import threading

import pytest

from runtime import clock as clock_module
from runtime.clock import NO_CLOCK, Clock, Component


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that tests set by hand."""
    seconds = [0.0]
    monkeypatch.setattr(clock_module, "perf_counter", lambda: seconds[0])
    return seconds


def test_time_is_exclusive_and_parts_sum_to_the_whole(now: list[float]) -> None:
    clock = Clock()
    clock.step("generation")
    now[0] += 1  # the host
    with clock.part(Component.CACHE):
        now[0] += 2
        with clock.part(Component.COLD):
            now[0] += 4
        now[0] += 8
    now[0] += 16
    clock.finish()
    (step,) = clock.steps
    assert step.parts_ms == {Component.HOST: 17e3, Component.CACHE: 10e3, Component.COLD: 4e3}
    assert step.total_ms == sum(step.parts_ms.values()) == 31e3


def test_a_step_ends_where_the_next_begins_and_inside_a_component_too(now: list[float]) -> None:
    clock = Clock()
    with clock.part(Component.HOOK):
        now[0] += 1  # no step runs: charged to none
        clock.step("prompt")
        now[0] += 2
    now[0] += 4
    clock.step("generation")
    now[0] += 8
    clock.finish()
    clock.finish()
    assert [(step.name, step.total_ms) for step in clock.steps] == [("prompt", 6e3), ("generation", 8e3)]
    assert sum(clock.steps[0].parts_ms.values()) == 6e3


def test_an_exception_gives_the_time_back_to_the_component_around(now: list[float]) -> None:
    clock = Clock()
    clock.step("generation")

    def fails() -> None:
        with clock.part(Component.COLD):
            now[0] += 1
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    now[0] += 2
    clock.finish()
    assert clock.steps[0].parts_ms == {Component.HOST: 2e3, Component.COLD: 1e3}


def test_another_thread_is_in_the_trace_and_in_no_sum(now: list[float]) -> None:
    clock = Clock(trace=True)
    clock.step("prompt")

    def reader() -> None:
        with clock.part(Component.COLD):
            now[0] += 3

    thread = threading.Thread(target=reader, name="reader")
    thread.start()
    thread.join()
    clock.finish()
    assert clock.steps[0].parts_ms == {Component.HOST: 3e3}
    assert [(span.name, span.thread, span.stop_s - span.start_s) for span in clock.spans] == [
        (Component.COLD, "reader", 3.0),
        (Component.HOST, threading.current_thread().name, 3.0),
    ]


def test_counts_belong_to_their_step(now: list[float]) -> None:
    clock = Clock()
    clock.count("nowhere")
    clock.step("prompt")
    clock.count("families", 2)
    clock.count("families")
    clock.step("generation")
    clock.finish()
    assert [step.counts for step in clock.steps] == [{"families": 3}, {}]


def test_a_clock_that_is_off_keeps_nothing() -> None:
    NO_CLOCK.step("prompt")
    with NO_CLOCK.part(Component.COLD):
        NO_CLOCK.count("families")
    NO_CLOCK.finish()
    assert NO_CLOCK.steps == []
    assert NO_CLOCK.spans == []
