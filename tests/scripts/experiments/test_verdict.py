"""The verdict follows from the runs, and says why where there is nothing to win."""

from typing import Any

import numpy as np
import pytest
from experiments.prewarming import Cold, Pairs, compared, name_of
from experiments.verdict import JUDGED, verdict
from profiling.runs import Run

from runtime.clock import Component, Step


def cold(first_ms: float, *, tokens: int = JUDGED, loading: tuple[float, float] = (8.0, 2.0)) -> Cold:
    """A run of tokens of 1 ms after the first, that loaded so long in the prompt and after it."""
    steps = [Step("prompt"), *(Step("generation") for _ in range(tokens - 1))]
    steps[0].parts_ms[Component.PREWARM] = loading[0]
    steps[1].parts_ms[Component.COLD] = loading[1]
    token_ms = np.array([first_ms, *[1.0] * (tokens - 1)])
    return Cold(5.0, Run(tuple(range(tokens)), token_ms, 0.0, contents="c", steps=tuple(steps)))


def pairs(on_ms: list[float], off_ms: list[float], **more: Any) -> Pairs:
    runs = {
        name_of(prewarm, cache, events): [cold(ms, **more) for ms in (on_ms if prewarm else off_ms)]
        for prewarm in (True, False)
        for cache in (True, False)
        for events in ("full", "off")
    }
    return Pairs(runs)


LONG = [100.0 + n for n in range(12)]


@pytest.mark.parametrize(
    ("on_ms", "outcome", "words"),
    [
        ([ms - 20 - n / 10 for n, ms in enumerate(LONG)], "win", "shortens prompt + 50"),
        ([ms + 20 + n / 10 for n, ms in enumerate(LONG)], "regression", "lengthens prompt + 50"),
        ([ms + (-1) ** n for n, ms in enumerate(LONG)], "noise", "does not measurably change"),
    ],
)
def test_the_verdict_follows_from_the_pairs(on_ms: list[float], outcome: str, words: str) -> None:
    found = verdict(pairs(on_ms, LONG))
    assert found["test"]["outcome"] == outcome
    assert words in found["sentence"]
    assert ("Why not" in found["sentence"]) == (outcome != "win")
    assert found["test"]["pairs"] == 12
    assert found["loading"]["prompt_off_ms"] == 8
    assert found["loading"]["generation_off_ms"] == 2


def test_start_and_first_token_are_in_the_total() -> None:
    only = pairs([40.0], [50.0])
    name = name_of(True, True, "full")
    assert only.until_ms(name, 1).tolist() == [45.0]
    assert only.until_ms(name, 50).tolist() == [45.0 + 49]
    tests = compared(only)
    assert {test["length"] for test in tests} == {10, 50}, "none was 200 long"
    assert all(test["ratio"][0] < 1 for test in tests)


def test_pairs_are_compared_text_by_text() -> None:
    off_ms = [50.0, 500.0, 5000.0, 51.0, 501.0]
    # Longer by a tenth of the whole in every text; the medians of all alone would be of one text.
    on_ms = [ms + (5.0 + ms + 9) * 0.1 for ms in off_ms]
    test = next(test for test in compared(pairs(on_ms, off_ms)) if test["length"] == 10)
    assert test["ratio"] == pytest.approx([1.1, 1.1, 1.1])


def test_too_short_runs_give_no_verdict() -> None:
    found = verdict(pairs([4.0] * 8, [5.0] * 8, tokens=20))
    assert found["test"] is None
    assert "No run had 50 tokens" in found["sentence"]


def test_reasons_are_those_that_the_numbers_bear_out() -> None:
    on = [ms + (-1) ** n for n, ms in enumerate(LONG)]
    early = verdict(pairs(on, LONG, loading=(8.0, 2.0)))["sentence"]
    late = verdict(pairs(on, LONG, loading=(2.0, 8.0)))["sentence"]
    reason = "most of the loading is the prompt's own"
    assert reason in early
    assert reason not in late
