"""Null corpora: rates and thresholds against counting, intervals against drawing anew, promises against new texts."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lenses.alarms import FOLDS, alarm_budget, alarm_curve, alarming
from lenses.concept import Hierarchy
from lenses.config import LensConfig
from lenses.errors import ConfigError
from lenses.lens import Heads
from lenses.null import (
    TOKEN,
    Null,
    Tail,
    effective,
    null_metrics,
    predicted,
    ratio_variance,
)
from tests.packs import random_heads

GOOD = {"auroc": 0.99, "positives": 40}


def texts(
    count: int, lenses: int, rng: np.random.Generator, alike: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of texts of unequal length whose tokens are alike, with a heavier tail than a normal's."""
    lengths = rng.integers(5, 40, count)
    text_T = np.repeat(np.arange(count), lengths)
    own_XN = rng.gumbel(size=(count, lenses))
    logits = math.sqrt(alike) * own_XN[text_T] + math.sqrt(1 - alike) * rng.normal(size=(len(text_T), lenses))
    return logits.astype(np.float32), text_T


def gathered(
    logits: np.ndarray, text_T: np.ndarray, *, most: int = 200_000, cuts: tuple[int, ...] = ()
) -> Null:
    null = Null(logits.shape[1], most_tokens=most)
    for rows, ids in zip(np.split(logits, cuts), np.split(text_T, cuts), strict=True):
        null.add(rows, ids)
    return null


def heads_of(count: int) -> Heads:
    rng = np.random.default_rng(3)
    heads = random_heads(count, LensConfig("mlp", (4, 3)), 8, rng)
    return replace(
        heads, platt_slope=rng.uniform(0.5, 2, count).astype(np.float32), calibrated=np.ones(count, bool)
    )


def measured(null: Null, heads: Heads, card: dict[str, float] = GOOD) -> tuple[Hierarchy, Heads]:
    """Lenses of one grade with what the null corpus says of them."""
    hierarchy = Hierarchy.build([(f"c{n}", f"c{n}", None) for n in range(null.lenses)])
    table = null_metrics(null, heads)
    hierarchy = Hierarchy(replace(c, metrics=card | m) for c, m in zip(hierarchy, table, strict=True))
    return hierarchy, replace(heads, alarm_curve=alarm_curve(null, hierarchy, heads))


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_batches_give_what_counting_over_all_gives(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    logits, text_T = texts(120, 2, rng)
    logits = np.round(logits, data.draw(st.sampled_from([0, 1, 7])))  # with ties, and without
    cuts = tuple(sorted(data.draw(st.lists(st.integers(0, len(text_T)), max_size=4))))
    null = gathered(logits, text_T, most=data.draw(st.sampled_from([len(text_T), 9000])), cuts=cuts)
    assert (null.tokens, null.texts) == (len(text_T), 120)
    highest_X = np.array([logits[text_T == x, 1].max() for x in range(120)])
    for level, values, weights in (
        (TOKEN, logits[:, 1], null.lengths_X),
        ("sequence", highest_X, np.ones(120)),
    ):
        tail = null.tail(level, 1)
        found = tail.threshold(0.01)
        assert found in values
        assert (values > found).mean() <= 0.01
        lower = values[values < found].max()
        assert (values > lower).mean() > 0.01  # the lowest that will do
        assert tail.rate(found).value == pytest.approx((values > found).mean())
        assert tail.count == weights.sum()


def test_a_text_that_comes_again_and_a_corpus_beyond_its_memory_are_refused() -> None:
    null = Null(1, most_tokens=10)
    row = np.zeros((3, 1), np.float32)
    null.add(row, np.array([0, 1, 1]))
    null.add(row, np.array([1, 1, 2]))  # a text may go on in the next batch
    assert null.texts == 3
    with pytest.raises(ValueError, match="text 0 comes again"):
        null.add(row[:1], np.array([0]))
    with pytest.raises(ConfigError, match="more than 10 tokens"):
        null.add(np.zeros((9, 1), np.float32), np.arange(9) + 5)


def test_memory_is_set_by_the_tokens_that_were_announced() -> None:
    rng = np.random.default_rng(0)
    logits, text_T = texts(3000, 1, rng)
    null = gathered(logits, text_T, most=len(text_T), cuts=tuple(range(0, len(text_T), 5000))[1:])
    assert len(null.tail(TOKEN, 0).values_K) == math.ceil(0.03 * len(text_T)) + 1


def test_the_clustered_variance_is_that_of_drawing_texts_anew() -> None:
    rng = np.random.default_rng(5)
    logits, text_T = texts(800, 1, rng, alike=0.8)
    null = gathered(logits, text_T)
    tail = null.tail(TOKEN, 0)
    bound = tail.threshold(0.01)
    above_X = np.bincount(text_T, weights=logits[:, 0] > bound)
    weight_RX = rng.multinomial(800, np.full(800, 1 / 800), size=4000)
    drawn_R = (weight_RX @ above_X) / (weight_RX @ null.lengths_X)
    found = ratio_variance(above_X, null.lengths_X, float(above_X.sum() / len(text_T)))
    assert math.sqrt(found) == pytest.approx(drawn_R.std(), rel=0.1)
    one_by_one = 0.01 * 0.99 / len(text_T)
    assert found > 3 * one_by_one  # or clustering would be for nothing
    size = float(np.square(null.lengths_X).sum() / null.lengths_X.sum())
    effect = 1 + (size - 1) * tail.likeness(bound)
    assert effect == pytest.approx(found / one_by_one, rel=0.05)
    assert effective(null.lengths_X, tail.likeness(bound)) == pytest.approx(len(text_T) / effect)


def test_thresholds_and_rates_of_new_texts_lie_within_their_intervals_as_often_as_promised() -> None:
    rng = np.random.default_rng(7)
    lenses = 80
    first, second = texts(1500, lenses, rng, alike=0.6), texts(900, lenses, rng, alike=0.6)
    endless, _ = texts(25_000, 1, rng, alike=0.6)
    true = np.quantile(endless[:, 0], 0.99)
    null, new = gathered(*first), gathered(*second)
    inside = {"threshold": 0, TOKEN: 0, "sequence": 0}
    for n in range(lenses):
        tail = null.tail(TOKEN, n)
        low, high = tail.interval(0.01)
        inside["threshold"] += low <= true <= high
        likeness = tail.likeness(tail.threshold(0.01))
        for level, alike in ((TOKEN, likeness), ("sequence", 0.0)):
            old, fresh = null.tail(level, n), new.tail(level, n)
            low, high = predicted(0.01, effective(old.weight_X, alike), effective(fresh.weight_X, alike))
            inside[level] += low <= fresh.rate(old.threshold(0.01)).value <= high
    for what, count in inside.items():
        assert count / lenses > 0.88, what
        assert count / lenses < 1.0, what  # not everything is inside an interval of 95 %


def test_what_a_corpus_is_too_small_for_is_left_out() -> None:
    rng = np.random.default_rng(0)
    small, middle, large = (
        null_metrics(gathered(*texts(count, 1, rng)), heads_of(1))[0] for count in (250, 350, 3000)
    )
    assert set(small) == {"null_tokens", "null_texts"}
    assert "null_sequence_1fpr" in middle
    assert "null_sequence_01fpr" not in middle
    assert large["null_sequence_01fpr"] > large["null_sequence_1fpr"] > large["null_token_1fpr"]
    assert large["null_token_1fpr_low"] < large["null_token_1fpr"] < large["null_token_1fpr_high"]


@pytest.mark.parametrize("budget", [3.0, 20.0, 90.0])
def test_a_budget_is_kept_on_new_texts(budget: float) -> None:
    rng = np.random.default_rng(11)
    heads = heads_of(30)
    hierarchy, heads = measured(gathered(*texts(2000, 30, rng)), heads)
    found = alarm_budget(hierarchy, heads, budget)
    assert found.lenses == 30
    assert 0.3 * budget < found.expected < found.at_most <= budget
    fresh, text_T = texts(2000, 30, rng)
    alarms = fresh * heads.platt_slope + heads.platt_offset > found.threshold_N
    rate = 1000 * alarms.sum() / len(text_T)
    assert 0.5 * found.expected < rate < budget
    per_lens = alarms.mean(axis=0)
    assert per_lens.max() < 12 * max(per_lens.mean(), 1e-3)  # no lens takes it all


def test_expected_alarms_are_counted_on_texts_that_thresholds_have_not_seen() -> None:
    rng = np.random.default_rng(2)
    logits, text_T = texts(600, 12, rng, alike=0.8)
    hierarchy, heads = measured(gathered(logits, text_T), heads_of(12))
    assert heads.alarm_curve is not None
    budgets = [alarm_budget(hierarchy, heads, budget) for budget in (20.0, 50.0, 1e6)]
    for found in budgets:
        counted = 0
        for fold in range(FOLDS):
            own = text_T % FOLDS == fold
            for lens in range(12):
                rest = np.sort(logits[~own, lens].astype(np.float64))[::-1]
                bound = rest[math.floor(0.01 * len(rest))]
                scale = (rest[rest > bound] - bound).mean()
                counted += (logits[own, lens] > bound + found.scale * scale).sum()
        assert found.expected == pytest.approx(1000 * counted / len(text_T), rel=0.01, abs=0.1)
    assert budgets[-1].scale == 0  # every lens at 1 % of the tokens
    assert heads.alarm_curve[-1, 1] == 0
    assert (np.diff(heads.alarm_curve[:, 1]) <= 0).all()
    assert (np.diff(heads.alarm_curve[:, 2]) <= 0).all()
    # Where few texts gave the thresholds, counting on these very texts promises too much.
    odds = logits.astype(np.float64) * heads.platt_slope + heads.platt_offset
    seen = 1000 * (odds > budgets[0].threshold_N.astype(np.float64)).sum() / len(text_T)
    assert seen < 0.8 * budgets[0].expected


def test_lenses_that_failed_or_were_not_measured_never_alarm() -> None:
    rng = np.random.default_rng(4)
    null = gathered(*texts(1200, 4, rng))
    hierarchy, heads = measured(null, heads_of(4))
    cards = [GOOD, {"auroc": 0.5, "positives": 40}, {"positives": 3}, GOOD]
    concepts = [replace(c, metrics={**c.metrics, **card}) for c, card in zip(hierarchy, cards, strict=True)]
    concepts[2] = replace(concepts[2], metrics={k: v for k, v in concepts[2].metrics.items() if k != "auroc"})
    mixed = Hierarchy(concepts)
    heads = replace(heads, calibrated=np.array([True, True, True, False]))
    assert alarming(mixed, heads).tolist() == [True, False, False, False]
    found = alarm_budget(mixed, heads, 30)
    assert np.isfinite(found.threshold_N).tolist() == [True, False, False, False]
    assert found.lenses == 1


def test_without_a_null_corpus_no_lens_alarms_and_too_small_a_budget_is_refused() -> None:
    rng = np.random.default_rng(4)
    hierarchy, heads = measured(gathered(*texts(1200, 4, rng)), heads_of(4))
    none = alarm_budget(hierarchy, replace(heads, alarm_curve=None), 5)
    assert (none.lenses, none.at_most) == (0, 0)
    assert np.isinf(none.threshold_N).all()
    with pytest.raises(ConfigError, match="less than the pack's null corpus can promise") as caught:
        alarm_budget(hierarchy, heads, 1e-4)
    least = float(str(caught.value).rpartition(" ")[2])
    assert alarm_budget(hierarchy, heads, least).at_most <= least
    for wrong in (0, -1, math.nan, math.inf):
        with pytest.raises(ConfigError, match="cannot be"):
            alarm_budget(hierarchy, heads, wrong)


def test_predicted_widens_with_fewer_samples_and_holds_the_rate() -> None:
    wide, narrow = predicted(0.01, 1000, 300), predicted(0.01, 100_000, 100_000)
    assert wide[0] <= narrow[0] < 0.01 < narrow[1] < wide[1]
    assert Tail(np.zeros(5, np.float32), np.arange(5), np.ones(5)).excess(0.0) is None


def test_the_share_above_a_threshold_is_less_than_the_rate_where_many_have_one_score() -> None:
    """Texts that begin alike have one score there: nothing can be put between them."""
    logits = np.random.default_rng(0).normal(size=(4000, 2)).astype(np.float32)
    logits[:120, 1] = 9.0
    null = Null(2, most_tokens=4000)
    null.add(logits, np.arange(4000))
    smooth, alike = (null.tail("token", n) for n in range(2))
    assert smooth.share(smooth.threshold(0.01)) == 0.01
    assert alike.share(alike.threshold(0.01)) == 0.0
    assert alike.share(alike.threshold(0.03)) == 0.03
    assert smooth.rate(smooth.threshold(0.01)).value == 0.01
