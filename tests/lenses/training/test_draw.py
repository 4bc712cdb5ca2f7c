"""Each lens's samples: what they are, and that their weights mean what they say."""

import numpy as np

from lenses.concept import Hierarchy
from lenses.training import Samples
from lenses.training.draw import Draw

WEIGHT = 4.0


def draw_of(samples: Samples, hierarchy: Hierarchy) -> Draw:
    return Draw(samples, hierarchy, 16, 8, WEIGHT, np.random.default_rng(0))


def test_own_samples_are_positives_and_the_parents_are_its_own(
    hierarchy: Hierarchy, samples: Samples
) -> None:
    draw = draw_of(samples, hierarchy)
    picked = draw()
    positive, _ = draw.labels(picked)
    assert picked.shape == (len(hierarchy), 32)
    assert (picked[:, : draw.shared] == picked[0, : draw.shared]).all()
    own = slice(draw.shared, draw.shared + draw.own)
    assert positive[:, own].all()
    for n, parent in enumerate(hierarchy.parents):
        if parent >= 0:
            assert (picked[n, draw.shared + draw.own :] == picked[parent, own]).all()


def test_labels_are_those_of_the_samples_texts(hierarchy: Hierarchy, samples: Samples) -> None:
    draw = draw_of(samples, hierarchy)
    picked = draw()
    positive, _ = draw.labels(picked)
    for n in range(len(hierarchy)):
        assert (positive[n] == samples.positive(picked[n])[:, n]).all()


def test_over_many_draws_classes_count_half_and_a_sibling_as_much_as_asked(
    hierarchy: Hierarchy, samples: Samples
) -> None:
    """The weight of each kind, summed over draws, against the shares that a plain count of the draw's rule gives."""
    draw = draw_of(samples, hierarchy)
    mass = np.zeros((len(hierarchy), 3))
    rounds = 400
    for _ in range(rounds):
        picked = draw()
        positive, weight = draw.labels(picked)
        for n, parent in enumerate(hierarchy.parents):
            labels = samples.positive(picked[n])
            under = labels[:, parent] & ~positive[n] if parent >= 0 else np.zeros(32, bool)
            for kind, some in enumerate((positive[n], under, ~positive[n] & ~under)):
                mass[n, kind] += weight[n, some].sum() / (32 * rounds)
    positive_SN = samples.positive(slice(None))
    texts = [np.flatnonzero(samples.positive_XN[:, n]) for n in range(len(hierarchy))]
    for n, parent in enumerate(hierarchy.parents):
        assert abs(mass[n, 0] - 0.5) < 0.05
        assert abs(mass[n].sum() - 1) < 0.06
        if parent >= 0:
            by_concept = np.mean(
                [samples.positive_XN[some][:, [n, parent]].mean(axis=0) for some in texts], axis=0
            )
            own, above = (positive_SN[:, [n, parent]].mean(axis=0) + by_concept) / 2
            siblings, others = WEIGHT * (above - own), 1 - above
            assert abs(mass[n, 1] - 0.5 * siblings / (siblings + others)) < 0.05


def test_a_concept_without_texts_is_drawn_negatives_only(hierarchy: Hierarchy, samples: Samples) -> None:
    rare = hierarchy.index("b.2")
    without = samples.positive_XN.copy()
    without[:, rare] = False
    draw = draw_of(Samples(samples.states_SD, samples.text_S, without), hierarchy)
    positive, weight = draw.labels(draw())
    assert not positive[rare].any()
    assert np.isfinite(weight).all()
    assert 0 < weight[rare].mean() < 1.5
