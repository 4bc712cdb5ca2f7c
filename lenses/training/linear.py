"""Linear lenses in closed form: linear discriminants of all concepts, one covariance, one Cholesky factor.

Lens n separates the mean of its positives from that of its negatives, in the metric of the covariance of all states:

    w_n = C^-1 (p_n - q_n)          b_n = -w_n · (p_n + q_n) / 2
    C   = (1 - g) Cov + g diag(Cov)                                 g: the shrinkage

p_n and q_n are means, so the two classes count one half each, whatever their sizes. In q_n a sibling's positive weighs
`sibling_weight` times as much as any other negative. All means come out of one product of states and labels, since a
concept's texts are its parent's: the siblings' sum is the parent's less the concept's own. C is shrunk to its diagonal:
some directions of a state are a thousand times as wide as others, and a multiple of the identity would drown the rest.

The covariance is of all states rather than within classes: for one lens these differ by a rank-one term along p_n - q_n
(but for the siblings' weight), which changes the length of w_n and not its direction. Calibration sets the length.

Sums are fp64, products of a chunk fp32; a chunk of states is all that is ever copied. `tests` solve lens by lens.

Shapes: S samples, D hidden size, N lenses.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

from lenses.concept import Hierarchy
from lenses.lens import Heads
from lenses.training.samples import Samples, TrainedLenses, by_family

SHRINKAGE = 0.3


def fit_linear(
    samples: Samples,
    hierarchy: Hierarchy,
    *,
    shrinkage: float = SHRINKAGE,
    sibling_weight: float = 4.0,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> TrainedLenses:
    """Fit linear lenses for every concept; `progress(done, of)` is called as samples are read.

    A concept without positives, or without negatives, has a lens that says 0 of everything.
    Raises HierarchyError where the samples' labels do not fit the hierarchy.
    """
    samples.check(hierarchy)
    moments = _Moments.of(samples, progress)
    positive_DN, negative_DN = _class_means(moments, hierarchy, sibling_weight)
    covariance_DD = moments.square_DD / moments.count
    spread_D = covariance_DD.diagonal().clamp(min=1e-12).sqrt()
    # In units of each number's own spread the diagonal is 1, and so is what is shrunk to.
    covariance_DD /= spread_D[:, None] * spread_D
    covariance_DD *= 1 - shrinkage
    covariance_DD.diagonal().fill_(1.0)
    apart_DN = (positive_DN - negative_DN) / spread_D[:, None]
    weight_DN = torch.cholesky_solve(apart_DN, torch.linalg.cholesky(covariance_DD)) / spread_D[:, None]
    bias_N = -(weight_DN * (positive_DN + negative_DN)).sum(dim=0) / 2
    # Means are about the centre of all states; lenses read plain ones.
    bias_N -= weight_DN.T @ moments.centre_D
    count = len(hierarchy)
    heads = Heads(
        bias1=bias_N.float()[:, None].numpy(),
        weight2=None,
        bias2=None,
        weight3=None,
        bias3=None,
        platt_slope=np.ones(count, np.float32),
        platt_offset=np.zeros(count, np.float32),
        calibrated=np.zeros(count, np.bool_),
    )
    return TrainedLenses(by_family(weight_DN.T.float().contiguous(), hierarchy, 1), heads)


@dataclass(frozen=True, slots=True)
class _Moments:
    """Sums over samples, the states taken about their mean: all that the lenses need to know of them."""

    count: int
    count_N: torch.Tensor
    """[N] samples that are positives."""
    centre_D: torch.Tensor
    square_DD: torch.Tensor
    """Sum of products of two numbers of a state."""
    positive_DN: torch.Tensor
    """Sum of the positives."""

    @classmethod
    def of(cls, samples: Samples, progress: Callable[[int, int], None]) -> Self:
        """Two passes, the first for the mean: far from it, squares would drown what differs."""
        count, lenses = len(samples.text_S), samples.positive_XN.shape[1]
        hidden = samples.states_SD.shape[1]
        centre_D = torch.zeros(hidden, dtype=torch.float64)
        for _, states in samples.chunks():
            centre_D += states.sum(dim=0, dtype=torch.float64)
        centre_D /= count
        square_DD = torch.zeros(hidden, hidden, dtype=torch.float64)
        positive_DN = torch.zeros(hidden, lenses, dtype=torch.float64)
        count_N = torch.zeros(lenses, dtype=torch.float64)
        for some, states in samples.chunks():
            centred = states - centre_D.float()
            positive = torch.from_numpy(samples.positive(some)).float()
            square_DD += centred.T @ centred
            positive_DN += centred.T @ positive
            count_N += positive.sum(dim=0)
            progress(min(some.stop, count), count)
        return cls(count, count_N, centre_D.float().double(), square_DD, positive_DN)


def _class_means(
    moments: _Moments, hierarchy: Hierarchy, sibling_weight: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """[D, N] the means of each lens's positives and of its negatives; both 0 where it lacks a class."""
    parents_N = torch.from_numpy(hierarchy.parents.astype(np.int64))
    has_parent = (parents_N >= 0).double()
    sum_DN, count_N = moments.positive_DN, moments.count_N
    siblings_DN = (sum_DN[:, parents_N] - sum_DN) * has_parent
    siblings_N = (count_N[parents_N] - count_N) * has_parent
    more = sibling_weight - 1
    # About their mean all states sum to nothing.
    negative_DN, negative_N = more * siblings_DN - sum_DN, moments.count - count_N + more * siblings_N
    able = ((count_N > 0) & (moments.count > count_N)).double()
    return able * sum_DN / count_N.clamp(min=1), able * negative_DN / negative_N.clamp(min=1)
