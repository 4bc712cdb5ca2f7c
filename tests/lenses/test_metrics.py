"""Metrics of a lens against slow references: pairs counted one by one, variances and bins by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lenses.concept import Hierarchy
from lenses.metrics import (
    auroc,
    auroc_difference,
    balanced_weights,
    brier_skill,
    calibration_floor,
    concept_metrics,
    is_measured,
    placements,
    reliability,
    siblings_only,
    threshold,
    true_positive_rate,
)

Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]


def by_pairs(scores: Doubles, positive: Bools) -> NDArray[np.float64]:
    """[positives, negatives] 1 where the positive scores above the negative, 1/2 where they tie."""
    a, b = scores[positive][:, None], scores[~positive][None, :]
    return (a > b) + 0.5 * (a == b)


def sample(seed: int, count: int = 40, *, ties: bool = False) -> tuple[Doubles, Bools]:
    rng = np.random.default_rng(seed)
    positive = rng.random(count) < 0.3
    positive[:2] = [True, False]
    scores = rng.normal(size=count) + positive
    return (np.round(scores * 2) / 2 if ties else scores), positive


@given(st.integers(0, 10_000), st.booleans())
@settings(max_examples=50, deadline=None)
def test_placements_and_area_are_those_of_counted_pairs(seed: int, ties: bool) -> None:
    scores, positive = sample(seed, ties=ties)
    pairs = by_pairs(scores, positive)
    placed = placements(scores, positive)
    np.testing.assert_allclose(placed[positive], pairs.mean(axis=1))
    np.testing.assert_allclose(placed[~positive], pairs.mean(axis=0))
    assert auroc(placed, positive).value == pytest.approx(pairs.mean())


def delong_variance(pairs: Doubles) -> float:
    rows, columns = pairs.shape
    return float(pairs.mean(axis=1).var(ddof=1) / rows + pairs.mean(axis=0).var(ddof=1) / columns)


@pytest.mark.parametrize("ties", [False, True])
def test_the_interval_is_delongs_on_the_log_odds(ties: bool) -> None:
    scores, positive = sample(3, ties=ties)
    pairs = by_pairs(scores, positive)
    area = auroc(placements(scores, positive), positive)
    spread = 1.959964 * math.sqrt(delong_variance(pairs)) / (area.value * (1 - area.value))
    odds = math.log(area.value / (1 - area.value))
    assert area.low == pytest.approx(1 / (1 + math.exp(spread - odds)))
    assert area.high == pytest.approx(1 / (1 + math.exp(-spread - odds)))


def test_the_interval_holds_the_true_area_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    true_area = 0.5 * (1 + math.erf(1 / 2))  # two normals a standard deviation apart
    positive = np.arange(150) < 40
    held = 0
    for _ in range(300):
        area = auroc(placements(rng.normal(size=150) + positive, positive), positive)
        held += area.low <= true_area <= area.high
    assert 0.91 < held / 300 < 0.99


def test_samples_of_one_text_count_as_one() -> None:
    scores, positive = sample(5)
    once = auroc(placements(scores, positive), positive)
    text = np.repeat(np.arange(len(scores)), 7)
    often = auroc(placements(np.repeat(scores, 7), np.repeat(positive, 7)), np.repeat(positive, 7), text)
    assert (often.value, often.low, often.high) == pytest.approx((once.value, once.low, once.high))
    naive = auroc(placements(np.repeat(scores, 7), np.repeat(positive, 7)), np.repeat(positive, 7))
    assert naive.low > often.low  # as if seven times as much were known


def test_a_perfect_area_has_an_interval_still() -> None:
    positive = np.arange(30) < 10
    area = auroc(placements(positive.astype(float), positive), positive)
    assert (area.value, area.high) == (1.0, 1.0)
    assert area.low == pytest.approx(0.025 ** (1 / 10))
    upside_down = auroc(placements(-positive.astype(float), positive), positive)
    assert (upside_down.value, upside_down.low) == (0.0, 0.0)


def test_a_difference_is_of_both_areas_and_of_their_pairs() -> None:
    scores, positive = sample(7)
    other = scores + np.random.default_rng(1).normal(size=len(scores))
    pairs = by_pairs(scores, positive) - by_pairs(other, positive)
    found = auroc_difference(placements(scores, positive), placements(other, positive), positive)
    assert found.value == pytest.approx(pairs.mean())
    assert (found.high - found.low) / 2 == pytest.approx(1.959964 * math.sqrt(delong_variance(pairs)))
    same = auroc_difference(placements(scores, positive), placements(scores, positive), positive)
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_the_true_positive_rate_lets_no_more_false_positives_pass_than_allowed() -> None:
    negatives = np.arange(200.0)
    scores = np.concatenate([negatives, [197.5, 198.5, 300.0]])
    positive = np.arange(203) >= 200
    # Two of 200 may pass: 198 and 199 do, so the threshold is 197.
    assert true_positive_rate(scores, positive) == 1.0
    assert true_positive_rate(scores, positive, 0.005) == pytest.approx(2 / 3)
    assert true_positive_rate(scores, positive, 0.0) == pytest.approx(1 / 3)
    assert true_positive_rate(np.zeros(203), positive) == 0.0  # a constant tells nothing


def test_the_threshold_is_where_no_more_negatives_count_than_allowed() -> None:
    rng = np.random.default_rng(0)
    positive = np.arange(1000) < 200
    probability = rng.random(1000).astype(np.float32)
    at = threshold(probability, positive)
    assert at is not None
    assert (probability[~positive] >= at).sum() == 8
    assert (probability[positive] >= at).mean() == true_positive_rate(probability, positive)
    probability[~positive] = np.where(np.arange(800) < 9, 1, probability[~positive])
    assert threshold(probability, positive) is None  # nothing is above 1, and nine are at it


def test_brier_skill_weighs_both_classes_one_half() -> None:
    positive = np.array([True, False, False, False])
    assert brier_skill(np.full(4, 0.5), positive) == pytest.approx(0)
    assert brier_skill(positive.astype(float), positive) == pytest.approx(1)
    p = np.array([0.6, 0.1, 0.2, 0.3])
    by_hand = 0.5 * 0.4**2 + 0.5 * (0.1**2 + 0.2**2 + 0.3**2) / 3
    assert brier_skill(p, positive) == pytest.approx(1 - by_hand / 0.25)


def test_the_calibration_error_by_hand() -> None:
    p = np.array([0.1, 0.2, 0.6, 0.9])
    positive = np.array([False, False, True, True])
    np.testing.assert_allclose(balanced_weights(positive), 0.25)
    # Two bins of equal weight: said 0.15 and found 0; said 0.75 and found 1.
    found = reliability(p, positive, bins=2)
    np.testing.assert_allclose(found.said_K, [0.15, 0.75])
    np.testing.assert_allclose(found.found_K, [0, 1])
    assert found.error == pytest.approx(0.5 * 0.15 + 0.5 * 0.25)
    # A class of many weighs as one of few: three negatives at 0.3 are one half.
    found = reliability(np.array([0.3, 0.3, 0.3, 0.7]), np.array([False, False, False, True]), bins=1)
    assert found.said_K[0] == pytest.approx(0.5)
    assert found.error == pytest.approx(0)


def test_a_calibrated_score_shows_the_floor_and_a_crooked_one_more() -> None:
    rng = np.random.default_rng(2)
    p = rng.random(4000)
    positive = rng.random(4000) < p  # half of them positive: the prior is 1/2 as it stands
    floor = calibration_floor(p, positive, np.random.default_rng(0), draws=20)
    assert reliability(p, positive).error == pytest.approx(floor, abs=0.012)
    assert reliability(p**3, positive).error > 5 * floor
    few = np.concatenate([np.flatnonzero(positive)[:10], np.flatnonzero(~positive)[:1000]])
    assert calibration_floor(p[few], positive[few], np.random.default_rng(0)) > 2 * floor


def test_siblings_are_the_family_and_no_one_else() -> None:
    hierarchy = Hierarchy.build(
        [("a", "a", None), ("a1", "a1", "a"), ("a2", "a2", "a"), ("b", "b", None), ("b1", "b1", "b")]
    )
    positive = np.zeros((5, 5), np.bool_)
    for text, ids in enumerate((["a", "a1"], ["a", "a2"], ["a"], ["b", "b1"], [])):
        positive[text, [hierarchy.index(id) for id in ids]] = True
    assert siblings_only(hierarchy, positive, hierarchy.index("a1")).tolist() == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert siblings_only(hierarchy, positive, hierarchy.index("a")).tolist() == [
        True,
        True,
        True,
        True,
        False,
    ]


def test_a_lens_of_few_positives_is_unmeasured() -> None:
    hierarchy = Hierarchy.build([("rare", "rare", None), ("common", "common", None)])
    rng = np.random.default_rng(0)
    positive = np.zeros((60, 2), np.bool_)
    positive[:9, hierarchy.index("rare")] = True
    positive[20:50, hierarchy.index("common")] = True
    logits = rng.normal(size=(60, 2)).astype(np.float32) + positive
    probability = (1 / (1 + np.exp(-logits))).astype(np.float32)
    table = concept_metrics(hierarchy, logits, probability, positive)
    assert table[hierarchy.index("rare")] == {"positives": 9}
    common = table[hierarchy.index("common")]
    assert common.keys() == {
        *("positives", "auroc", "auroc_low", "auroc_high", "tpr_at_1fpr", "brier_skill"),
        *("calibration_error", "calibration_error_low", "calibration_error_high"),
    }  # its one sibling has too few texts to be told from
    assert common["auroc_low"] < common["auroc"] < common["auroc_high"]
    assert not is_measured(np.arange(60) < 55)  # too few negatives, likewise
