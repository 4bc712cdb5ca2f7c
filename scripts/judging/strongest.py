"""What the strongest concept at a position is worth: the one that gives a word its colour.

Of the lenses that the walk scored and that are calibrated and measured, the one of highest probability is held against
what the text is truly of. Knows logits and labels, nothing about words or colours.

Shapes: P positions, N concepts.
"""

from collections.abc import Iterator

import numpy as np

from judging.verdicts import Record
from lenses.calibration import log_odds, threshold_log_odds
from lenses.lens import Floats
from lenses.metrics import Bools
from lenses.pack import LensPack

PROBABILITIES = (0.5, 0.8, 0.9, 0.95, 0.98)
"""From which the strongest is taken at its word."""


def strongest(pack: LensPack, logits_PN: Floats, scored_PN: Bools, positive_PN: Bools) -> Iterator[Record]:
    """For each of `PROBABILITIES`: at what share of positions the strongest concept has it; of these, at what share the
    text is of that concept, and at what share it is of the branch (level 0) that the concept lies in."""
    hierarchy, heads = pack.hierarchy, pack.heads
    odds_PN = log_odds(logits_PN, heads.platt_slope, heads.platt_offset)
    odds_PN = np.where(scored_PN & pack.vouched_N, odds_PN, -np.inf)
    best_P = odds_PN.argmax(axis=1)
    every_P = np.arange(len(best_P))
    branch_N = np.array([hierarchy.path(n)[0] for n in range(len(hierarchy))])
    is_true_P, is_in_branch_P = positive_PN[every_P, best_P], positive_PN[every_P, branch_N[best_P]]
    for probability in PROBABILITIES:
        said_P = odds_PN[every_P, best_P] >= threshold_log_odds(probability)
        some = max(1, int(said_P.sum()))
        yield {
            "probability": probability,
            "said": float(said_P.mean()),
            "concept_true": float((is_true_P & said_P).sum() / some),
            "branch_true": float((is_in_branch_P & said_P).sum() / some),
        }
