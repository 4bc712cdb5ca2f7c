"""Ratios of pairs, with intervals."""

import pytest
from serving.pairs import mean, median_ratio, median_ratio_of_kept

from lenses.errors import ConfigError


def test_a_ratio_is_of_pairs_and_not_of_medians() -> None:
    found = median_ratio([2.0, 20.0, 200.0], [1.0, 10.0, 100.0])
    assert (found.value, found.low, found.high) == (2.0, 2.0, 2.0)


def test_an_interval_holds_its_value_and_is_repeatable() -> None:
    slow, fast = [1.1, 1.3, 0.9, 1.2, 1.0, 1.4], [1.0] * 6
    found = median_ratio(slow, fast)
    assert found.low < found.value < found.high
    assert found == median_ratio(slow, fast)
    assert mean(slow).value == pytest.approx(1.15)


def test_no_pairs_say_nothing() -> None:
    with pytest.raises(ConfigError, match="nothing can be said"):
        median_ratio([], [])


def test_void_runs_are_in_no_pair() -> None:
    assert median_ratio_of_kept([2.0, None, 6.0], [1.0, 1.0, 3.0], float) == median_ratio(
        [2.0, 6.0], [1.0, 3.0]
    )
    assert median_ratio_of_kept([2.0, None], [None, 1.0], float) is None
