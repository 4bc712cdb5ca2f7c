"""What a card says of each lens, found out once when a pack is made, by one call: `measure`.

It takes scores as they are served, with labels, and knows nothing about texts, hosts or files. The names under which a
concept's metrics hold what was found, each left out where there was too little to measure it on:

    positives                        held-out texts of the concept; always there
    auroc, auroc_low, auroc_high     at a text's last position, with 95 %
    auroc_siblings                   the same among texts of its siblings alone
    auroc_sampled                    at sampled positions
    tpr_at_1fpr, brier_skill         see `lenses.metrics`
    calibration_error, ..._low, ..._high    balanced, with 95 %
    <part>_positives, <part>_auroc ...      the same on texts out of the training's distribution: `style`, `length`
    control_<name>                   AUROC at a text's last position of something that is no lens: `bag_of_words`, ...
    confusion:<id>                   mean probability on the texts of another concept, for those where it is highest
    walk_active, walk_recall         positions where its probability is 1/2 or more, and the share of them at which the
                                     walk would have scored it: all its ancestors' families were opened
    null_...                         see `lenses.null.null_metrics`

Shapes: S samples (sampled positions of held-out texts and the last one), X texts, N lenses.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from lenses.alarms import alarm_curve
from lenses.calibration import log_odds, probability, threshold_log_odds
from lenses.concept import Hierarchy
from lenses.lens import Floats, Heads
from lenses.metrics import Bools, Ints, area, concept_metrics, confusions, is_measured, threshold
from lenses.null import Null, null_metrics

CONFUSION = "confusion:"
CONTROL = "control_"
PARTS = {"style": "another style", "length": "another length"}
"""Texts out of the training's distribution, as they are named in metrics."""
_KEPT_OF_PARTS = (
    "positives",
    "auroc",
    "auroc_low",
    "auroc_high",
    "auroc_siblings",
    "tpr_at_1fpr",
    "calibration_error",
)


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores of some texts nobody trained on, with their labels."""

    logits_SN: Floats
    text_S: Ints
    """[S] row of `positive_XN` that each sample's text has."""
    last_S: Bools
    """[S] whether it is a text's last position."""
    positive_XN: Bools
    """Whether a text is of the concept or of one below it."""

    def at_texts(self) -> tuple[Floats, Bools]:
        """Logits and labels at each text's last position, `[X', N]`."""
        return self.logits_SN[self.last_S], self.positive_XN[self.text_S[self.last_S]]


@dataclass(frozen=True, slots=True)
class Walk:
    """How a pack is walked."""

    base_levels: tuple[int, ...]
    top_k: int
    load_threshold: float


def measure(
    hierarchy: Hierarchy,
    heads: Heads,
    held_out: Scored,
    *,
    null: Null | None = None,
    others: Mapping[str, Scored] | None = None,
    controls: Mapping[str, Floats] | None = None,
    walk: Walk | None = None,
) -> tuple[Hierarchy, Heads]:
    """The hierarchy with every lens's metrics and threshold, and the heads with the pack's alarm curve.

    `others` are texts out of distribution by the names of `PARTS`, `controls` the scores `[S, N]` of what is no lens on
    the samples of `held_out`. A lens that is measured and calibrated has a threshold. A lens of too few positives has
    only their number, and what needs none.
    """
    logits_XN, positive_XN = held_out.at_texts()
    probability_XN = probability(logits_XN, heads.platt_slope, heads.platt_offset)
    table = concept_metrics(hierarchy, logits_XN, probability_XN, positive_XN)
    thresholds: list[float | None] = [None] * len(hierarchy)
    measured = [n for n, metrics in enumerate(table) if "auroc" in metrics]
    for n in measured:
        at_samples = held_out.positive_XN[held_out.text_S, n]
        table[n]["auroc_sampled"] = round(area(held_out.logits_SN[:, n], at_samples), 4)
        if heads.calibrated[n]:
            thresholds[n] = threshold(probability_XN[:, n], positive_XN[:, n])
        for name, scores_SN in (controls or {}).items():
            value = area(scores_SN[held_out.last_S, n], positive_XN[:, n])
            table[n][f"{CONTROL}{name}"] = round(value, 4)
    confused_M = confusions(hierarchy, measured, probability_XN[:, measured], positive_XN)
    for n, confused in zip(measured, confused_M, strict=True):
        table[n] |= {f"{CONFUSION}{one['id']}": round(one["probability"], 4) for one in confused}
    for part, scored in (others or {}).items():
        for metrics, found in zip(table, out_of_distribution(hierarchy, heads, scored), strict=True):
            metrics |= {f"{part}_{name}": value for name, value in found.items()}
    if walk is not None:
        for metrics, found in zip(
            table, walk_recall(hierarchy, heads, held_out.logits_SN, walk), strict=True
        ):
            metrics |= found
    if null is not None:
        for metrics, found in zip(table, null_metrics(null, heads), strict=True):
            metrics |= found
    concepts = [
        replace(concept, metrics=metrics, threshold=present_from)
        for concept, metrics, present_from in zip(hierarchy, table, thresholds, strict=True)
    ]
    finished = Hierarchy(concepts)
    return finished, heads if null is None else replace(heads, alarm_curve=alarm_curve(null, finished, heads))


def out_of_distribution(hierarchy: Hierarchy, heads: Heads, scored: Scored) -> list[dict[str, float]]:
    """What lenses reach on other texts, at each one's last position; nothing for a lens of too few positives."""
    logits_XN, positive_XN = scored.at_texts()
    probability_XN = probability(logits_XN, heads.platt_slope, heads.platt_offset)
    table = concept_metrics(hierarchy, logits_XN, probability_XN, positive_XN)
    return [
        {name: metrics[name] for name in _KEPT_OF_PARTS if name in metrics}
        if is_measured(positive_XN[:, n])
        else {}
        for n, metrics in enumerate(table)
    ]


def walk_recall(hierarchy: Hierarchy, heads: Heads, logits_SN: Floats, walk: Walk) -> list[dict[str, float]]:
    """How often the walk scores each lens of those times that it is active; for the base, always."""
    odds_SN = log_odds(logits_SN, heads.platt_slope, heads.platt_offset)
    is_active_SN = odds_SN >= threshold_log_odds(0.5)
    active_N = is_active_SN.sum(axis=0)
    found_N = (is_active_SN & walked(hierarchy, odds_SN, walk)).sum(axis=0)
    return [
        {"walk_active": int(active)} | ({"walk_recall": round(found / active, 4)} if active else {})
        for active, found in zip(active_N.tolist(), found_N.tolist(), strict=True)
    ]


def walked(hierarchy: Hierarchy, odds_SN: Floats, walk: Walk) -> Bools:
    """[S, N] which lenses the walk scores, level by level, on log-odds of all of them.

    `runtime.expansion` is the policy itself, position by position; this is the same for many at once.
    """
    scored_SN = np.zeros(odds_SN.shape, np.bool_)
    scored_SN[:, hierarchy.levels < len(walk.base_levels)] = True
    for level in range(len(walk.base_levels) - 1, hierarchy.depth - 1):
        offered = np.flatnonzero((hierarchy.levels == level) & (hierarchy.opens >= 0))
        if not len(offered):
            break
        offered = offered[np.argsort(hierarchy.id_rank[offered])]  # ties go to the lower id
        odds = odds_SN[:, offered]
        qualified = scored_SN[:, offered] & (odds >= threshold_log_odds(walk.load_threshold))
        order = np.argsort(-np.where(qualified, odds, -np.inf), axis=1, kind="stable")
        taken = np.zeros_like(qualified)
        np.put_along_axis(taken, order[:, : walk.top_k], True, axis=1)
        taken &= qualified
        for column, n in enumerate(offered):
            family = hierarchy.families[hierarchy.opens[n]]
            scored_SN[:, family.first : family.first + family.rows] = taken[:, column : column + 1]
    return scored_SN
