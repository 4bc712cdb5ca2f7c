"""Which families to open next: the policy of the walk down the hierarchy, and nothing else.

A beam search of width `top_k`, per position. Of a frontier (concepts just scored, each the parent of a family that is
not in the base) take the best `top_k` whose calibrated probability reaches `load_threshold`; their families are
scored whole and their children are the next frontier. What was not taken is not offered again.

Concepts are ranked by calibrated log-odds in fp32, which order as the probabilities do but do not all become 1.0 at
the top; ties go by concept id. Knows nothing about tiers, bytes or devices, and cannot tell what is hot.
"""

from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Expansion:
    """The policy, with everything it needs to decide."""

    hierarchy: Hierarchy
    heads: Heads
    top_k: int
    load_threshold: float
    max_level: int

    def choose(self, concepts: NDArray[np.int32], logits: Floats) -> Choice:
        """Choose the families to open out of concepts just scored and their logits."""
        opens = self.hierarchy.opens[concepts]
        parent = (opens >= 0) & (self.hierarchy.levels[concepts] < self.max_level)
        concepts, opens = concepts[parent], opens[parent]
        odds = log_odds(logits[parent], self.heads.platt_slope[concepts], self.heads.platt_offset[concepts])
        qualified = np.flatnonzero(odds >= threshold_log_odds(self.load_threshold))
        order = np.lexsort((self.hierarchy.id_rank[concepts[qualified]], -odds[qualified]))
        taken = qualified[order[: self.top_k]]
        return Choice(
            tuple(opens[taken].tolist()), tuple(odds[taken].tolist()), max(0, len(qualified) - self.top_k)
        )
