"""Win, noise or regression: the test is the exact one, and noise is not taken for more."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from measuring.comparing import (
    ALPHA,
    fewest_rounds,
    holm,
    median_difference,
    ratio,
    signed_rank_p,
    verdicts,
)
from measuring.rounds import Rounds

from lenses.errors import ConfigError
from lenses.metrics import Doubles

DIFFERENCES = st.lists(
    st.integers(-4, 4).map(float), min_size=1, max_size=9
)  # few values: many ties and zeros


def p_by_enumeration(differences: list[float]) -> float:
    """Wilcoxon's two-sided p by trying every choice of signs: slow and obvious."""
    values = [value for value in differences if value]
    if not values:
        return 1.0
    sizes = sorted(map(abs, values))
    rank = {
        size: sum(at + 1 for at, s in enumerate(sizes) if s == size) / sizes.count(size) for size in sizes
    }
    ranks = [rank[abs(value)] for value in values]

    def off_centre(signs: tuple[int, ...]) -> float:
        return abs(sum(r * sign for r, sign in zip(ranks, signs, strict=True)))

    found = off_centre(tuple(1 if value > 0 else -1 for value in values))
    choices = list(itertools.product((1, -1), repeat=len(values)))
    return sum(off_centre(signs) >= found - 1e-9 for signs in choices) / len(choices)


@given(DIFFERENCES)
@settings(deadline=None)
def test_p_is_that_of_every_choice_of_signs(differences: list[float]) -> None:
    assert math.isclose(signed_rank_p(np.array(differences)), p_by_enumeration(differences), rel_tol=1e-12)


@given(DIFFERENCES)
def test_p_does_not_depend_on_which_of_the_two_is_the_baseline(differences: list[float]) -> None:
    found = np.array(differences)
    assert signed_rank_p(found) == pytest.approx(signed_rank_p(-found))


def test_the_approximation_for_many_rounds_meets_the_exact_test_where_they_touch() -> None:
    rng = np.random.default_rng(0)
    for shift in (0.0, 0.1, 0.2):
        exact = rng.normal(shift, 1, 200)
        approximate = np.append(exact, [1e-9, -1e-9])  # two more rounds, of the smallest ranks
        assert signed_rank_p(approximate) == pytest.approx(signed_rank_p(exact), abs=0.01)


def test_holm_corrects_the_smallest_most_and_never_reorders() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_raises_p_but_not_beyond_bonferroni(p_values: list[float]) -> None:
    for p, corrected in zip(p_values, holm(p_values), strict=True):
        assert p <= corrected <= min(1.0, len(p_values) * max(p_values))


@given(st.integers(1, 30))
def test_the_fewest_rounds_are_just_enough(comparisons: int) -> None:
    n = fewest_rounds(comparisons)

    def best(rounds: int) -> float:
        return comparisons * signed_rank_p(np.arange(1.0, rounds + 1))

    assert best(n) <= ALPHA + 1e-12 < best(n - 1)


def samples(n: int, **factors: float) -> Rounds:
    """Rounds whose noise and drift are common, and whose variants differ by factors."""
    rng = np.random.default_rng(1)
    base: Doubles = np.linspace(10, 30, n) + rng.normal(0, 0.01, n)
    return Rounds({name: base * factor + rng.normal(0, 0.02, n) for name, factor in factors.items()})


def test_a_win_a_regression_and_noise_are_told_apart_under_a_drift_larger_than_any() -> None:
    found = verdicts(samples(12, baseline=1.0, faster=0.97, slower=1.03, same=1.0), "baseline")
    assert {one.name: one.outcome for one in found} == {
        "faster": "win",
        "slower": "regression",
        "same": "noise",
    }
    faster = found[0]
    assert faster.ratio.low <= faster.ratio.value <= faster.ratio.high
    assert faster.difference_ms.high < 0
    assert faster.p <= faster.p_holm
    assert faster.to_json()["ratio"] == [faster.ratio.value, faster.ratio.low, faster.ratio.high]


def test_pure_noise_is_seldom_called_anything_else() -> None:
    rng = np.random.default_rng(2)
    wrong = 0
    for _ in range(400):
        baseline, *others = rng.normal(10, 1, (4, 10))
        wrong += min(holm([signed_rank_p(other - baseline) for other in others])) <= ALPHA
    assert 0 < wrong <= 37  # 5 % of 400 at the most, and what chance adds to that in 1 of 10,000 such tests


def test_too_few_rounds_are_refused_with_how_many_it_takes() -> None:
    with pytest.raises(ConfigError, match="give 6 or more"):
        verdicts(samples(5, baseline=1.0, faster=0.5), "baseline")
    with pytest.raises(ConfigError, match="give 7 or more"):
        verdicts(samples(6, baseline=1.0, faster=0.5, slower=2.0), "baseline")
    with pytest.raises(ConfigError, match="nobody"):
        verdicts(samples(9, a=1.0, b=1.0), "nobody")


def test_a_ratio_is_of_the_medians_and_its_interval_holds_it() -> None:
    rounds = samples(40, a=2.0, b=1.0)
    found = ratio(rounds["a"], rounds["b"])
    assert found.value == np.median(rounds["a"]) / np.median(rounds["b"])
    assert found.low <= found.value <= found.high
    assert found.high - found.low < 0.02  # paired: the common drift does not widen it
    assert found == ratio(rounds["a"], rounds["b"])
    assert median_difference(rounds["a"], rounds["a"]).high == 0
