"""What a way of scoring finds on held-out texts: of its lenses, of the truth, and of what a reference way says.

A way *says* a concept at a position where it scored it and the calibrated probability is 1/2 or more.

    AUROC     of every measured lens, everything scored: what the lenses can tell, the walk left out of it
    finds     of the pairs (position, concept) that are true, the share that is said; of concepts with a measured lens
    true      of the pairs that are said, the share that is true; concepts are far rarer than the prior of 1/2 supposes
    agrees    of the pairs that the reference says with everything scored, the share that is said too
    beyond    of the pairs that are said, the share that the reference does not say

Shapes: P positions, X texts, N concepts.
"""

from dataclasses import asdict, dataclass

import numpy as np

from lenses.calibration import log_odds
from lenses.lens import Floats
from lenses.metrics import Bools, Ints, area
from lenses.pack import LensPack
from runtime.expansion import Expansion
from runtime.training.walks import walk

Record = dict[str, object]


@dataclass(frozen=True, slots=True)
class Truth:
    """Held-out positions and what they are of."""

    positive_PN: Bools
    last_P: Bools
    """Whether a position is its text's last."""
    measured: Ints
    """Concepts with enough held-out texts for a number."""


def lens_quality(logits_PN: Floats, truth: Truth) -> Record:
    """AUROC over measured lenses at a text's last position, and at all positions."""
    found: Record = {"lenses": len(truth.measured)}
    for name, some_P in (("text", truth.last_P), ("token", np.ones_like(truth.last_P))):
        areas = [area(logits_PN[some_P, n], truth.positive_PN[some_P, n]) for n in truth.measured]
        found |= {
            f"auroc_{name}_median": float(np.median(areas)),
            f"auroc_{name}_p10": float(np.quantile(areas, 0.1)),
        }
    return found


@dataclass(frozen=True, slots=True)
class Said:
    """What a way says, and what it scored for that."""

    said_PN: Bools
    scored_PN: Bools


def say(pack: LensPack, logits_PN: Floats, settings: tuple[tuple[int, ...], int, float] | None) -> Said:
    """What scoring everything says, or the walk with (base levels, top_k, threshold) on the same logits."""
    heads = pack.heads
    likely_PN = np.asarray(log_odds(logits_PN, heads.platt_slope, heads.platt_offset) >= 0)
    if settings is None:
        return Said(likely_PN, np.ones_like(likely_PN))
    base_levels, top_k, threshold = settings
    policy = Expansion(pack.hierarchy, heads, top_k, threshold, pack.hierarchy.depth - 1)
    scored_PN = walk(policy, base_levels, logits_PN).scored_PN
    return Said(likely_PN & scored_PN, scored_PN)


@dataclass(frozen=True, slots=True)
class Found:
    """Shares, see the head of this file."""

    finds: float
    true: float
    agrees: float
    beyond: float
    scored: float
    """Of all lenses, at a position."""

    @classmethod
    def of(cls, said: Said, reference: Said, truth: Truth) -> "Found":
        measured = truth.measured
        said_PM, true_PM = said.said_PN[:, measured], truth.positive_PN[:, measured]
        both = int((said.said_PN & reference.said_PN).sum())
        return cls(
            finds=int((said_PM & true_PM).sum()) / max(1, int(true_PM.sum())),
            true=int((said_PM & true_PM).sum()) / max(1, int(said_PM.sum())),
            agrees=both / max(1, int(reference.said_PN.sum())),
            beyond=1 - both / max(1, int(said.said_PN.sum())),
            scored=float(said.scored_PN.mean()),
        )

    def record(self) -> Record:
        """As it goes into a report."""
        return dict(asdict(self))


def difference(logits_PN: Floats, reference_PN: Floats) -> Record:
    """How far logits are from those of the same lenses stored otherwise: absolute, and as a share of their spread."""
    off_PN = np.abs(logits_PN - reference_PN)
    spread_N = reference_PN.std(axis=0)
    return {
        "median": float(np.median(off_PN)),
        "p99": float(np.quantile(off_PN, 0.99)),
        "largest": float(off_PN.max()),
        "median_of_spread": float(np.median(off_PN.mean(axis=0) / spread_N)),
    }
