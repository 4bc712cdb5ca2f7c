"""A lens's grade: what its whole card says of it, in one letter that everything which shows lenses agrees on.

Each measure that a card has earns a letter by the table `CRITERIA`, and the grade is the worst of these letters: a lens
that ranks texts perfectly and lies about probabilities, or mixes its concept up with its siblings', is no good lens. A
measure that a card lacks (a concept without siblings, say) takes nothing away, but without an AUROC there is no grade.
`MEANINGS` says what the letters mean.

Where the lines are drawn: an alarm threshold lets 1 % of other texts pass, so what an A finds there (80 % of its
concept's texts) is what makes it worth watching; siblings are the hardest negatives, so the same letter asks for less
there than of AUROC; a calibration error of 0.05 is about what a perfectly calibrated lens of few positives shows by
itself; and of fewer than 20 positives an AUROC is not known well enough to be called the best.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

MEASURED_FROM = 10
"""Held-out positives from which a lens counts as measured."""
GRADES = ((0.98, "A"), (0.95, "B"), (0.9, "C"), (0.8, "D"), (0.0, "F"))
"""The letter that a held-out AUROC at a text's end earns, from this on: the first row of `CRITERIA`, best first."""
LETTERS = tuple(letter for _, letter in GRADES)
MEANINGS = {
    "A": "tells its concept from everything, siblings' included, and may be believed to the digit",
    "B": "reliable; some siblings or some digits are not",
    "C": "right about texts in general; between siblings and at rare alarms, read with care",
    "D": "better than nothing",
    "F": "fails in some measure; never alarms",
}
UNMEASURED = "unmeasured"
SIGN = {UNMEASURED: "?"}
"""How a grade that is no letter is written where there is room for one character."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """What one measure must be to earn each letter but the last."""

    metric: str
    """Its name among a concept's metrics."""
    what: str
    """In words."""
    bounds: tuple[float, ...]
    """For A, B, C, D: at least, or at most where less is better."""

    @property
    def is_error(self) -> bool:
        """Whether less is better."""
        return _is_error(self.metric)

    def letter(self, value: float) -> str:
        """The letter that this value earns."""
        reached = (value <= bound if self.is_error else value >= bound for bound in self.bounds)
        return next((letter for letter, is_met in zip(LETTERS, reached, strict=False) if is_met), LETTERS[-1])


CRITERIA = (
    Criterion("auroc", "AUROC on held-out texts", tuple(least for least, _ in GRADES[:-1])),
    Criterion("auroc_siblings", "AUROC against siblings' texts alone", (0.95, 0.9, 0.8, 0.7)),
    Criterion("tpr_at_1fpr", "share of its texts found at 1 % false positives", (0.8, 0.6, 0.4, 0.2)),
    Criterion("calibration_error", "balanced calibration error", (0.05, 0.08, 0.12, 0.2)),
    Criterion(
        "positives", "held-out texts of the concept", (20, MEASURED_FROM, MEASURED_FROM, MEASURED_FROM)
    ),
)


def grade(metrics: Mapping[str, float]) -> str:
    """How good a lens was measured to be: a letter of `LETTERS`, or `unmeasured`.

    `metrics` are a concept's in `concepts.jsonl`; those that `CRITERIA` names are read.
    """
    if "auroc" not in metrics or metrics.get("positives", MEASURED_FROM) < MEASURED_FROM:
        return UNMEASURED
    return max(letter for _, _, letter in earned(metrics))


def earned(metrics: Mapping[str, float]) -> list[tuple[Criterion, float, str]]:
    """What each measure of a card earns, in the order of `CRITERIA`; those that it lacks are left out."""
    return [
        (one, metrics[one.metric], one.letter(metrics[one.metric]))
        for one in CRITERIA
        if one.metric in metrics
    ]


def reason(metrics: Mapping[str, float]) -> str:
    """Why a lens has its grade, as half a sentence: the measures that decided, or what is missing."""
    letter = grade(metrics)
    if letter == UNMEASURED:
        return f"fewer than {MEASURED_FROM} held-out texts: {metrics.get('positives', 0):g}"
    if letter == LETTERS[0]:
        return "every measure earns it"
    decided = [f"{one.what} is {value:.4g}" for one, value, own in earned(metrics) if own == letter]
    return "; ".join(decided)


def may_alarm(metrics: Mapping[str, float]) -> bool:
    """Whether a lens is good enough to alarm: it was measured, and its grade is not the last."""
    return grade(metrics) not in (UNMEASURED, LETTERS[-1])


def rule() -> list[list[str]]:
    """The rule as rows of a table: a measure, and what it must be for each letter but the last."""
    return [
        [one.what, *(f"{'at most' if one.is_error else 'from'} {bound:g}" for bound in one.bounds)]
        for one in CRITERIA
    ]


def worst_first(metric: str, values: Iterable[float]) -> list[float]:
    """The values of a metric of `concepts.jsonl`, the worst lens's first: the highest where that is an error."""
    return sorted(values, reverse=_is_error(metric))


def is_of_all(metric: str) -> bool:
    """Whether a metric is one to compare lenses by, and not an end of an interval, a count or a name in itself."""
    return ":" not in metric and not metric.startswith("null_") and not metric.endswith(("_low", "_high"))


def _is_error(metric: str) -> bool:
    return metric.endswith("_error")
