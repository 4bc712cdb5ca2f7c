"""A trace is in Chrome's format, with a slice for every token and a track for every reader."""

import json
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from profiling.runs import Task
from profiling.trace import NotATrace, check_trace, trace
from profiling.watching import Watching

from lenses.pack import LensPack
from runtime.cache import FamilyCache
from runtime.clock import Clock, Component, Span, Step
from runtime.config import MonitorConfig
from runtime.host import Host

TASK = Task("the dog runs", 8)


@pytest.fixture
def found(host: Host, pack: LensPack, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A cold run: readers read ahead, as they would larger families."""
    monkeypatch.setattr("runtime.engine.FamilyCache", partial(FamilyCache, hand_over_bytes=0))
    clock = Clock(trace=True)
    with Watching(pack.path, MonitorConfig(), "cold", clock=lambda: clock) as watching:
        watching.prepare()
        run = watching.run(host, TASK).run
    words = [host.tokenizer.decode([token]) for token in run.token_ids]
    written: dict[str, Any] = json.loads(json.dumps(trace(run.steps, clock.spans, words)))
    return written


def test_a_real_run_has_a_slice_a_token_and_a_track_a_reader(found: dict[str, Any]) -> None:
    check_trace(found)
    events = found["traceEvents"]
    slices = [event for event in events if event["ph"] == "X"]
    steps = [event for event in slices if event["cat"] == "step"]
    assert len(steps) == TASK.new_tokens
    assert [step["args"]["phase"] for step in steps] == ["prompt"] + ["generation"] * (TASK.new_tokens - 1)
    assert all(step["args"]["base passes"] == 1 for step in steps)
    threads = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert {event["tid"] for event in slices} == threads.keys()
    readers = {tid for tid, name in threads.items() if name.startswith("family-reader")}
    read = [event for event in slices if event["tid"] in readers]
    assert read
    assert {event["name"] for event in read} == {Component.COLD}
    generating = [event for event in slices if event["cat"] == "component" and event["tid"] not in readers]
    assert {Component.HOST, Component.DETECTION, Component.PREWARM} <= {event["name"] for event in generating}


def test_the_components_of_a_step_fill_it(found: dict[str, Any]) -> None:
    steps = [event for event in found["traceEvents"] if event.get("cat") == "step"]
    (main,) = {e["tid"] for e in found["traceEvents"] if e["ph"] == "X" and e["name"] == Component.HOST}
    for step in steps:
        inside = [
            event["dur"]
            for event in found["traceEvents"]
            if event.get("cat") == "component"
            and event["tid"] == main
            and step["ts"] - 0.01 <= event["ts"]
            and event["ts"] + event["dur"] <= step["ts"] + step["dur"] + 0.01
        ]
        assert sum(inside) == pytest.approx(step["dur"], abs=0.01 * (1 + len(inside)))


@given(st.lists(st.floats(0, 1e4), min_size=2, max_size=30, unique=True), st.integers(1, 3))
def test_spans_one_after_another_always_make_a_trace(seconds: list[float], threads: int) -> None:
    cuts = sorted(seconds)
    spans = [
        Span(Component.HOST, f"thread {at % threads}", start, stop)
        for at, (start, stop) in enumerate(pairwise(cuts))
    ]
    check_trace(trace([], spans, []))


def test_steps_and_tokens_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        trace([Step("prompt")], [], [])


@pytest.mark.parametrize(
    "event",
    [
        {"ph": "B", "name": "begun"},
        {"ph": "X", "name": ""},
        {"ph": "X", "name": "backwards", "dur": -1.0},
        {"ph": "X", "name": "across", "ts": 5.0, "dur": 10.0},
        {"ph": "M", "name": "thread_name", "args": {}},
    ],
    ids=lambda event: event["name"] or "nameless",
)
def test_what_is_no_trace_is_refused(event: dict[str, Any]) -> None:
    good = {"ph": "X", "name": "a slice", "pid": 1, "tid": 1, "ts": 0.0, "dur": 10.0, "args": {}}
    check_trace({"traceEvents": [good, good | {"ts": 2.0, "dur": 3.0}, good | {"tid": 2, "ts": 5.0}]})
    with pytest.raises(NotATrace):
        check_trace({"traceEvents": [good, good | event]})
