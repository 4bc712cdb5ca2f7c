"""What a card says: each number against its slow definition, and the walk against the policy that walks."""

from dataclasses import replace

import numpy as np
import pytest

from lenses.calibration import log_odds, sigmoid
from lenses.concept import Hierarchy
from lenses.config import LensConfig
from lenses.lens import Heads
from lenses.measure import Scored, Walk, measure, walked
from lenses.null import Null
from runtime.expansion import Expansion
from runtime.training.walks import walk as slow_walk
from tests.packs import random_heads, tree_nodes


def plain_heads(count: int) -> Heads:
    heads = random_heads(count, LensConfig("mlp", (4, 3)), 8, np.random.default_rng(0))
    return replace(
        heads,
        platt_slope=np.ones(count, np.float32),
        platt_offset=np.zeros(count, np.float32),
        calibrated=np.ones(count, np.bool_),
    )


def scored_texts(positive_XN: np.ndarray, *, seed: int = 0, told: float = 3.0) -> Scored:
    """Three samples a text. Mid-text there is nothing but noise: only the last position tells."""
    rng = np.random.default_rng(seed)
    texts = len(positive_XN)
    text_S = np.repeat(np.arange(texts), 3).astype(np.int32)
    last_S = np.arange(3 * texts) % 3 == 2
    logits_SN = rng.normal(size=(3 * texts, positive_XN.shape[1])).astype(np.float32)
    logits_SN += told * last_S[:, None] * positive_XN[text_S]
    return Scored(logits_SN.astype(np.float32), text_S, last_S, positive_XN)


def test_what_was_measured_is_written_to_its_concept() -> None:
    hierarchy = Hierarchy.build([(id, id, None) for id in ("known", "crooked", "rare")])
    positive_XN = np.arange(400)[:, None] < [40, 60, 9]
    heads = replace(plain_heads(3), calibrated=np.array([True, False, True]))
    part = scored_texts(positive_XN)
    (known, crooked, rare), same = measure(hierarchy, heads, part)
    assert same is heads
    assert rare.metrics == {"positives": 9}
    assert known.metrics["auroc"] > 0.95
    assert known.metrics["auroc_sampled"] < 0.85
    assert known.metrics["auroc_siblings"] > 0.95  # from the twenty that are only crooked
    assert known.threshold is not None
    passed = sigmoid(part.logits_SN[part.last_S, 0]) >= known.threshold
    assert passed[~positive_XN[:, 0]].sum() == 3  # one in a hundred of 360
    assert round(float(passed[:40].mean()), 4) == known.metrics["tpr_at_1fpr"]
    assert (crooked.threshold, rare.threshold) == (None, None)  # no probability to set it on


def test_parts_controls_confusions_and_null_thresholds_each_have_their_names() -> None:
    hierarchy = Hierarchy.build([(id, id, None) for id in ("a", "b", "rare")])
    positive_XN = (np.arange(400)[:, None] >= [0, 200, 0]) & (np.arange(400)[:, None] < [60, 260, 9])
    slope, offset = np.full(3, 2, np.float32), np.full(3, -5, np.float32)
    heads = replace(plain_heads(3), platt_slope=slope, platt_offset=offset)
    part = scored_texts(positive_XN, told=5.0)
    logits_SN = part.logits_SN.copy()
    logits_SN[:, 0] += 2 * positive_XN[part.text_S, 1]  # a fires on the texts of b
    part = replace(part, logits_SN=logits_SN)
    null = Null(3, most_tokens=2000)
    null.add(np.random.default_rng(1).normal(size=(2000, 3)).astype(np.float32), np.arange(2000) // 4)
    (a, b, rare), made = measure(
        hierarchy,
        heads,
        part,
        null=null,
        others={"style": scored_texts(positive_XN, seed=2, told=2.0)},
        controls={"bag_of_words": -logits_SN},
        walk=Walk((0,), 10, 0.3),
    )
    assert a.metrics["control_bag_of_words"] == pytest.approx(1 - a.metrics["auroc"], abs=1e-4)
    assert a.metrics["style_auroc"] < a.metrics["auroc"]
    assert a.metrics["style_positives"] == 60
    at_b = sigmoid(2 * logits_SN[part.last_S, 0] - 5)[200:260].mean()
    assert a.metrics["confusion:b"] == pytest.approx(at_b, abs=1e-4)
    assert a.metrics["confusion:b"] > b.metrics["confusion:a"]
    assert a.metrics["walk_recall"] == 1.0  # the base is always scored
    assert a.metrics["null_texts"] == rare.metrics["null_texts"] == 500
    assert "auroc" not in rare.metrics
    assert "null_token_1fpr" in rare.metrics
    assert not any(name.startswith("style_") for name in rare.metrics)
    assert made.alarm_curve is not None
    assert made.alarm_curve.shape[1] == 3


@pytest.mark.parametrize("top_k", [1, 2, 50])
@pytest.mark.parametrize("base", [(0,), (0, 1)])
def test_many_positions_are_walked_as_the_policy_walks_one(top_k: int, base: tuple[int, ...]) -> None:
    hierarchy = Hierarchy.build(tree_nodes((3, 2, 3, 2)))
    rng = np.random.default_rng(top_k)
    heads = random_heads(len(hierarchy), LensConfig("mlp", (4, 3)), 8, rng)
    logits = np.round(rng.normal(size=(60, len(hierarchy))), 1).astype(np.float32)  # with ties
    policy = Expansion(hierarchy, heads, top_k, 0.4, hierarchy.depth - 1)
    odds = log_odds(logits, heads.platt_slope, heads.platt_offset)
    found = walked(hierarchy, odds, Walk(base, top_k, 0.4))
    assert (found == slow_walk(policy, base, logits).scored_PN).all()
    assert not found.all()
