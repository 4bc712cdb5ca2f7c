"""The floor reads all that it says, and turns bytes into milliseconds by the median."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from measuring import floor as floor_module
from measuring.floor import MemoryFloor
from measuring.idle import EmptyLoop
from measuring.loops import spin, sum_words
from measuring.rounds import alternate

from lenses.errors import ConfigError


@pytest.fixture(scope="module", autouse=True)
def _few_bytes() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(floor_module, "READ_BYTES", 8 * 1003)
        yield


class StepClock:
    """Every reading is later by the next of some seconds, the first of which are the warm-up's."""

    def __init__(self, *seconds: float) -> None:
        self._steps = iter([0.0, 1.0, *(step for second in seconds for step in (0.0, second))])
        self._now = 0.0

    def __call__(self) -> float:
        self._now += next(self._steps)
        return self._now


def test_bandwidth_is_the_median_over_samples_without_the_warm_up() -> None:
    with MemoryFloor(clock=StepClock(1e-6, 2e-6, 8e-6)) as floor:
        for _ in range(3):
            floor.sample()
        assert floor.bytes_per_s.n == 3
        assert floor.bytes_per_s.median == pytest.approx(8024 / 2e-6)
        assert floor.floor_ms(16048) == pytest.approx(4e-3)
        assert floor.to_json()["read_bytes"] == 8024


def test_a_floor_of_no_samples_says_so() -> None:
    with MemoryFloor() as floor, pytest.raises(ConfigError, match="at least once"):
        floor.floor_ms(1)


def test_a_word_that_was_not_read_is_noticed() -> None:
    with MemoryFloor() as floor:
        floor._words[17] += 1
        with pytest.raises(AssertionError, match="not everything was read"):
            floor.sample()


@given(st.lists(st.integers(0, 2**64 - 1), max_size=23))
@settings(deadline=None)  # the first call compiles
def test_every_word_is_summed_once(words: list[int]) -> None:
    assert int(sum_words(np.array(words, np.uint64))) == sum(words) % 2**64


def test_more_steps_end_elsewhere() -> None:
    assert int(spin(3)) != int(spin(4))


def test_an_empty_loop_takes_turns_and_is_as_long_as_it_is_told() -> None:
    clock = StepClock()
    clock._steps = iter([0.0, 2.0] * 5)  # the tried steps take two seconds
    loop = EmptyLoop(1000.0, clock=clock)
    assert loop.steps == 100_000
    loop.close()
    short = EmptyLoop(0.01)
    assert len(alternate([short.variant()], rounds=3)["empty loop"]) == 3
    short.close()
    with pytest.raises(ConfigError, match="more than 0"):
        EmptyLoop(0)
