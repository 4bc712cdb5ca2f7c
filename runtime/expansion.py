"""Which families to open next: the policy of the walk down the hierarchy, and nothing else.

A beam search of width `top_k`, per position. Of a frontier (concepts just scored, each the parent of a family that is
not in the base) take the best `top_k` whose calibrated probability reaches `load_threshold`; their families are
scored whole and their children are the next frontier. What was not taken is not offered again.

Concepts are ranked by calibrated log-odds in fp32, which order as the probabilities do but do not all become 1.0 at
the top; ties go by concept id. Knows nothing about tiers, bytes or devices, and cannot tell what is hot.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lenses.calibration import log_odds, threshold_log_odds
from lenses.concept import Hierarchy
from lenses.lens import Floats, Heads


@dataclass(frozen=True, slots=True)
class Choice:
    """What one position opens at one level."""

    families: tuple[int, ...]
    """Families to score, most wanted first."""
    odds: tuple[float, ...]
    """The log-odds of their parents, in the same order."""
    cut: int
    """How many more qualified but were beyond `top_k`."""


NOTHING = Choice((), (), 0)
"""The choice of a position that opens no family."""


@dataclass(frozen=True, slots=True)
class Expansion:
    """The policy, with everything it needs to decide."""

    hierarchy: Hierarchy
    heads: Heads
    top_k: int
    load_threshold: float
    max_level: int
    _opens_N: NDArray[np.int32] = field(init=False, repr=False)
    """The family that a concept opens; -1 where it has none or none that may be scored."""
    _least_odds: np.float32 = field(init=False, repr=False)

    def __post_init__(self) -> None:
        hierarchy = self.hierarchy
        opens_N = np.where(hierarchy.levels < self.max_level, hierarchy.opens, np.int32(-1))
        object.__setattr__(self, "_opens_N", opens_N)
        object.__setattr__(self, "_least_odds", threshold_log_odds(self.load_threshold))

    def choose(self, concepts: NDArray[np.int32], logits: Floats) -> Choice:
        """Choose the families to open out of concepts just scored and their logits."""
        opens = self._opens_N[concepts]
        odds = log_odds(logits, self.heads.platt_slope[concepts], self.heads.platt_offset[concepts])
        qualified = ((opens >= 0) & (odds >= self._least_odds)).nonzero()[0]
        if not len(qualified):
            return NOTHING
        order = np.lexsort((self.hierarchy.id_rank[concepts[qualified]], -odds[qualified]))
        taken = qualified[order[: self.top_k]]
        return Choice(
            tuple(opens[taken].tolist()), tuple(odds[taken].tolist()), max(0, len(qualified) - self.top_k)
        )
