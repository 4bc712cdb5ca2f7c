"""Scores to hold a lens against, each made from the same input states or texts as the lens.

    shuffled        lenses of the same shape, trained by the same program for a short while, on labels dealt out anew
                    among the texts: what a lens-shaped score reaches when there is nothing to learn
    random          one random direction a lens, its sign chosen on training states
    linear          ridge regression on the same states
    bag of words    see `judging.bag_of_words`

Knows states and labels, nothing about hosts or pages.

Shapes: S samples, D hidden size, N lenses.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from judging.ridge import Moments
from lenses.bank import Bank
from lenses.concept import Hierarchy
from lenses.config import HostConfig, InputConfig, LensConfig
from lenses.lens import Floats
from lenses.pack import LensPack
from lenses.training import Samples, TrainedLenses, TrainingConfig, train

RIDGE_PENALTY = 1e-3
SHUFFLED_STEPS = 100
_CHUNK = 16_384


class ServedLenses:
    """Scores of some lenses of a pack, a few families at a time, by the bank's torch back end.

    It multiplies matrices, which for many thousands of states is several times faster than the kernel that serves
    one; logits differ in the last bits.
    """

    def __init__(self, pack: LensPack) -> None:
        self._pack = pack

    def score(self, states_SD: Floats, ids: Sequence[str]) -> Floats:
        """[S, ids] logits of the lenses of these concepts."""
        hierarchy = self._pack.hierarchy
        concepts = [hierarchy.index(id) for id in ids]
        bank = Bank(self._pack, sorted({hierarchy.concepts[n].family for n in concepts}), backend="torch")
        column = {int(n): at for at, n in enumerate(bank.base_ids)}
        columns = [column[n] for n in concepts]
        parts = [
            bank.score_base(bank.inputs(states_SD[start : start + _CHUNK]))[:, columns]
            for start in range(0, len(states_SD), _CHUNK)
        ]
        bank.close()
        return np.concatenate(parts)


@dataclass(frozen=True, slots=True)
class Directions:
    """One direction of the input state for each lens: a random one, or the one that ridge regression found."""

    weight_DN: Floats

    def score(self, states_SD: Floats, lenses: slice) -> Floats:
        """[S, lenses] scores."""
        scored: Floats = states_SD @ np.ascontiguousarray(self.weight_DN[:, lenses])
        return scored


def linear_and_random(samples: Samples, seed: int) -> tuple[Directions, Directions]:
    """Ridge regression on the samples, and random directions that point from the negatives' side to the positives'."""
    hidden, count = samples.states_SD.shape[1], samples.positive_XN.shape[1]
    moments = Moments(hidden, count)
    for start in range(0, len(samples.text_S), _CHUNK):
        some = slice(start, start + _CHUNK)
        moments.add(torch.from_numpy(samples.states_SD[some]), torch.from_numpy(samples.positive(some)))
    random_DN = np.random.default_rng(seed).normal(size=(hidden, count)).astype(np.float32)
    # The covariance of a state with a label has the sign of the difference of the classes' means.
    covariance_DN = moments.cross_DN - torch.outer(moments.sum_D, moments.sum_N / moments.count).float()
    towards_N = np.einsum("dn,dn->n", random_DN, covariance_DN.numpy())
    return (
        Directions(moments.solve(RIDGE_PENALTY).numpy()),
        Directions((random_DN * np.where(towards_N < 0, -1, 1)).astype(np.float32)),
    )


def shuffled(samples: Samples, pack: LensPack, concepts: Sequence[int], scratch: Path, seed: int) -> LensPack:
    """A pack of lenses of these concepts, trained on shuffled labels; the columns of `samples` are in their order.

    Whole rows of labels change texts: how many positives a concept has, and which concepts go together, stays.
    """
    rng = np.random.default_rng(seed)
    column = {pack.hierarchy.concepts[n].id: m for m, n in enumerate(concepts)}
    hierarchy = Hierarchy.build(
        (concept.id, concept.name, concept.parent if concept.parent in column else None)
        for concept in pack.hierarchy
        if concept.id in column
    )
    order = [column[concept.id] for concept in hierarchy]
    dealt_XN = samples.positive_XN[rng.permutation(len(samples.positive_XN))][:, order]
    widths = pack.config.lens.widths or TrainingConfig().widths
    training = TrainingConfig(widths=(widths[0], widths[1]), steps=SHUFFLED_STEPS, seed=seed)
    trained = train(Samples(samples.states_SD, samples.text_S, dealt_XN), hierarchy, training)
    return pack_of(trained, hierarchy, training, scratch / "shuffled")


def pack_of(
    trained: TrainedLenses, hierarchy: Hierarchy, training: TrainingConfig, directory: Path
) -> LensPack:
    """Trained lenses as a pack that serves no host, first layers as they are stored."""
    return LensPack.create(
        directory,
        host=HostConfig("none", None, trained.first_layers[0].shape[1], 1, "fp32"),
        site="resid_post.0",
        input=InputConfig(),
        lens=LensConfig("mlp", training.widths),
        base_levels=(0,),
        hierarchy=hierarchy,
        first_layers=[layer.to(torch.bfloat16) for layer in trained.first_layers],
        heads=trained.heads,
    )
