"""Some numbers in few."""

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from measuring.samples import Summary

from lenses.errors import ConfigError

NUMBERS = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40)


@given(NUMBERS)
def test_a_summary_says_what_the_numbers_are(values: list[float]) -> None:
    found = Summary.of(values)
    assert found.n == len(values)
    assert (found.min, found.max) == (min(values), max(values))
    assert math.isclose(found.median, statistics.median(values), abs_tol=1e-6)
    assert math.isclose(found.mean, statistics.fmean(values), abs_tol=1e-6)
    expected_std = statistics.stdev(values) if len(values) > 1 else 0.0
    assert math.isclose(found.std, expected_std, rel_tol=1e-6, abs_tol=1e-4)
    assert found.median <= found.p95 <= found.p99 <= found.max
    assert 0 <= found.spread <= found.max - found.min


def test_quantiles_are_where_they_belong() -> None:
    found = Summary.of([float(n) for n in range(101)])
    assert (found.median, found.p95, found.p99, found.spread) == (50, 95, 99, 50)
    assert found.to_json()["p95"] == 95


def test_nothing_has_no_summary() -> None:
    with pytest.raises(ConfigError, match="measure at least once"):
        Summary.of([])
