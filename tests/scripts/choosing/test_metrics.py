"""What a choice is measured by, against counting pairs."""

import numpy as np
import pytest
from choosing.metrics import metrics

from lenses.concept import Hierarchy
from lenses.errors import ConfigError
from lenses.training import Samples

NODES = [("a", "a", None), ("b", "b", None), ("a-1", "a-1", "a"), ("a-2", "a-2", "a")]


def made(texts: int = 60) -> tuple[Hierarchy, Samples, np.ndarray, np.ndarray]:
    """Two samples a text, the second its last; texts in turn of a-1, a-2, b, and every fifth of nothing."""
    hierarchy = Hierarchy.build(NODES)
    positive = np.zeros((texts, 4), np.bool_)
    for x in range(texts):
        if x % 5 != 4:
            of = ("a-1", "a-2", "b")[x % 3]
            positive[x, hierarchy.index(of)] = True
            positive[x, hierarchy.index("a")] = of != "b"
    text = np.repeat(np.arange(texts), 2).astype(np.int32)
    rng = np.random.default_rng(0)
    scores = (rng.normal(size=(2 * texts, 4)) + positive[text]).round(1).astype(np.float32)
    last = np.tile([False, True], texts)
    return hierarchy, Samples(np.zeros((2 * texts, 1), np.float32), text, positive), last, scores


def pairs(scores: np.ndarray, positive: np.ndarray) -> float:
    difference = scores[positive][:, None] - scores[~positive][None, :]
    return float(((difference > 0) + (difference == 0) / 2).mean())


def test_auroc_is_the_share_of_pairs_in_order_at_each_place_and_against_siblings() -> None:
    hierarchy, samples, last, scores = made()
    found = metrics(hierarchy, scores, samples, last)
    positive = samples.positive(slice(None))
    expected: dict[str, list[float]] = {}
    for n, concept in enumerate(hierarchy):
        family = [m for m, other in enumerate(hierarchy) if other.parent == concept.parent]
        near = positive[:, family].any(axis=1)
        for place, rows in (("text", last), ("sampled", np.ones(len(last), np.bool_))):
            expected.setdefault(f"auroc_{place}", []).append(pairs(scores[rows, n], positive[rows, n]))
            rows = rows & near
            expected.setdefault(f"auroc_{place}_siblings", []).append(
                pairs(scores[rows, n], positive[rows, n])
            )
    assert found["lenses"] == 4
    for name, values in expected.items():
        assert found[f"{name}_median"] == pytest.approx(np.median(values))
        assert found[f"{name}_p10"] == pytest.approx(np.quantile(values, 0.1))
    assert found["score"] == pytest.approx(np.mean([np.median(values) for values in expected.values()]))
    assert not any(name.startswith("brier") for name in found)


def test_texts_without_a_sample_change_nothing() -> None:
    hierarchy, samples, last, scores = made()
    half = samples.text_S < 40
    some = Samples(samples.states_SD[half], samples.text_S[half], samples.positive_XN)
    alone = Samples(samples.states_SD[half], samples.text_S[half], samples.positive_XN[:40])
    assert metrics(hierarchy, scores[half], some, last[half]) == metrics(
        hierarchy, scores[half], alone, last[half]
    )


def test_probabilities_are_judged_where_they_are_given() -> None:
    hierarchy, samples, last, scores = made()
    certain = samples.positive(slice(None)).astype(np.float32)
    found = metrics(hierarchy, scores, samples, last, certain)
    assert found["brier_skill_text_median"] == found["brier_skill_sampled_median"] == 1
    assert found["calibration_error_text_median"] == found["calibration_error_sampled_median"] == 0
    other = metrics(hierarchy, scores, samples, last, 1 - certain)
    assert other["brier_skill_text_median"] < 0 < other["calibration_error_text_median"]


def test_too_few_texts_are_an_error_that_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match="larger --sample"):
        metrics(*(made(12)[at] for at in (0, 3, 1, 2)))
