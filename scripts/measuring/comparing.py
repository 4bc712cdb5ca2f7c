"""Is one variant faster than another, and by how much: on samples of rounds that they took in turns.

    ratio       of two medians, with a 95 % interval: rounds are drawn anew with replacement, both variants' together
    difference  the median over rounds of b - a, with its interval by the same draws
    p           Wilcoxon's signed-rank test on the differences of the rounds, two-sided. With up to 200 rounds exact,
                ties and all: the ranks' sum under every choice of signs is counted. Beyond, its normal approximation
    p_holm      p after Holm's correction for as many comparisons as there are: the chance of a single wrong win or
                regression among all of them stays below 5 %
    verdict     `win` where p_holm <= 0.05 and the variant is faster, `regression` where it is slower, else `noise`

Few rounds cannot decide: of 5, the most that all five agreeing can give is p = 0.0625. `fewest_rounds` says how many it
takes. Source of the method: Wilcoxon (1945), Pratt's handling of zeros not used (they are left out); Holm (1979).

Knows numbers only. Shapes: R rounds, W draws, V comparisons.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from lenses.errors import ConfigError
from lenses.metrics import Doubles, Estimate
from measuring.rounds import Rounds

ALPHA = 0.05
DRAWS = 2000
_EXACT = 200

Outcome = Literal["win", "noise", "regression"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One variant held against the baseline."""

    name: str
    n: int
    ratio: Estimate
    """Median of the variant over the median of the baseline: below 1 is faster."""
    difference_ms: Estimate
    """Median over rounds of variant - baseline: below 0 is faster."""
    p: float
    p_holm: float
    outcome: Outcome

    def to_json(self) -> dict[str, object]:
        """As one JSON object, intervals as [value, low, high]."""
        found = asdict(self)
        for name in ("ratio", "difference_ms"):
            found[name] = list(found[name].values())
        return found


def verdicts(rounds: Rounds, baseline: str, *, seed: int = 0) -> list[Verdict]:
    """Every other variant against the baseline, in order; raises ConfigError where the rounds are too few to decide."""
    others = [name for name in rounds.ms if name != baseline]
    if len(others) == len(rounds.ms) or not others:
        raise ConfigError(
            f"baseline {baseline!r} among {', '.join(rounds.ms)}; name one of two or more variants"
        )
    n, needed = len(rounds[baseline]), fewest_rounds(len(others))
    if n < needed:
        raise ConfigError(
            f"{n} rounds cannot tell {len(others)} variants from a baseline; give {needed} or more: fewer make no "
            f"difference significant at {ALPHA}, however large"
        )
    differences = [rounds[name] - rounds[baseline] for name in others]
    p_values = [signed_rank_p(difference_R) for difference_R in differences]
    return [
        Verdict(
            name,
            n,
            ratio(rounds[name], rounds[baseline], seed=seed),
            median_difference(rounds[name], rounds[baseline], seed=seed),
            p,
            p_holm,
            _outcome(difference_R, p_holm),
        )
        for name, difference_R, p, p_holm in zip(others, differences, p_values, holm(p_values), strict=True)
    ]


def ratio(numerator_R: Doubles, denominator_R: Doubles, *, seed: int = 0) -> Estimate:
    """Median over median of samples paired by round, with its interval."""
    drawn_WR = draws(len(numerator_R), seed)
    medians_W = np.median(numerator_R[drawn_WR], axis=1) / np.median(denominator_R[drawn_WR], axis=1)
    return interval(float(np.median(numerator_R) / np.median(denominator_R)), medians_W)


def median_difference(a_R: Doubles, b_R: Doubles, *, seed: int = 0) -> Estimate:
    """The median over rounds of a - b, with its interval."""
    difference_R = a_R - b_R
    drawn_W = np.median(difference_R[draws(len(a_R), seed)], axis=1)
    return interval(float(np.median(difference_R)), drawn_W)


def draws(rounds: int, seed: int) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """[W, R] rounds drawn with replacement: the same for the same seed."""
    return np.random.default_rng(seed).integers(0, rounds, (DRAWS, rounds))


def interval(value: float, drawn_W: Doubles) -> Estimate:
    """A value with the middle 95 % of what it was in each draw."""
    low, high = np.quantile(drawn_W, [0.025, 0.975]).tolist()
    return Estimate(value, low, high)


def signed_rank_p(difference_R: Doubles) -> float:
    """Two-sided p of Wilcoxon's signed-rank test that differences lie about 0; 1 where all are 0."""
    difference_R = difference_R[difference_R != 0]
    n = len(difference_R)
    if not n:
        return 1.0
    twice_R = _twice_the_ranks(np.abs(difference_R))
    positive, total = int(twice_R[difference_R > 0].sum()), int(twice_R.sum())
    smaller = min(positive, total - positive)
    if n > _EXACT:
        # Half a rank of continuity, in doubled ranks 1; the variance of a sum of signed ranks is theirs squared over 4.
        z = (abs(positive - total / 2) - 1) / math.sqrt(
            float(np.square(twice_R.astype(np.float64)).sum()) / 4
        )
        return min(1.0, math.erfc(max(0.0, z) / math.sqrt(2)))
    # chance[s]: that the ranks which get a plus sum to s (doubled), signs being as good as coins.
    chance = np.zeros(total + 1)
    chance[0] = 1.0
    for rank in twice_R.tolist():
        chance[rank:] = (chance[rank:] + chance[: total + 1 - rank]) / 2
        chance[:rank] /= 2
    return min(1.0, 2 * float(chance[: smaller + 1].sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """p values after Holm's correction, in the order given."""
    order = np.argsort(p_values, kind="stable")
    corrected = np.zeros(len(p_values))
    so_far = 0.0
    for place, at in enumerate(order):
        so_far = max(so_far, min(1.0, (len(p_values) - place) * p_values[at]))
        corrected[at] = so_far
    return [float(p) for p in corrected]


def fewest_rounds(comparisons: int) -> int:
    """The fewest rounds in which a variant that is faster in every one of them counts as a win."""
    return math.ceil(1 + math.log2(comparisons / ALPHA))


def _twice_the_ranks(values_R: Doubles) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """[R] twice the rank of each value from 1 on, ties sharing theirs: doubled, shared ranks are whole numbers."""
    in_order = np.sort(values_R)
    before = np.searchsorted(in_order, values_R, side="left")
    up_to = np.searchsorted(in_order, values_R, side="right")
    return (before + up_to + 1).astype(np.int64)


def _outcome(difference_R: Doubles, p_holm: float) -> Outcome:
    if p_holm > ALPHA:
        return "noise"
    difference_R = difference_R[difference_R != 0]
    twice_R = _twice_the_ranks(np.abs(difference_R))
    return "win" if float((np.sign(difference_R) * twice_R).sum()) < 0 else "regression"
