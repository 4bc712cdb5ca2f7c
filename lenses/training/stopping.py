"""Early stopping, a lens at a time: every lens keeps what told validation states well.

Every lens is asked about 512 fixed validation samples of its own: up to 64 of its positives; of the rest, a third its
siblings' positives and the others any negatives. What counts is the mean of two AUROCs, against any negative and
against siblings alone: by the first alone lenses would forget to tell siblings apart. Both are computed for all lenses
at once.

So few samples make an AUROC that trembles, and later weights are the calmer ones. So a lens takes the later weights
unless they are `TOLERANCE` below its best; when that has been so for `patience` looks on end it is finished, and
training ends when all are. Lenses without a validation positive (or negative) keep their last weights and wait for the
others.

Compact lenses share a projection, which can be kept once only: they improve together, by the mean over lenses.

Shapes: N lenses, P positives and M negatives of a lens (the most that any has), V all of these, K coordinates.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from lenses.concept import Hierarchy
from lenses.training.samples import Samples
from lenses.training.stack import Stack

_POSITIVES, _SAMPLES = 64, 512
_BATCH = 64
"""Samples of each lens that are scored at a time."""
TOLERANCE = 0.005
Ints = NDArray[np.int64]


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
        hierarchy: Hierarchy,
        states_SK: torch.Tensor,
        stack: Stack,
        patience: int,
        rng: np.random.Generator,
    ) -> None:
        self._states_SK, self._stack, self._patience = states_SK, stack, patience
        device = states_SK.device
        picked = [_pick(samples, n, int(parent), _SAMPLES, rng) for n, parent in enumerate(hierarchy.parents)]
        self._widths = [max(len(kinds[kind]) for kinds in picked) for kind in range(3)]
        width = -(-sum(self._widths) // _BATCH) * _BATCH
        index_NV = np.zeros((len(picked), width), np.int64)
        present_NV = np.zeros((len(picked), width), np.bool_)
        for n, kinds in enumerate(picked):
            for some, start in zip(kinds, np.cumsum([0, *self._widths]), strict=False):
                index_NV[n, start : start + len(some)] = some
                present_NV[n, start : start + len(some)] = True
        self._index_NV = torch.from_numpy(index_NV).to(device)
        self._present_NV = torch.from_numpy(present_NV).to(device)
        self._kept = {name: weight.clone() for name, weight in stack.weights.items()}
        self._looks_since = torch.zeros(len(picked), dtype=torch.int64, device=device)
        self.area_N = torch.full((len(picked),), -torch.inf, device=device)
        """[N] the best of each lens; -inf where it cannot be told."""

    def look(self, gather: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> bool:
        """Score the validation samples, keep what is as good; whether any lens may still improve.

        `gather(states_SK, index_NB)` gives the states of these samples, `[N, B, K]`.
        """
        logits_NV = torch.cat(
            [
                self._stack.score(gather(self._states_SK, index_NB))
                for index_NB in torch.split(self._index_NV, _BATCH, dim=1)
            ],
            dim=1,
        )
        area_N = self._judge(logits_NV)
        known = ~area_N.isnan()
        area_N = torch.where(known, area_N, -torch.inf)
        if "projection" in self._stack.weights:
            mean = area_N[known].mean() if known.any() else area_N[0]
            area_N = torch.where(known, mean, -torch.inf)
        # A finished lens stays finished: later looks would only choose among accidents.
        taken = known & (self._looks_since < self._patience) & (area_N >= self.area_N - TOLERANCE)
        self.area_N = torch.where(taken, torch.maximum(area_N, self.area_N), self.area_N)
        self._looks_since = torch.where(taken, 0, self._looks_since + 1)
        for name, weight in self._stack.weights.items():
            if name != "projection":
                self._kept[name][taken] = weight[taken]
            elif taken.any():
                self._kept[name].copy_(weight)
        return bool((known & (self._looks_since < self._patience)).any())

    def beaten_by(self, logits_SN: torch.Tensor) -> torch.Tensor:
        """[N] whether other lenses, by their logits of all validation samples, tell a concept better."""
        lens_N1 = torch.arange(len(self._index_NV), device=logits_SN.device)[:, None]
        area_N = self._judge(logits_SN[self._index_NV, lens_N1])
        return ~area_N.isnan() & (area_N > self.area_N)

    def _judge(self, logits_NV: torch.Tensor) -> torch.Tensor:
        """[N] what counts, from the logits of each lens's own samples; nan where it cannot be told."""
        used = sum(self._widths)
        positives, siblings, others = torch.split(logits_NV[:, :used], self._widths, dim=1)
        is_positive, is_sibling, is_other = torch.split(self._present_NV[:, :used], self._widths, dim=1)
        among_all_N = areas(positives, others, is_positive, is_other)
        among_siblings_N = areas(positives, siblings, is_positive, is_sibling)
        area_N: torch.Tensor = torch.stack([among_all_N, among_siblings_N]).nanmean(dim=0)
        return area_N

    def restore(self) -> None:
        """Give every lens that could be told its best weights back."""
        told = self.area_N > -torch.inf
        for name, weight in self._stack.weights.items():
            if name != "projection":
                weight[told] = self._kept[name][told]
            elif told.any():
                weight.copy_(self._kept[name])


def _pick(
    samples: Samples, lens: int, parent: int, most: int, rng: np.random.Generator
) -> tuple[Ints, Ints, Ints]:
    """Validation samples of a lens: positives, its siblings' positives, any negatives."""
    positive_S = samples.positive_XN[:, lens][samples.text_S]
    positives = rng.permutation(np.flatnonzero(positive_S))[: min(_POSITIVES, most // 2)]
    room = most - len(positives)
    siblings = np.empty(0, np.int64)
    if parent >= 0:
        under = samples.positive_XN[:, parent][samples.text_S] & ~positive_S
        siblings = rng.permutation(np.flatnonzero(under))[: room // 3]
    return positives, siblings, rng.permutation(np.flatnonzero(~positive_S))[: room - len(siblings)]
