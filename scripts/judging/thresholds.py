"""What the lenses of a pack must reach, and whether they do.

Takes a report as its JSON holds it; knows nothing about how the numbers came about.
"""

from typing import Any

from runtime.training.walks import LEAST_RECALL

Record = dict[str, Any]

MOST_SCORED = 0.25
"""Share of lenses that the walk scores at a position."""


def must_show(report: Record) -> list[Record]:
    """Thresholds that the lenses are to reach: what was measured, with its interval where there is one, met or
    not."""
    text, tokens = report["summary"]["text"], report["summary"]["tokens"]
    absent, expansion = report["summary"]["words_absent"], report["expansion"]
    return [
        _row("lenses with 10 or more held-out positives", ">=", 500, report["counts"]["measured"]),
        _row("AUROC at the text, median", ">=", 0.96, text["auroc"]["median"]),
        _row("AUROC at the text, 10th percentile", ">=", 0.88, text["auroc"]["p10"]),
        _row("AUROC against siblings at the text, median", ">=", 0.85, text["auroc_siblings"].get("median")),
        _row(
            "share of lenses whose Brier skill at the text is above the constant's",
            ">=",
            0.90,
            text["brier_skill"]["above_constant"],
        ),
        _row("the same at every token", ">=", 0.90, tokens["brier_skill"]["above_constant"]),
        _row(
            "balanced calibration error at the text, median", "<=", 0.05, text["calibration_error"]["median"]
        ),
        _row("the same at every token", "<=", 0.05, tokens["calibration_error"]["median"]),
        _row(
            "AUROC less that of bag of words where telling words are absent, median",
            ">",
            0.0,
            absent.get("difference_median"),
        ),
        _row("share of lenses above bag of words there", ">", 0.5, absent.get("lens_above_share")),
        _row("recall of the walk at the defaults", ">=", LEAST_RECALL, expansion["recall"]["recall"]),
        _row("share of lenses scored a position", "<=", MOST_SCORED, expansion["share_scored"]["mean"]),
    ]


def _row(what: str, relation: str, threshold: float, measured: Any) -> Record:
    value = measured[0] if isinstance(measured, list) else measured
    if value is None:
        verdict = "unmeasured"
    else:
        is_met = {">=": value >= threshold, "<=": value <= threshold, ">": value > threshold}[relation]
        verdict = "met" if is_met else "not met"
    return {
        "what": what,
        "relation": relation,
        "threshold": threshold,
        "measured": measured,
        "verdict": verdict,
    }
