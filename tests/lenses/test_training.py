"""Stacked training: it learns what is there, weighs as it says, and exports what it trained."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lenses.concept import Hierarchy
from lenses.lens import Floats, Lens
from lenses.training import Samples, TrainedLenses, TrainingConfig, incoherence, train

HIDDEN = 24


@pytest.fixture(scope="module")
def hierarchy() -> Hierarchy:
    nodes = [("a", "a", None), ("b", "b", None)]
    nodes += [(f"{top}.{i}", f"{top}.{i}", top) for top in "ab" for i in range(3)]
    return Hierarchy.build(nodes)


@pytest.fixture(scope="module")
def samples(hierarchy: Hierarchy) -> Samples:
    """Texts of one leaf each; a state is a direction of the leaf and one of its parent, and noise."""
    rng = np.random.default_rng(0)
    leaves = [n for n, concept in enumerate(hierarchy) if concept.level == 1]
    directions = rng.normal(size=(len(hierarchy), HIDDEN))
    # One leaf is rare, as concepts are.
    leaf_X = rng.choice(leaves, size=600, p=[0.02, 0.198, 0.196, 0.196, 0.196, 0.194])
    positive_XN = np.zeros((600, len(hierarchy)), bool)
    for x, leaf in enumerate(leaf_X):
        positive_XN[x, list(hierarchy.path(leaf))] = True
    text_S = rng.integers(600, size=1800).astype(np.int32)
    states = positive_XN[text_S] @ directions * 2 + rng.normal(size=(1800, HIDDEN)) + 5
    return Samples(states.astype(np.float32), text_S, positive_XN)


def scores_of(trained: TrainedLenses, hierarchy: Hierarchy, samples: Samples) -> Floats:
    """[S, N] logits, one lens and one state at a time."""
    scores = np.empty((len(samples.text_S), len(hierarchy)), np.float32)
    for n, concept in enumerate(hierarchy):
        first = trained.first_layers[concept.family][concept.row * 8 : (concept.row + 1) * 8]
        lens = Lens.of(concept, first, trained.heads, n)
        scores[:, n] = [lens.logit(torch.from_numpy(state)) for state in samples.states_SD]
    return scores


CONFIG = TrainingConfig(widths=(8, 4), steps=150, batch=256, learning_rate=1e-2)


def test_every_lens_learns_its_concept_rare_ones_too(hierarchy: Hierarchy, samples: Samples) -> None:
    losses: list[float] = []
    trained = train(samples, hierarchy, CONFIG, progress=lambda step, loss: losses.append(loss))
    assert len(losses) == CONFIG.steps
    assert np.mean(losses[-20:]) < 0.5 * np.mean(losses[:20])
    scores = scores_of(trained, hierarchy, samples)
    for scores_S, positive_S in zip(scores.T, samples.positive(slice(None)).T, strict=True):
        above = scores_S[positive_S][:, None] > scores_S[~positive_S]
        assert above.mean() > 0.9


def test_compact_lenses_learn_their_concepts_through_one_projection(
    hierarchy: Hierarchy, samples: Samples
) -> None:
    trained = train(samples, hierarchy, replace(CONFIG, rank=6))
    assert trained.heads.projection is not None
    assert trained.heads.projection.shape == (6, HIDDEN)
    assert all(layer.shape[1] == 6 for layer in trained.first_layers)
    scores = scores_of(trained, hierarchy, samples)
    for scores_S, positive_S in zip(scores.T, samples.positive(slice(None)).T, strict=True):
        above = scores_S[positive_S][:, None] > scores_S[~positive_S]
        assert above.mean() > 0.9


def test_a_distilled_lens_says_what_its_teacher_says_and_not_what_the_labels_say(
    hierarchy: Hierarchy, samples: Samples
) -> None:
    contrary = np.random.default_rng(1).normal(size=(HIDDEN, len(hierarchy))).astype(np.float32)

    def teacher(states_BD: Floats) -> Floats:
        return (states_BD - 5) @ contrary

    student = train(samples, hierarchy, replace(CONFIG, rank=12, steps=300, coherence=0), teacher=teacher)
    said = scores_of(student, hierarchy, samples)
    taught = teacher(samples.states_SD)
    assert ((said > 0) == (taught > 0)).mean() > 0.9
    untaught = scores_of(train(samples, hierarchy, CONFIG), hierarchy, samples)
    assert ((untaught > 0) == (taught > 0)).mean() < 0.7


def test_training_is_deterministic_by_seed(hierarchy: Hierarchy, samples: Samples) -> None:
    short = TrainingConfig(widths=(8, 4), steps=5, batch=64)
    first, second = train(samples, hierarchy, short), train(samples, hierarchy, short)
    other = train(samples, hierarchy, TrainingConfig(widths=(8, 4), steps=5, batch=64, seed=1))
    assert torch.equal(first.first_layers[1], second.first_layers[1])
    assert not torch.equal(first.first_layers[1], other.first_layers[1])


def test_a_siblings_positive_weighs_more_and_a_descendant_is_never_a_negative(hierarchy: Hierarchy) -> None:
    a0, a1, b0 = hierarchy.index("a.0"), hierarchy.index("a.1"), hierarchy.index("b.0")
    positive = torch.zeros(1, len(hierarchy), dtype=torch.bool)
    positive[0, [hierarchy.index("a"), a0]] = True
    weight = sample_weights(positive, torch.from_numpy(hierarchy.parents.astype(np.int64)), 4.0)[0]
    assert weight[a1] == 4.0
    assert weight[b0] == 1.0
    assert weight[a0] == 1.0
    assert bool(positive[0, hierarchy.index("a")])  # the text of a child is a positive of its parent


def test_only_a_child_that_is_surer_than_its_parent_is_incoherent() -> None:
    parents = torch.tensor([-1, -1, 0, 0])
    logits = torch.tensor([[1.0, 9.0, 3.0, 0.5], [2.0, -9.0, 1.0, 2.0]])
    assert float(incoherence(logits, parents)) == pytest.approx((3.0 - 1.0) ** 2 / 2)


def test_coherence_makes_fewer_children_surer_than_their_parents(
    hierarchy: Hierarchy, samples: Samples
) -> None:
    def excess(coherence: float) -> float:
        config = TrainingConfig(widths=(8, 4), steps=60, batch=128, coherence=coherence)
        trained = train(samples, hierarchy, config)
        logits = scores_of(trained, hierarchy, samples)
        return float(
            incoherence(torch.from_numpy(logits), torch.from_numpy(hierarchy.parents.astype(np.int64)))
        )

    assert excess(10.0) < 0.5 * excess(0.0)
