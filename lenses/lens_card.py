"""The card of one lens: everything that a pack knows of it, in words and rows.

It reads a concept's metrics under the names that `lenses.measure` gives them, and says of what is not there that it was
not measured. Whoever shows a card (a terminal, a page) shows these rows.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from lenses.concept import Hierarchy
from lenses.config import PackConfig
from lenses.grade import CRITERIA, SIGN, earned, grade, may_alarm, reason
from lenses.lens import Heads
from lenses.measure import CONFUSION, CONTROL, PARTS
from lenses.null import LEVELS as NULL_LEVELS
from lenses.null import RATES

NOT_MEASURED = "not measured"

Rows = list[list[str]]


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a lens's card: rows of a name and a value."""

    title: str
    rows: Rows


def lens_card(config: PackConfig, hierarchy: Hierarchy, heads: Heads, index: int) -> list[Section]:
    """Everything that a pack knows of one lens; what its metrics do not hold is said to be not measured.

    `lenses.measure` says under which names metrics hold what.
    """
    concept = hierarchy.concepts[index]
    metrics = concept.metrics
    return [
        Section("Lens", _about(config, hierarchy, heads, index)),
        Section("Grade", _graded(metrics)),
        Section("Held-out texts", _reached(metrics, "")),
        *(Section(f"Texts of {what}", _reached(metrics, f"{part}_")) for part, what in PARTS.items()),
        Section("Controls, AUROC", _prefixed(metrics, CONTROL, "no controls")),
        Section("Fires on texts of", _prefixed(metrics, CONFUSION, "no other concept")),
        Section("Walk", _walk(config, metrics)),
        Section("Null corpus", _null(metrics, heads)),
    ]


def _about(config: PackConfig, hierarchy: Hierarchy, heads: Heads, index: int) -> Rows:
    concept = hierarchy.concepts[index]
    path = " > ".join(hierarchy.concepts[at].name for at in hierarchy.path(index))
    opens = hierarchy.opens[index]
    children = hierarchy.families[opens].rows if opens >= 0 else 0
    calibrated = heads.calibrated[index]
    threshold = NOT_MEASURED if concept.threshold is None else f"probability {concept.threshold:.4f}"
    return [
        ["id", concept.id],
        ["name", concept.name],
        ["path", path],
        [
            "level",
            f"{concept.level}, {hierarchy.families[concept.family].rows - 1} siblings, {children} children",
        ],
        [
            "scored",
            "at every token" if concept.level in config.base_levels else "when its ancestors are active",
        ],
        [
            "calibration",
            f"log-odds = {heads.platt_slope[index]:.4g} x logit {heads.platt_offset[index]:+.4g}, at prior "
            f"{config.calibration_prior:g}"
            if calibrated
            else "not calibrated",
        ],
        ["present from", threshold],
    ]


def _graded(metrics: Mapping[str, float]) -> Rows:
    letter = grade(metrics)
    rows = [["grade", f"{SIGN.get(letter, letter)} ({reason(metrics)})"]]
    own = {one.metric: (value, earns) for one, value, earns in earned(metrics)}
    for one in CRITERIA:
        value = f"{own[one.metric][0]:.4g} earns {own[one.metric][1]}" if one.metric in own else NOT_MEASURED
        rows.append([one.what, value])
    if not may_alarm(metrics):
        return [*rows, ["alarms", "never, at this grade"]]
    return [
        *rows,
        ["alarms", "may" if "null_excess" in metrics else "never, without a null corpus's threshold"],
    ]


def _reached(metrics: Mapping[str, float], part: str) -> Rows:
    """What a lens reaches on one part of the texts; one row where nothing was measured on it."""
    if f"{part}positives" not in metrics:
        return [["measured", NOT_MEASURED]]

    def value(name: str) -> str:
        found = metrics.get(f"{part}{name}")
        if found is None:
            return NOT_MEASURED
        low, high = metrics.get(f"{part}{name}_low"), metrics.get(f"{part}{name}_high")
        return f"{found:.4f}" + ("" if low is None or high is None else f" ({low:.4f} to {high:.4f})")

    rows = [["texts of the concept", f"{metrics[f'{part}positives']:g}"]]
    for name, what in _REACHED.items():
        if name in _HELD_OUT_ONLY and part:
            continue
        rows.append([what, value(name)])
    return rows


_REACHED = {
    "auroc": "AUROC (95 %)",
    "auroc_siblings": "AUROC against siblings",
    "auroc_sampled": "AUROC at sampled positions",
    "tpr_at_1fpr": "found at 1 % false positives",
    "brier_skill": "Brier skill",
    "calibration_error": "calibration error (95 %)",
}
_HELD_OUT_ONLY = {"auroc_sampled", "brier_skill"}


def _prefixed(metrics: Mapping[str, float], prefix: str, none: str) -> Rows:
    found = [(name.removeprefix(prefix), value) for name, value in metrics.items() if name.startswith(prefix)]
    found.sort(key=lambda item: (-item[1], item[0]))
    return [[name, f"{value:.4f}"] for name, value in found] or [[none, NOT_MEASURED]]


def _walk(config: PackConfig, metrics: Mapping[str, float]) -> Rows:
    if "walk_active" not in metrics:
        return [["recall through its ancestors", NOT_MEASURED]]
    width = f"{config.top_k} families a level, from probability {config.load_threshold:g}"
    recall = f"{metrics['walk_recall']:.4f}" if "walk_recall" in metrics else "never active"
    return [
        ["recall through its ancestors", recall],
        ["positions where it is active", f"{metrics['walk_active']:g}"],
        ["walk", width],
    ]


def _null(metrics: Mapping[str, float], heads: Heads) -> Rows:
    if "null_tokens" not in metrics:
        return [["thresholds", NOT_MEASURED]]
    rows = [
        ["texts that are of nothing", f"{metrics['null_texts']:,.0f}, {metrics['null_tokens']:,.0f} tokens"]
    ]
    for level, of in NULL_LEVELS.items():
        for name, rate in RATES.items():
            key = f"null_{level}_{name}"
            if key not in metrics:
                rows.append([f"{rate:.1%} {of}", f"{NOT_MEASURED}, too few texts"])
                continue
            ends = (f"{metrics[f'{key}{end}']:.2f}" for end in ("_low", "_high"))
            said = f"log-odds {metrics[key]:.2f} ({' to '.join(ends)}), probability {_as_probability(metrics[key])}"
            rows.append([f"{rate:.1%} {of}", f"above {said}"])
    if "null_excess" in metrics:
        rows.append(["mean excess above 1 % of the tokens", f"{metrics['null_excess']:.3g}"])
    if "null_token_likeness" in metrics:
        rows.append(["likeness of a text's tokens", f"{metrics['null_token_likeness']:.3g}"])
    return [*rows, ["alarm curve", "in the pack" if heads.alarm_curve is not None else NOT_MEASURED]]


def _as_probability(odds: float) -> str:
    """With as many digits as it takes to be told from 1."""
    beside = 1 / (1 + math.exp(min(odds, 700)))  # 1 - p
    digits = 2 if beside > 0.05 else min(8, 1 - math.floor(math.log10(beside)))
    return f"{1 - beside:.{digits}f}"
