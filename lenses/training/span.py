"""The coordinates in which lenses are trained, and the way back.

A state has thousands of numbers, a concept tens of texts: most directions of the state hold nothing that so few texts
could tell from chance, and cost as much as the others. So lenses are trained on the K leading principal directions of
the standardised states. What reads these coordinates reads plain states once it is folded, exactly. States of no more
than K numbers are only standardised.

Directions keep their spreads, and are turned at random among themselves. Scaled to spread 1, or each a coordinate of
its own to an optimiser that gives every coordinate steps of one size, the narrow ones are learnt as eagerly as the wide
ones, and lenses of few texts learn noise: on the travelling host both lost more than leaving out half of the
directions did.

    z = A^T (x - mean)        W z + b = (W A^T) x + (b - W A^T mean)

Shapes: S samples, D hidden size, K coordinates, M rows of a weight.
"""

from dataclasses import dataclass
from typing import Self

import torch

from lenses.training.samples import Samples


@dataclass(frozen=True, slots=True)
class Span:
    """An affine map from states to the coordinates that lenses are trained in."""

    mean_D: torch.Tensor
    axes_DK: torch.Tensor
    """A, fp32."""

    @classmethod
    def of(cls, samples: Samples, size: int, seed: int) -> Self:
        """The span of these samples' states with K = `size`; two passes over the states."""
        count = len(samples.text_S)
        mean_D = sum(states.sum(dim=0, dtype=torch.float64) for _, states in samples.chunks()) / count
        assert isinstance(mean_D, torch.Tensor), "there is a sample"
        mean_D = mean_D.float()
        if len(mean_D) <= size:
            square_D = sum(
                (states - mean_D).square().sum(dim=0, dtype=torch.float64) for _, states in samples.chunks()
            )
            assert isinstance(square_D, torch.Tensor)
            return cls(mean_D, torch.diag(1 / (square_D / count).sqrt().clamp(min=1e-6).float()))
        gram_DD = torch.zeros(len(mean_D), len(mean_D))
        for _, states in samples.chunks():
            centred = states - mean_D
            gram_DD += centred.T @ centred
        spread_D = (gram_DD.diagonal() / count).sqrt().clamp(min=1e-6)
        gram_DD /= count * spread_D[:, None] * spread_D
        values, vectors = torch.linalg.eigh(gram_DD)
        directions_DK = vectors[:, -size:] / (values[-size:].clamp(min=0).mean().sqrt() * spread_D[:, None])
        turn = torch.randn(size, size, generator=torch.Generator().manual_seed(seed))
        return cls(mean_D, directions_DK @ torch.linalg.qr(turn).Q)

    @property
    def is_narrower(self) -> bool:
        """Whether something of the state is left out."""
        return self.axes_DK.shape[1] < self.axes_DK.shape[0]

    def coordinates(self, samples: Samples) -> torch.Tensor:
        """[S, K] the samples in these coordinates."""
        found = torch.empty(len(samples.text_S), self.axes_DK.shape[1])
        for some, states in samples.chunks():
            torch.matmul(states - self.mean_D, self.axes_DK, out=found[some])
        return found

    def fold(self, weight_MK: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The weight `[M, D]` that reads plain states, and what to take off its bias, `[M]`."""
        folded = weight_MK @ self.axes_DK.T
        return folded, folded @ self.mean_D
