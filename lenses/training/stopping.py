"""Early stopping, a lens at a time: every lens keeps the weights with which it told validation states best.

Every lens is asked about fixed validation samples of its own: up to 64 of its positives, and so many of its negatives
that they are eight times the batch together. Its AUROC on these is computed for all lenses at once. A lens that has not
improved for `patience` looks is finished, and training ends when all are. Lenses without a validation positive (or
negative) keep their last weights and wait for the others.

Compact lenses share a projection, which can be kept once only: they improve together, by their mean AUROC.

Shapes: N lenses, P positives and M negatives of a lens (the most that any has), K coordinates.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from lenses.training.samples import Samples
from lenses.training.stack import Stack

_POSITIVES, _BATCHES = 64, 8
Bools = NDArray[np.bool_]


def areas(
    positives_NP: torch.Tensor, negatives_NM: torch.Tensor, present_NP: torch.Tensor, present_NM: torch.Tensor
) -> torch.Tensor:
    """[N] AUROC of every lens from the scores that are present, ties counted one half; nan where a class is missing."""
    # What is absent ranks above every positive, and so never counts as below one.
    ranked = negatives_NM.masked_fill(~present_NM, torch.inf).sort(dim=1).values
    scores = positives_NP.contiguous()
    below = torch.searchsorted(ranked, scores) + torch.searchsorted(ranked, scores, right=True)
    return (below * present_NP).sum(dim=1) / (2 * present_NP.sum(dim=1) * present_NM.sum(dim=1))


class Best:
    """The best weights of each lens so far."""

    def __init__(
        self,
        samples: Samples,
        states_SK: torch.Tensor,
        stack: Stack,
        batch: int,
        patience: int,
        rng: np.random.Generator,
    ) -> None:
        self._states_SK, self._stack, self._batch, self._patience = states_SK, stack, batch, patience
        device = states_SK.device
        picked = [_pick(samples, n, _BATCHES * batch, rng) for n in range(samples.positive_XN.shape[1])]
        split = max(len(positives) for positives, _ in picked)
        rest = max(len(negatives) for _, negatives in picked)
        width = -(-(split + rest) // batch) * batch
        index = np.zeros((len(picked), width), np.int64)
        present = np.zeros((len(picked), width), np.bool_)
        for n, (positives, negatives) in enumerate(picked):
            index[n, : len(positives)] = positives
            present[n, : len(positives)] = True
            index[n, split : split + len(negatives)] = negatives
            present[n, split : split + len(negatives)] = True
        self._split = split
        self._index = torch.from_numpy(index).to(device)
        self._present = torch.from_numpy(present).to(device)
        self._kept = {name: weight.clone() for name, weight in stack.weights.items()}
        self._looks_since = torch.zeros(len(picked), dtype=torch.int64, device=device)
        self.area_N = torch.full((len(picked),), -torch.inf, device=device)
        """[N] the best AUROC of each lens; -inf where it cannot be told."""

    def look(self, gather: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> bool:
        """Score the validation samples, keep what improved; whether any lens may still improve.

        `gather(states_SK, index_NB)` gives the states of these samples, `[N, B, K]`.
        """
        logits = torch.cat(
            [
                self._stack.score(gather(self._states_SK, index))
                for index in self._index.split(self._batch, dim=1)
            ],
            dim=1,
        )
        split, present = self._split, self._present
        area_N = areas(logits[:, :split], logits[:, split:], present[:, :split], present[:, split:])
        known = ~area_N.isnan()
        area_N = torch.where(known, area_N, -torch.inf)
        if "projection" in self._stack.weights:
            mean = area_N[known].mean() if known.any() else area_N[0]
            area_N = torch.where(known, mean, -torch.inf)
        # A finished lens stays finished: the later looks would only choose among accidents.
        open_N = self._looks_since < self._patience
        improved = known & open_N & (area_N > self.area_N)
        self.area_N = torch.where(improved, area_N, self.area_N)
        self._looks_since = torch.where(improved, 0, self._looks_since + 1)
        for name, weight in self._stack.weights.items():
            if name != "projection":
                self._kept[name][improved] = weight[improved]
            elif improved.any():
                self._kept[name].copy_(weight)
        return bool((known & (self._looks_since < self._patience)).any())

    def restore(self) -> None:
        """Give every lens that could be told its best weights back."""
        told = self.area_N > -torch.inf
        for name, weight in self._stack.weights.items():
            if name != "projection":
                weight[told] = self._kept[name][told]
            elif told.any():
                weight.copy_(self._kept[name])


def _pick(
    samples: Samples, lens: int, most: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Validation samples of a lens, positives and negatives."""
    positive_S = samples.positive_XN[:, lens][samples.text_S]
    positives, negatives = np.flatnonzero(positive_S), np.flatnonzero(~positive_S)
    positives = rng.permutation(positives)[: min(_POSITIVES, most // 2)]
    return positives, rng.permutation(negatives)[: most - len(positives)]
