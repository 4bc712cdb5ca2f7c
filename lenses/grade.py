"""A lens's grade: what its card says of it, in one letter that everything which shows lenses agrees on."""

from collections.abc import Iterable, Mapping

MEASURED_FROM = 10
"""Held-out positives from which a lens counts as measured."""
GRADES = ((0.98, "A"), (0.95, "B"), (0.9, "C"), (0.8, "D"), (0.0, "F"))
"""The grade from this held-out AUROC at a text's end on."""
UNMEASURED = "unmeasured"


def grade(metrics: Mapping[str, float]) -> str:
    """How good a lens was measured to be: a letter out of GRADES, or `unmeasured`.

    `metrics` are a concept's in `concepts.jsonl`; only `auroc` and `positives` are read.
    """
    auroc = metrics.get("auroc")
    if auroc is None or metrics.get("positives", MEASURED_FROM) < MEASURED_FROM:
        return UNMEASURED
    return next((letter for least, letter in GRADES if auroc >= least), GRADES[-1][1])


def worst_first(metric: str, values: Iterable[float]) -> list[float]:
    """The values of a metric of `concepts.jsonl`, the worst lens's first: the highest where that is an error."""
    return sorted(values, reverse=metric.endswith("_error"))
