"""Intervals of what is said of many lenses: draws by hand, and intervals that hold what they say."""

import numpy as np
import pytest
from judging.redrawn import Redrawn, median_interval, quantile_intervals, share_interval
from numpy.typing import NDArray

from lenses.metrics import (
    Bools,
    Doubles,
    auroc,
    balanced_weights,
    bins_of,
    brier_skill,
    placements,
    reliability,
)


def draws(texts: int, count: int = 200, seed: int = 0) -> Redrawn:
    return Redrawn.of(texts, np.random.default_rng(seed), draws=count)


def test_a_median_over_lenses_comes_with_the_doubt_of_its_texts() -> None:
    rng = np.random.default_rng(1)
    positive = rng.random((400, 30)) < 0.2
    strength = np.linspace(0.5, 2, 30)
    placed = np.stack(
        [placements(rng.normal(size=400) + s * y, y) for s, y in zip(strength, positive.T, strict=True)],
        axis=1,
    )
    middle, low = quantile_intervals(*draws(400).areas(placed, positive), (0.5, 0.1))
    areas = [placed[positive[:, n], n].mean() for n in range(30)]
    assert middle.value == pytest.approx(np.median(areas))
    assert middle.low < middle.value < middle.high
    assert low.value == pytest.approx(np.quantile(areas, 0.1))
    # One lens alone: the interval is that of its area.
    (alone,) = quantile_intervals(*draws(400, 1000).areas(placed[:, :1], positive[:, :1]), (0.5,))
    area = auroc(placed[:, 0], positive[:, 0])
    assert alone.value == pytest.approx(area.value)
    assert alone.high - alone.low == pytest.approx(area.high - area.low, rel=0.15)


def test_texts_that_do_not_judge_a_lens_are_left_out_of_its_median() -> None:
    positive = np.array([[True], [False], [True], [False]] * 10)
    placed = np.where(np.arange(40)[:, None] < 20, 0.75, np.nan)
    (found,) = quantile_intervals(*draws(40, 20).areas(placed, positive), (0.5,))
    assert (found.value, found.low, found.high) == pytest.approx((0.75, 0.75, 0.75))


def tokens(seed: int) -> tuple[NDArray[np.float32], Bools, NDArray[np.int64]]:
    """Probabilities, labels and texts of 90 samples of 30 texts, a third of them positive."""
    rng = np.random.default_rng(seed)
    text = np.sort(rng.integers(30, size=90))
    return rng.random(90).astype(np.float32), text % 3 == 0, text


def test_every_text_drawn_once_gives_what_all_texts_give() -> None:
    probability, positive, text = tokens(0)
    once = Redrawn(np.ones((1, 30), np.float32))
    assert once.brier_skills(probability, positive, text) == pytest.approx(brier_skill(probability, positive))
    error = reliability(probability, positive).error
    assert once.calibration_errors(probability, positive, text) == pytest.approx(error, rel=1e-5)


def test_a_text_drawn_twice_counts_twice_with_all_its_samples() -> None:
    probability, positive, text = tokens(1)
    weight = np.random.default_rng(2).integers(3, size=30)
    redrawn = Redrawn(weight[None].astype(np.float32))
    often = np.repeat(np.arange(90), weight[text])
    p, y = probability[often], positive[often]
    assert redrawn.brier_skills(probability, positive, text) == pytest.approx(brier_skill(p, y))
    # The same by hand, in the bins that all samples are cut into.
    bin_ = bins_of(probability, balanced_weights(positive))[often]
    off = np.where(y, (p - 1) / y.sum(), p / (~y).sum()) / 2
    by_hand = sum(abs(off[bin_ == b].sum()) for b in range(10))
    assert redrawn.calibration_errors(probability, positive, text) == pytest.approx(by_hand, rel=1e-5)


def test_a_lens_without_positives_sits_a_draw_out() -> None:
    probability, positive, text = tokens(3)
    weight = np.stack([np.ones(30), np.arange(30) % 3 != 0]).astype(np.float32)
    for drawn in (Redrawn(weight).brier_skills, Redrawn(weight).calibration_errors):
        assert np.isnan(drawn(probability, positive, text)).tolist() == [False, True]
    table = np.array([[0.1, 0.3], [np.nan, 0.5], [np.nan, np.nan], [0.2, 0.2]])
    assert median_interval(np.array([0.1, 0.3]), table).value == pytest.approx(0.2)


def test_a_share_is_of_the_lenses_above_nothing_and_ends_at_all_of_them() -> None:
    drawn = np.array([[0.1, 0.2, 0.3, 0.4], [0.1, 0.1, 0.2, -0.1], [0.3, 0.2, 0.2, 0.3]])
    found = share_interval(np.array([0.1, 0.2, 0.3, 0.3]), drawn)
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(1 - 1.959964 * np.std([1, 0.75, 1], ddof=1))
    assert share_interval(np.zeros(4), drawn).value == 0.0


def test_the_intervals_hold_what_they_are_of_about_as_often_as_they_say() -> None:
    """Lenses that share texts, judged on many samples of texts: what a sample shows on average is what its interval
    is to hold."""

    def judged(seed: int) -> tuple[Doubles, Doubles, Doubles, Doubles]:
        rng = np.random.default_rng(seed)
        topic = rng.normal(size=(200, 1))
        truth = 1 / (1 + np.exp(-topic - rng.normal(size=(200, 12))))
        positive = rng.random((200, 12)) < truth
        said = (truth ** np.linspace(0.5, 3, 12)).astype(np.float32)
        redrawn, text = draws(200, 60, seed), np.arange(200)
        pairs = list(zip(said.T, positive.T, strict=True))
        return (
            np.array([reliability(p, y).error for p, y in pairs]),
            np.stack([redrawn.calibration_errors(p, y, text) for p, y in pairs], axis=1),
            np.array([brier_skill(p, y) - 0.15 for p, y in pairs]),
            np.stack([redrawn.brier_skills(p, y, text) - 0.15 for p, y in pairs], axis=1),
        )

    found = [judged(seed) for seed in range(100)]
    medians = [median_interval(error, drawn) for error, drawn, _, _ in found]
    shares = [share_interval(skill, drawn) for _, _, skill, drawn in found]
    for estimates in (medians, shares):
        expected = np.mean([one.value for one in estimates])
        assert 0.88 < np.mean([one.low <= expected <= one.high for one in estimates]) <= 1
        # Nor are they so wide that they would hold anything.
        assert np.mean([one.high - one.low for one in estimates]) < 6 * np.std(
            [one.value for one in estimates]
        )
