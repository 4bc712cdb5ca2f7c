"""Platt scaling at a prior of one half, and fp32 arithmetic that holds at the ends."""

import numpy as np
import pytest

from lenses.calibration import fit_platt, log_odds, probability, sigmoid, threshold_log_odds


def drawn(share_positive: float, scale: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose classes are normal, one apart from the other by two standard deviations."""
    rng = np.random.default_rng(seed)
    positive = rng.random((20_000, 1)) < share_positive
    logits = (rng.normal(size=positive.shape) + 2 * positive) * scale
    return logits.astype(np.float32), positive


@pytest.mark.parametrize("share_positive", [0.5, 0.1, 0.02])
@pytest.mark.parametrize("scale", [0.01, 1.0, 300.0])
def test_the_fit_is_the_log_likelihood_ratio_whatever_the_share_and_scale(
    share_positive: float, scale: float
) -> None:
    logits, positive = drawn(share_positive, scale)
    slope, offset, calibrated = fit_platt(logits, positive, np.ones_like(logits))
    assert calibrated.all()
    # Two unit normals two apart: log p(x|1)/p(x|0) = 2x - 2.
    assert slope[0] * scale == pytest.approx(2.0, rel=0.15)
    assert offset[0] == pytest.approx(-2.0, rel=0.15)


def test_lenses_of_rare_and_common_concepts_get_the_same_probability_for_the_same_evidence() -> None:
    common, rare = drawn(0.5, 1.0), drawn(0.02, 1.0, seed=1)
    logits = np.concatenate([common[0], rare[0]], axis=1)
    positive = np.concatenate([common[1], rare[1]], axis=1)
    slope, offset, _ = fit_platt(logits, positive, np.ones_like(logits))
    at_one = probability(np.full(2, 1.0, np.float32), slope, offset)
    assert at_one == pytest.approx([0.5, 0.5], abs=0.05)


def test_a_lens_that_cannot_be_calibrated_says_so() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(400, 3)).astype(np.float32)
    positive = np.zeros((400, 3), bool)
    positive[:200, 1] = True
    positive[:, 2] = logits[:, 2] < 0  # fires the wrong way round
    logits[:200, 1] += 3
    slope, offset, calibrated = fit_platt(logits, positive, np.ones_like(logits))
    assert calibrated.tolist() == [False, True, False]
    assert slope[[0, 2]].tolist() == [1.0, 1.0]
    assert offset[[0, 2]].tolist() == [0.0, 0.0]


def test_samples_of_weight_zero_do_not_count() -> None:
    logits, positive = drawn(0.3, 1.0)
    weight = np.ones_like(logits)
    spoiled = logits.copy()
    spoiled[:500] = 50
    weight[:500] = 0
    slope, offset, _ = fit_platt(spoiled, positive, weight)
    expected_slope, expected_offset, _ = fit_platt(logits[500:], positive[500:], weight[500:])
    assert slope == pytest.approx(expected_slope, rel=0.02)
    assert offset == pytest.approx(expected_offset, rel=0.02)


def test_separable_classes_give_a_finite_fit() -> None:
    logits = np.array([[-3.0], [-2.0], [2.0], [3.0]], np.float32)
    slope, offset, calibrated = fit_platt(logits, logits > 0, np.ones_like(logits))
    assert calibrated[0]
    assert np.isfinite([slope[0], offset[0]]).all()


def test_probabilities_stay_in_range_and_in_order_at_the_ends() -> None:
    odds = np.array([-1e4, -200, -1, 0, 1, 200, 1e4], np.float32)
    p = sigmoid(odds)
    assert p.dtype == np.float32
    assert np.isfinite(p).all()
    assert (np.diff(p) >= 0).all()
    assert (p[0], p[3], p[-1]) == (0.0, 0.5, 1.0)


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.9])
def test_a_threshold_on_log_odds_is_one_on_probability(threshold: float) -> None:
    odds = np.linspace(-8, 8, 4001, dtype=np.float32)
    p = sigmoid(odds)
    clear = np.abs(p - threshold) > 1e-6
    assert ((odds >= threshold_log_odds(threshold)) == (p >= threshold))[clear].all()
    assert threshold_log_odds(0.0) == -np.inf
    assert threshold_log_odds(1.0) == np.inf


def test_log_odds_are_fp32() -> None:
    assert log_odds(np.float32([1]), np.float32([2]), np.float32([3])).dtype == np.float32
