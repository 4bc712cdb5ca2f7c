"""Stacked training: it learns what is there, weighs as it says, and exports what it trained."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lenses.concept import Hierarchy
from lenses.config import LensConfig
from lenses.errors import ConfigError, HierarchyError
from lenses.lens import Floats, Heads, Lens
from lenses.training import Samples, TrainedLenses, TrainingConfig, fit_linear, incoherence, train

HIDDEN = 24


def scores_of(trained: TrainedLenses, hierarchy: Hierarchy, samples: Samples) -> Floats:
    """[S, N] logits, one lens and one state at a time."""
    h1 = trained.heads.bias1.shape[1]
    scores = np.empty((len(samples.text_S), len(hierarchy)), np.float32)
    for n, concept in enumerate(hierarchy):
        first = trained.first_layers[concept.family][concept.row * h1 : (concept.row + 1) * h1]
        lens = Lens.of(concept, first, trained.heads, n)
        scores[:, n] = [lens.logit(torch.from_numpy(state)) for state in samples.states_SD]
    return scores


def areas_of(trained: TrainedLenses, hierarchy: Hierarchy, samples: Samples) -> Floats:
    """[N] AUROC, pair by pair."""
    some = Samples(samples.states_SD[::6], samples.text_S[::6], samples.positive_XN)
    scores, positive = scores_of(trained, hierarchy, some), some.positive(slice(None))
    pairs = zip(scores.T, positive.T, strict=True)
    return np.array([(s[p][:, None] > s[~p]).mean() for s, p in pairs], np.float32)


CONFIG_LINEAR = LensConfig("linear", ())
CONFIG = TrainingConfig(widths=(8, 4), steps=100, learning_rate=1e-2)


def test_every_lens_learns_its_concept_rare_ones_too(hierarchy: Hierarchy, samples: Samples) -> None:
    losses: list[float] = []
    trained = train(samples, hierarchy, CONFIG, progress=lambda step, loss: losses.append(loss))
    assert len(losses) == CONFIG.steps
    assert np.mean(losses[-20:]) < 0.5 * np.mean(losses[:20])
    assert areas_of(trained, hierarchy, samples).min() > 0.9


def test_compact_lenses_learn_their_concepts_through_one_projection(
    hierarchy: Hierarchy, samples: Samples
) -> None:
    trained = train(samples, hierarchy, replace(CONFIG, rank=6))
    assert trained.heads.projection is not None
    assert trained.heads.projection.shape == (6, HIDDEN)
    assert all(layer.shape[1] == 6 for layer in trained.first_layers)
    assert areas_of(trained, hierarchy, samples).min() > 0.9


def test_a_distilled_lens_says_what_its_teacher_says_and_not_what_the_labels_say(
    hierarchy: Hierarchy, samples: Samples
) -> None:
    contrary = np.random.default_rng(1).normal(size=(HIDDEN, len(hierarchy))).astype(np.float32)

    def teacher(states_BD: Floats) -> Floats:
        return (states_BD - 5) @ contrary

    student = train(samples, hierarchy, replace(CONFIG, rank=12, steps=300, coherence=0), teacher=teacher)
    some = Samples(samples.states_SD[::6], samples.text_S[::6], samples.positive_XN)
    said = scores_of(student, hierarchy, some)
    taught = teacher(some.states_SD)
    assert ((said > 0) == (taught > 0)).mean() > 0.9
    untaught = scores_of(train(samples, hierarchy, CONFIG), hierarchy, some)
    assert ((untaught > 0) == (taught > 0)).mean() < 0.7


def test_training_is_deterministic_by_seed(hierarchy: Hierarchy, samples: Samples) -> None:
    short = TrainingConfig(widths=(8, 4), steps=5, shared=8, own=4)
    first, second = train(samples, hierarchy, short), train(samples, hierarchy, short)
    other = train(samples, hierarchy, TrainingConfig(widths=(8, 4), steps=5, shared=8, own=4, seed=1))
    assert torch.equal(first.first_layers[1], second.first_layers[1])
    assert not torch.equal(first.first_layers[1], other.first_layers[1])


def test_only_a_child_that_is_surer_than_its_parent_is_incoherent() -> None:
    parents = torch.tensor([-1, -1, 0, 0])
    logits = torch.tensor([[1.0, 9.0, 3.0, 0.5], [2.0, -9.0, 1.0, 2.0]])
    assert float(incoherence(logits, parents)) == pytest.approx((3.0 - 1.0) ** 2 / 2)


def test_coherence_makes_fewer_children_surer_than_their_parents(
    hierarchy: Hierarchy, samples: Samples
) -> None:
    def excess(coherence: float) -> float:
        config = TrainingConfig(widths=(8, 4), steps=60, shared=64, own=32, coherence=coherence)
        trained = train(samples, hierarchy, config)
        logits = scores_of(trained, hierarchy, samples)
        return float(
            incoherence(torch.from_numpy(logits), torch.from_numpy(hierarchy.parents.astype(np.int64)))
        )

    assert excess(10.0) < 0.5 * excess(0.0)


def test_linear_lenses_learn_in_the_same_loop(hierarchy: Hierarchy, samples: Samples) -> None:
    trained = train(samples, hierarchy, replace(CONFIG, widths=()))
    assert trained.heads.tensors().keys() == Heads.shapes(CONFIG_LINEAR, HIDDEN, len(hierarchy)).keys()
    assert areas_of(trained, hierarchy, samples).min() > 0.9


def test_lenses_trained_in_fewer_directions_read_plain_states(hierarchy: Hierarchy, samples: Samples) -> None:
    trained = train(samples, hierarchy, replace(CONFIG, span=12))
    assert all(layer.shape[1] == HIDDEN for layer in trained.first_layers)
    assert areas_of(trained, hierarchy, samples).min() > 0.9


def test_a_lens_that_needs_what_the_span_leaves_out_is_the_linear_one(
    hierarchy: Hierarchy, samples: Samples
) -> None:
    narrow = replace(CONFIG, span=2, steps=20)
    linear = fit_linear(samples, hierarchy)
    without = areas_of(train(samples, hierarchy, narrow), hierarchy, samples)
    trained = train(samples, hierarchy, narrow, validation=samples)
    assert without.min() < 0.9 < areas_of(linear, hierarchy, samples).min()
    np.testing.assert_allclose(
        areas_of(trained, hierarchy, samples), areas_of(linear, hierarchy, samples), atol=0.01
    )


def test_a_memory_map_trains_the_same_lenses(hierarchy: Hierarchy, samples: Samples, tmp_path: Path) -> None:
    np.save(tmp_path / "states.npy", samples.states_SD)
    mapped = replace(samples, states_SD=np.load(tmp_path / "states.npy", mmap_mode="r"))
    short = replace(CONFIG, steps=3)
    first, second = train(samples, hierarchy, short), train(mapped, hierarchy, short)
    assert all(map(torch.equal, first.first_layers, second.first_layers))


def test_validation_undoes_what_spoils_a_lens_and_ends_training(
    hierarchy: Hierarchy, samples: Samples
) -> None:
    """Steps of a size that breaks every lens: what is kept are the linear lenses that training began with."""
    wild = replace(CONFIG, learning_rate=30.0, steps=60, looks=30, patience=2, coherence=0)
    taken: list[int] = []
    kept = train(samples, hierarchy, wild, validation=samples, progress=lambda step, loss: taken.append(step))
    spoilt = train(samples, hierarchy, wild)
    assert len(taken) < wild.steps
    assert areas_of(kept, hierarchy, samples).min() > 0.9
    assert areas_of(spoilt, hierarchy, samples).min() < 0.8


def test_a_lens_without_validation_positives_keeps_its_last_weights(
    hierarchy: Hierarchy, samples: Samples
) -> None:
    rare = hierarchy.index("a.0")
    without = samples.positive_XN.copy()
    without[:, rare] = False
    short = replace(CONFIG, steps=20, looks=4, coherence=0)
    validated = train(samples, hierarchy, short, validation=replace(samples, positive_XN=without))
    last = train(samples, hierarchy, short)
    concept = hierarchy.concepts[rare]
    rows = slice(concept.row * 8, (concept.row + 1) * 8)
    assert torch.equal(validated.first_layers[concept.family][rows], last.first_layers[concept.family][rows])


def test_labels_that_contradict_the_hierarchy_are_refused(hierarchy: Hierarchy, samples: Samples) -> None:
    orphaned = samples.positive_XN.copy()
    orphaned[:, hierarchy.index("b")] = False
    with pytest.raises(HierarchyError, match=r"a text of 'b\.0' is not labelled with 'b'"):
        train(replace(samples, positive_XN=orphaned), hierarchy, CONFIG)
    with pytest.raises(HierarchyError, match="labels for 7 concepts, expected the 8"):
        fit_linear(replace(samples, positive_XN=samples.positive_XN[:, 1:]), hierarchy)


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"widths": (8,)}, "no lens"), ({"widths": (), "rank": 4}, "no lens"), ({"own": 0}, "own is 0")],
)
def test_a_configuration_that_cannot_be_is_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        replace(CONFIG, **changed)


@pytest.mark.parametrize(
    ("config", "lens"),
    [
        (TrainingConfig(widths=(128, 64)), LensConfig("mlp", (128, 64))),
        (TrainingConfig(widths=()), LensConfig("linear", ())),
        (TrainingConfig(rank=24), LensConfig("compact", (24, 16, 8))),
    ],
)
def test_a_configuration_says_what_a_pack_holds(config: TrainingConfig, lens: LensConfig) -> None:
    assert config.lens() == lens
