"""How well a score tells the texts of a concept from other texts: every metric of a lens, with its interval.

Whatever concerns ranking comes out of one array, the *placements*: the placement of a positive is the share of the
negatives that score below it, that of a negative the share of the positives that score above it, ties counted one half.

    AUROC             the mean placement, of the positives as of the negatives
    its variance      DeLong: var(placements of positives) / P + var(placements of negatives) / M. Where several
                      samples are of one text, placements are summed by text first (Obuchowski 1997)
    its interval      95 %, symmetric in log(A / (1 - A)). An AUROC of 1 has no variance: there the lower end is
                      0.025^(1/P), what P successes in P trials leave possible
    a difference      of two scores on the same samples: the same, on the difference of placements

What concerns the probability is *balanced*: both classes weigh one half, as the probability was calibrated.

    Brier skill           1 - (mean (1 - p)^2 over positives / 2 + mean p^2 over negatives / 2) / 0.25
    calibration error     sum over 10 bins of mass_b |share_b - p_b|: samples in order of p, cut where a tenth of the
                          weight has passed; share_b is the weighted share of positives in a bin, p_b its mean p
    its floor             what a perfectly calibrated lens with the same probabilities and as many samples shows on
                          average: few positives make an error of their own

Knows scores and labels, nothing about hosts, texts or packs. Source of the method: DeLong, DeLong and Clarke-Pearson
(1988); Obuchowski (1997); Bröcker and Smith (2007) for the floor.

Shapes: S samples of one lens, P positives and M negatives among them, X texts, N lenses, K bins.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenses.concept import Hierarchy
from lenses.grade import MEASURED_FROM
from lenses.lens import Floats

Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.integer[Any]]

SEED = 0
"""Where every draw of a report begins."""
BINS = 10
FALSE_POSITIVES = 0.01
CONFUSIONS = 3
"""Other concepts that are named as what a lens fires on."""
_Z = 1.959964


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


def placements(scores_S: Floats | Doubles, positive_S: Bools) -> Doubles:
    """[S] for a positive the share of negatives below it, for a negative the share of positives above it."""
    order = np.argsort(scores_S)
    in_order, positive = scores_S[order], positive_S[order]
    ends = np.flatnonzero(np.append(in_order[1:] != in_order[:-1], True))
    positives, negatives = np.cumsum(positive), np.cumsum(~positive)
    positives_up_to, negatives_up_to = positives[ends], negatives[ends]
    positives_before = np.concatenate([[0], positives_up_to[:-1]])
    negatives_before = np.concatenate([[0], negatives_up_to[:-1]])
    below = (negatives_before + negatives_up_to) / 2 / max(1, negatives[-1])
    above = 1 - (positives_before + positives_up_to) / 2 / max(1, positives[-1])
    if len(ends) < len(order):
        tied = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=-1))
        below, above = below[tied], above[tied]
    placed = np.empty(len(order))
    placed[order] = np.where(positive, below, above)
    return placed


def area(scores_S: Floats | Doubles, positive_S: Bools) -> float:
    """AUROC without its interval."""
    return float(placements(scores_S, positive_S)[positive_S].mean())


def auroc(placed_S: Doubles, positive_S: Bools, text_S: Ints | None = None) -> Estimate:
    """Area under the ROC curve with its interval; `text_S` says which text each sample is of, by default its own."""
    value = float(placed_S[positive_S].mean())
    if value >= 1.0:
        texts = int(positive_S.sum()) if text_S is None else len(np.unique(text_S[positive_S]))
        return Estimate(value, 0.025 ** (1 / texts), 1.0)
    if value <= 0.0:
        texts = int((~positive_S).sum()) if text_S is None else len(np.unique(text_S[~positive_S]))
        return Estimate(value, 0.0, 1 - 0.025 ** (1 / texts))
    spread = _Z * math.sqrt(_variance(placed_S, positive_S, text_S)) / (value * (1 - value))
    middle = math.log(value / (1 - value))
    return Estimate(value, _logistic(middle - spread), _logistic(middle + spread))


def auroc_difference(a_S: Doubles, b_S: Doubles, positive_S: Bools) -> Estimate:
    """AUROC of one score less that of another on the same samples, out of the placements of both."""
    difference_S = a_S - b_S
    value = float(difference_S[positive_S].mean())
    spread = _Z * math.sqrt(_variance(difference_S, positive_S, None))
    return Estimate(value, value - spread, value + spread)


def highest_refused(
    scores_S: Floats | Doubles, positive_S: Bools, false_positives: float = FALSE_POSITIVES
) -> float:
    """The lowest score above which at most this share of negatives lies; a negative's own."""
    negatives = scores_S[~positive_S]
    allowed = math.floor(false_positives * len(negatives))
    at = len(negatives) - 1 - allowed
    return float(np.partition(negatives, at)[at])


def true_positive_rate(
    scores_S: Floats | Doubles, positive_S: Bools, false_positives: float = FALSE_POSITIVES
) -> float:
    """Share of positives above what at most this share of negatives is above."""
    return float((scores_S[positive_S] > highest_refused(scores_S, positive_S, false_positives)).mean())


def threshold(probability_S: Floats, positive_S: Bools) -> float | None:
    """The probability in fp32 from which on at most `FALSE_POSITIVES` of the negatives lie.

    None where no probability is above theirs: more of them are at 1.
    """
    refused = np.float32(highest_refused(probability_S, positive_S))
    return float(np.nextafter(refused, np.float32(2))) if refused < 1 else None


def brier_skill(probability_S: Floats | Doubles, positive_S: Bools) -> float:
    """Brier skill at a class prior of 1/2, against the constant 1/2: 1 is perfect, 0 no better than the constant."""
    missed = np.square(1 - probability_S[positive_S], dtype=np.float64).mean()
    raised = np.square(probability_S[~positive_S], dtype=np.float64).mean()
    return float(1 - (missed + raised) / 2 / 0.25)


@dataclass(frozen=True, slots=True)
class Reliability:
    """How often what was said to have a probability was so, at a class prior of 1/2, in bins of equal weight."""

    mass_K: Doubles
    """[K] the weight in each bin; sums to 1, about 1/K each."""
    said_K: Doubles
    """[K] mean probability in each bin."""
    found_K: Doubles
    """[K] weighted share of positives in each bin."""

    @property
    def error(self) -> float:
        """The balanced calibration error."""
        return float((self.mass_K * np.abs(self.said_K - self.found_K)).sum())


def reliability(
    probability_S: Floats | Doubles, positive_S: Bools, *, weight_S: Doubles | None = None, bins: int = BINS
) -> Reliability:
    """Reliability in bins of equal weight; by default the weights give each class one half."""
    weight_S = balanced_weights(positive_S) if weight_S is None else weight_S
    bin_S = bins_of(probability_S, weight_S, bins)
    mass, said, found = (
        np.bincount(bin_S, weights=values, minlength=bins)
        for values in (weight_S, weight_S * probability_S, weight_S * positive_S)
    )
    filled = np.maximum(mass, 1e-300)
    return Reliability(mass / mass.sum(), said / filled, found / filled)


def calibration_error(probability_S: Floats | Doubles, positive_S: Bools) -> Estimate:
    """The balanced calibration error with its interval, the bins as they were cut and every sample on its own.

    Within a bin the error is a mean of p - y up to its sign, so the variance is that of two means, one a class.
    """
    weight_S = balanced_weights(positive_S)
    bin_S = bins_of(probability_S, weight_S)
    off_S = probability_S.astype(np.float64) - positive_S
    error_K = np.bincount(bin_S, weights=weight_S * off_S, minlength=BINS)
    signed_S = np.sign(error_K)[bin_S] * off_S
    variance = sum(
        float(np.var(signed_S[some], ddof=1)) / 4 / int(some.sum())
        for some in (positive_S, ~positive_S)
        if some.sum() > 1
    )
    value, spread = float(np.abs(error_K).sum()), _Z * math.sqrt(variance)
    return Estimate(value, max(0.0, value - spread), value + spread)


def bins_of(probability_S: Floats | Doubles, weight_S: Doubles, bins: int = BINS) -> Ints:
    """[S] which bin each sample is in: in order of probability, cut where an equal part of the weight has passed."""
    order = np.argsort(probability_S, kind="stable")
    weight = weight_S[order]
    passed = np.cumsum(weight) - weight / 2
    bin_S = np.empty(len(order), np.int64)
    bin_S[order] = np.minimum((passed * bins / weight.sum()).astype(np.int64), bins - 1)
    return bin_S


def balanced_weights(positive_S: Bools) -> Doubles:
    """[S] weights that give each class one half and sum to 1."""
    positives = int(positive_S.sum())
    return np.where(positive_S, 0.5 / max(1, positives), 0.5 / max(1, len(positive_S) - positives))


def calibration_floor(
    probability_S: Floats | Doubles, positive_S: Bools, rng: np.random.Generator, *, draws: int = 10
) -> float:
    """The calibration error that a perfectly calibrated lens of these probabilities would show, on average.

    As many positives and negatives are drawn anew as there are, from all samples, a sample of probability p with the
    chances that p says: so labels agree with probabilities, and what error is left is that of small numbers.
    """
    weight = balanced_weights(positive_S)
    p = np.clip(probability_S.astype(np.float64), 1e-12, 1 - 1e-12)
    positives = int(positive_S.sum())
    counts = ((True, positives), (False, len(p) - positives))
    chances = {True: np.cumsum(weight * p), False: np.cumsum(weight * (1 - p))}
    errors = []
    for _ in range(draws):
        picked = [
            np.searchsorted(chances[label], rng.random(count) * chances[label][-1]) for label, count in counts
        ]
        labels = np.repeat([True, False], [count for _, count in counts])
        drawn = np.minimum(np.concatenate(picked), len(p) - 1)
        errors.append(reliability(p[drawn], labels).error)
    return float(np.mean(errors))


def siblings_only(hierarchy: Hierarchy, positive_XN: Bools, n: int) -> Bools:
    """[X] which texts judge a lens against its siblings: its own positives, and others that are a sibling's."""
    family = hierarchy.families[hierarchy.concepts[n].family]
    return np.asarray(positive_XN[:, family.first : family.first + family.rows].any(axis=1))


def is_measured(positive_S: Bools) -> bool:
    """Whether there are enough texts of both classes to judge a lens by."""
    positives = int(positive_S.sum())
    return MEASURED_FROM <= positives <= len(positive_S) - MEASURED_FROM


def concept_metrics(
    hierarchy: Hierarchy, logits_XN: Floats, probability_XN: Floats, positive_XN: Bools
) -> list[dict[str, float]]:
    """What a pack's `concepts.jsonl` says of each lens, measured on one sample a text (its last position).

    `positives` is always there; a lens with too few of them has nothing else. The rest: `auroc`, `auroc_low`,
    `auroc_high`, `auroc_siblings` (where siblings have enough texts), `tpr_at_1fpr`, `brier_skill`,
    `calibration_error`, `calibration_error_low`, `calibration_error_high`. Rounded to four digits.
    """
    table: list[dict[str, float]] = []
    for n in range(len(hierarchy)):
        positive, logits, probability = positive_XN[:, n], logits_XN[:, n], probability_XN[:, n]
        metrics: dict[str, float] = {"positives": int(positive.sum())}
        if is_measured(positive):
            found = auroc(placements(logits, positive), positive)
            metrics |= {"auroc": found.value, "auroc_low": found.low, "auroc_high": found.high}
            near = siblings_only(hierarchy, positive_XN, n)
            if is_measured(positive[near]):
                metrics["auroc_siblings"] = area(logits[near], positive[near])
            off = calibration_error(probability, positive)
            metrics |= {
                "tpr_at_1fpr": true_positive_rate(logits, positive),
                "brier_skill": brier_skill(probability, positive),
                "calibration_error": off.value,
                "calibration_error_low": off.low,
                "calibration_error_high": off.high,
            }
        table.append({name: round(value, 4) for name, value in metrics.items()})
    return table


def confusions(
    hierarchy: Hierarchy, measured: Sequence[int], probability_XM: Floats, positive_XN: Bools
) -> list[list[dict[str, Any]]]:
    """For each measured lens the other concepts on whose texts its mean probability is highest.

    Texts that are of the lens's own concept do not count; nor do concepts above or below it.
    """
    positive_XM = positive_XN[:, measured].astype(np.float32)
    other_XM = 1 - positive_XM
    count_MM = other_XM.T @ positive_XM
    mean_MM = (probability_XM * other_XM).T @ positive_XM / np.maximum(count_MM, 1)
    mean_MM[count_MM < MEASURED_FROM] = -1
    column = {n: m for m, n in enumerate(measured)}
    for m, n in enumerate(measured):
        above = [column[a] for a in hierarchy.path(n) if a in column]
        mean_MM[m, above] = -1
        mean_MM[above, m] = -1
    best = np.argsort(-mean_MM, axis=1, kind="stable")[:, :CONFUSIONS]
    return [
        [
            {"id": hierarchy.concepts[measured[d]].id, "probability": float(mean_MM[m, d])}
            for d in best[m]
            if mean_MM[m, d] >= 0
        ]
        for m in range(len(measured))
    ]


def _variance(placed_S: Doubles, positive_S: Bools, text_S: Ints | None) -> float:
    """Variance of a mean placement."""
    total = 0.0
    for some in (positive_S, ~positive_S):
        centred = placed_S[some] - placed_S[some].mean()
        samples = len(centred)
        clusters = samples
        if text_S is not None:
            clusters = int((np.bincount(text_S[some]) > 0).sum())
            centred = np.bincount(text_S[some], weights=centred)
        if clusters > 1:
            total += float(np.square(centred).sum()) * clusters / (clusters - 1) / samples**2
    return total


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
