"""What thresholds from some texts promise, and what others show: rates lens by lens, and alarms over all of them.

Shapes: T tokens, N lenses, X texts, K thresholds.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from calibrating.corpora import Corpus
from lenses.alarms import AlarmBudget, alarm_budget, alarm_curve, alarming
from lenses.calibration import log_odds
from lenses.concept import Hierarchy
from lenses.errors import ConfigError
from lenses.grade import grade
from lenses.lens import Floats, Heads
from lenses.metrics import Bools, Doubles, Estimate
from lenses.null import LEVELS, RATES, TOKEN, Null, Z, effective, null_metrics, predicted, ratio_variance

Record = dict[str, Any]
Part = tuple[Corpus, Bools]
"""A corpus and which of its texts."""


@dataclass(frozen=True, slots=True)
class Promise:
    """Thresholds of every lens from some texts, and the sizes of these."""

    hierarchy: Hierarchy
    """With null metrics in place of what the pack's own may be."""
    heads: Heads
    lengths_X: Doubles

    @classmethod
    def of(cls, parts: Sequence[Part], hierarchy: Hierarchy, heads: Heads) -> "Promise":
        """Out of these texts."""
        tokens = sum(int(texts[text_T].sum()) for corpus, texts in parts for _, text_T in corpus.pieces)
        null = Null(len(hierarchy), most_tokens=tokens)
        offset = 0
        for corpus, texts in parts:
            for logits_TN, text_T in corpus.read(texts):
                null.add(logits_TN, text_T + offset)
            offset += corpus.texts
        concepts = []
        for concept, found in zip(hierarchy, null_metrics(null, heads), strict=True):
            kept = {name: value for name, value in concept.metrics.items() if not name.startswith("null_")}
            concepts.append(replace(concept, metrics=kept | found))
        measured = Hierarchy(concepts)
        curve = alarm_curve(null, measured, heads)
        return cls(measured, replace(heads, alarm_curve=curve), null.lengths_X)


def compare(
    first: Sequence[Part],
    second: Sequence[Part],
    hierarchy: Hierarchy,
    heads: Heads,
    budgets: Sequence[float],
) -> Record:
    """Thresholds from the first texts, rates on the second: of lenses that may alarm, and of alarms over all."""
    promise = Promise.of(first, hierarchy, heads)
    lenses = np.flatnonzero(alarming(promise.hierarchy, promise.heads))
    keys = [
        (level, name)
        for level in LEVELS
        for name in RATES
        if len(lenses) and f"null_{level}_{name}" in promise.hierarchy.concepts[lenses[0]].metrics
    ]
    bounds_KN = np.full((len(keys), len(hierarchy)), np.inf, np.float32)
    for k, (level, name) in enumerate(keys):
        for n in lenses:
            bounds_KN[k, n] = promise.hierarchy.concepts[n].metrics[f"null_{level}_{name}"]
    alarms: list[AlarmBudget] = []
    refused: dict[float, str] = {}
    for budget in budgets:
        try:
            alarms.append(alarm_budget(promise.hierarchy, promise.heads, budget))
        except ConfigError as error:
            refused[budget] = str(error)
    counts = _count(second, heads, keys, bounds_KN, [one.threshold_N for one in alarms])
    rates = {
        f"{level}_{name}": _rates(promise, counts, k, level, name, lenses)
        for k, (level, name) in enumerate(keys)
    }
    return {
        "first": _size(promise.lengths_X),
        "second": _size(counts.lengths_X),
        "lenses": len(lenses),
        "rates": rates,
        "alarms": [_alarmed(one, counts, place) for place, one in enumerate(alarms)]
        + [{"budget": budget, "refused": said} for budget, said in refused.items()],
    }


@dataclass(frozen=True, slots=True)
class _Counts:
    lengths_X: Doubles
    above_KN: Doubles
    """Tokens, or texts, above each threshold of each lens."""
    alarms_BX: Doubles
    """Alarms in each text, by budget."""


def _count(
    parts: Sequence[Part],
    heads: Heads,
    keys: Sequence[tuple[str, str]],
    bounds_KN: Floats,
    alarms: Sequence[Floats],
) -> _Counts:
    lengths: list[Any] = []
    alarmed: list[Any] = []
    above_KN = np.zeros(bounds_KN.shape)
    for corpus, texts in parts:
        for logits_TN, text_T in corpus.read(texts):
            odds_TN = log_odds(logits_TN, heads.platt_slope, heads.platt_offset)
            starts = np.flatnonzero(np.append(True, text_T[1:] != text_T[:-1]))
            lengths.append(np.diff(starts, append=len(text_T)))
            highest_XN = np.maximum.reduceat(odds_TN, starts, axis=0)
            for k, (level, _) in enumerate(keys):
                above_KN[k] += ((odds_TN if level == TOKEN else highest_XN) > bounds_KN[k]).sum(axis=0)
            by_token = [(odds_TN > bound_N).sum(axis=1) for bound_N in alarms]
            alarmed.append([np.add.reduceat(one, starts) for one in by_token])
    alarms_BX = [np.concatenate([piece[b] for piece in alarmed]) for b in range(len(alarms))]
    lengths_X = np.concatenate(lengths).astype(np.float64)
    return _Counts(lengths_X, above_KN, np.array(alarms_BX, np.float64).reshape(len(alarms), len(lengths_X)))


def _rates(promise: Promise, counts: _Counts, k: int, level: str, name: str, lenses: Any) -> Record:
    """One kind of threshold over all lenses: promised, measured, and how many lie within their prediction."""
    found = []
    for n in lenses:
        metrics = promise.hierarchy.concepts[n].metrics
        likeness = metrics.get("null_token_likeness", 0.0) if level == TOKEN else 0.0
        weights = [
            lengths if level == TOKEN else np.ones(len(lengths))
            for lengths in (promise.lengths_X, counts.lengths_X)
        ]
        share = metrics[f"null_{level}_{name}_share"]
        low, high = predicted(share, effective(weights[0], likeness), effective(weights[1], likeness))
        found.append((float(counts.above_KN[k, n] / weights[1].sum()), low, high))
    rate_M, low_M, high_M = np.array(found).T
    seen = rate_M[rate_M > 0]
    return {
        "promised": RATES[name],
        "measured": dict(
            zip(
                ("p5", "p25", "median", "p75", "p95"),
                np.quantile(rate_M, [0.05, 0.25, 0.5, 0.75, 0.95]),
                strict=True,
            )
        ),
        "inside": float(((low_M <= rate_M) & (rate_M <= high_M)).mean()),
        "at_most": float((rate_M <= high_M).mean()),
        "none_seen": int((rate_M == 0).sum()),
        # Half the width of the middle 95 % in the logarithm, as a factor.
        "factor": math.exp(float(np.diff(np.quantile(np.log(seen), [0.025, 0.975]))[0]) / 2)
        if len(seen)
        else None,
        "lenses": {
            promise.hierarchy.concepts[n].id: [float(f"{value:.3g}") for value in one]
            for n, one in zip(lenses, found, strict=True)
        },
    }


def _alarmed(one: AlarmBudget, counts: _Counts, place: int) -> Record:
    tokens, alarms_X = counts.lengths_X.sum(), counts.alarms_BX[place]
    rate = float(alarms_X.sum() / tokens)
    spread = Z * math.sqrt(ratio_variance(alarms_X, counts.lengths_X, rate)) / rate if rate else 0.0
    measured = Estimate(1000 * rate, 1000 * rate * math.exp(-spread), 1000 * rate * math.exp(spread))
    return {
        "budget": one.budget,
        "scale": one.scale,
        "expected": one.expected,
        "at_most": one.at_most,
        "measured": measured,
        "alarms": int(alarms_X.sum()),
        "kept": measured.value <= one.budget,
    }


def _size(lengths_X: Doubles) -> Record:
    return {"tokens": int(lengths_X.sum()), "texts": len(lengths_X)}


def graded(hierarchy: Hierarchy) -> Mapping[str, str]:
    """The grade of every concept by its id."""
    return {concept.id: grade(concept.metrics) for concept in hierarchy}
