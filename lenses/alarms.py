"""Alarms: thresholds for many lenses together, out of a budget of alarms per 1,000 tokens.

An alarm is a (token, lens) pair. Lens n alarms where its log-odds are above u_n + c s_n: u_n is its threshold at 1 %
of the tokens, s_n the mean excess above it where it is above, and c >= 0 is the same for all. Tails of log-odds fall
about exponentially, so lenses alarm about equally often at one c, and what is common to all of them is a curve:
alarms of one lens per 1,000 tokens at c, pooled over all lenses that may alarm, with the upper end of its interval,
clustered by text. A budget of N alarms per 1,000 tokens over W lenses picks the least c at which W times that upper
end is at most N. One lens alone could be promised nothing below 1 alarm in the whole corpus; pooled, they can.

The curve is cross-fitted: thresholds of four fifths of the texts are counted on the fifth that they have not seen, in
turns. Counted on the texts that they come from, thresholds look far better than they are: at a few alarms per 1,000
tokens, new texts of the same kind were seen to raise three times as many.

What is promised holds for texts of the null corpus's kind. Knows nothing about hosts, files or how a corpus was read.

Shapes: N lenses, X texts, K highest tokens of a lens, C points of the curve, E excesses of all lenses.
"""

import math
from dataclasses import dataclass

import numpy as np

from lenses.concept import Concept, Hierarchy
from lenses.errors import ConfigError
from lenses.grade import may_alarm
from lenses.lens import Floats, Heads
from lenses.metrics import Bools, Doubles, Ints
from lenses.null import NONE_SEEN, RATES, TOKEN, Null, Tail, Z, ratio_variance

STEP = 0.1
"""Between points of the curve, in mean excesses: neighbours differ by a tenth of their alarms."""
FOLDS = 5
"""Of the null corpus's texts, of which each has its alarms counted with thresholds from the others."""


def alarm_curve(null: Null, hierarchy: Hierarchy, heads: Heads) -> Floats | None:
    """[C, 3] c, alarms of one lens per 1,000 tokens at c, and the upper end of that: see the head of this file.

    Pooled over the lenses that may alarm (`alarming`), whose metrics hold `null_metrics`; None without any. The upper
    end never rises with c; at the last point no alarm was seen.
    """
    watched = np.flatnonzero(alarming(hierarchy, heads))
    lengths_X = null.lengths_X
    if not len(watched):
        return None
    found = [held_out_excesses(null.tail(TOKEN, int(n))) for n in watched]
    excess_E = np.concatenate([excess for excess, _ in found])
    text_E = np.concatenate([texts for _, texts in found])
    points = math.ceil(float(excess_E.max()) / STEP) + 1 if len(excess_E) else 1
    # Alarms at point i are the excesses above it: those whose bin is i or more.
    bin_E = np.minimum(np.ceil(excess_E / STEP).astype(np.int64) - 1, points - 1)
    alarms_CX = np.zeros((points + 1, len(lengths_X)))
    np.add.at(alarms_CX, (bin_E, text_E), 1)
    alarms_CX = np.cumsum(alarms_CX[::-1], axis=0)[::-1][:points]
    tokens = lengths_X.sum()
    curve = np.zeros((points, 3))
    for point, alarms_X in enumerate(alarms_CX):
        rate = float(alarms_X.sum() / tokens)
        texts = int((alarms_X > 0).sum())
        a_text = alarms_X.sum() / texts if texts else 1.0
        upper = NONE_SEEN * a_text / tokens
        if rate:
            spread = Z * math.sqrt(ratio_variance(alarms_X, lengths_X, rate)) / rate
            upper = max(upper, rate * math.exp(spread))
        curve[point] = point * STEP, rate, upper
    curve[:, 2] = np.maximum.accumulate(curve[::-1, 2])[::-1]
    curve[:, 1:] *= 1000 / len(watched)
    return curve.astype(np.float32)


def held_out_excesses(tail: Tail, folds: int = FOLDS) -> tuple[Doubles, Ints]:
    """Every token above u, as (logit - u) / s, and its text; u and s come from the folds that the text is not in.

    The same in log-odds, which are logits shifted and stretched.
    """
    excesses, texts = [], []
    fold_X = np.arange(len(tail.weight_X)) % folds
    fold_K = fold_X[tail.text_K]
    for fold in range(folds):
        rest = tail.of_texts(fold_X != fold)
        bound = rest.threshold(RATES["1fpr"])
        scale = rest.excess(bound)
        own = (fold_K == fold) & (tail.values_K > bound)
        if scale is not None:
            excesses.append((tail.values_K[own].astype(np.float64) - bound) / scale)
            texts.append(tail.text_K[own])
    if not excesses:
        return np.empty(0), np.empty(0, np.int32)
    return np.concatenate(excesses), np.concatenate(texts)


def alarming(hierarchy: Hierarchy, heads: Heads) -> Bools:
    """[N] which lenses may alarm: calibrated, graded better than F, and with a threshold from a null corpus."""
    able = [may_alarm(concept.metrics) and _has_tail(concept) for concept in hierarchy]
    return np.array(able, np.bool_) & heads.calibrated


@dataclass(frozen=True, slots=True)
class AlarmBudget:
    """Alarm thresholds for a budget, and what is promised of them."""

    budget: float
    """Alarms per 1,000 tokens, over all lenses watched, that were asked for."""
    scale: float
    """c, see the head of this file."""
    lenses: int
    """W, the lenses that may alarm."""
    expected: float
    """Alarms per 1,000 tokens on texts of the null corpus's kind."""
    at_most: float
    """The upper end of that, which is promised."""
    threshold_N: Floats
    """[N] log-odds above which a lens alarms; infinite for one that never does."""


def alarm_budget(hierarchy: Hierarchy, heads: Heads, budget: float) -> AlarmBudget:
    """The thresholds at which at most `budget` alarms per 1,000 tokens are expected over all lenses that may alarm.

    Where none may (they were not measured on a null corpus, say), none ever does. Raises ConfigError for a budget
    below what the null corpus was large enough to promise.
    """
    if not (math.isfinite(budget) and budget > 0):
        raise ConfigError(
            f"an alarm budget of {budget:g} cannot be; give alarms per 1,000 tokens, more than 0"
        )
    may_N = alarming(hierarchy, heads)
    curve, lenses = heads.alarm_curve, int(may_N.sum())
    never_N = np.full(len(hierarchy), np.inf, np.float32)
    if curve is None or not lenses:
        return AlarmBudget(budget, 0.0, 0, 0.0, 0.0, never_N)
    enough = np.flatnonzero(lenses * curve[:, 2].astype(np.float64) <= budget)
    if not len(enough):
        least = lenses * float(curve[-1, 2])
        raise ConfigError(
            f"an alarm budget of {budget:g} per 1,000 tokens is less than the pack's null corpus can promise for "
            f"{lenses} lenses, which is {least:.3g}; give at least {math.ceil(least * 1000) / 1000:g}"
        )
    scale, each, upper = (float(value) for value in curve[enough[0]])
    for n in np.flatnonzero(may_N):
        metrics = hierarchy.concepts[n].metrics
        never_N[n] = metrics["null_token_1fpr"] + scale * metrics["null_excess"]
    return AlarmBudget(budget, scale, lenses, lenses * each, lenses * upper, never_N)


def _has_tail(concept: Concept) -> bool:
    return "null_token_1fpr" in concept.metrics and concept.metrics.get("null_excess", 0) > 0
