"""Groups of judged lenses, and values of a group. Takes lenses as a report's JSON holds them."""

from collections.abc import Sequence

from judging.verdicts import Record

from lenses.grade import GRADES, UNMEASURED, grade

NAMES = {
    "lens": "lens",
    "bag_of_words": "bag of words",
    "linear": "ridge, same states",
    "random": "random direction",
    "shuffled": "shuffled labels",
}
"""What a score is called on the page: the lens's own, and those of the controls."""
LETTERS = (*(letter for _, letter in GRADES), UNMEASURED)
_SHADES = (0, 40, 80, 160, 640)
"""Edges of the groups by number of training texts."""


def measured(report: Record) -> list[Record]:
    """The lenses that were judged."""
    return [lens for lens in report["lenses"] if lens["measured"]]


def values(some: Sequence[Record], where: str, name: str) -> list[float]:
    """A metric at the text or at every token, of the lenses that have it."""
    return [lens[where][name][0] for lens in some if name in lens[where]]


def control_values(lenses: Sequence[Record], where: str, name: str) -> list[float]:
    """AUROCs of a control, or of the lens beside it: at the text, among siblings, or at every token."""
    if name == "lens":
        place, metric = {
            "text": ("text", "auroc"),
            "text_siblings": ("text", "auroc_siblings"),
            "tokens": ("tokens", "auroc"),
        }[where]
        return values(lenses, place, metric)
    return [lens["controls"][where][name] for lens in lenses if where in lens["controls"]]


def of_level(lenses: Sequence[Record], level: int) -> list[Record]:
    """The lenses of a level."""
    return [lens for lens in lenses if lens["level"] == level]


def by_examples(lenses: Sequence[Record]) -> list[tuple[str, list[Record]]]:
    """The lenses by number of training texts, under a label; groups of none are left out."""
    groups = []
    for low, high in zip(_SHADES, [*_SHADES[1:], None], strict=True):
        label = f"{low} or more" if high is None else f"{low} to {high - 1}"
        some = [
            lens
            for lens in lenses
            if low <= lens["training_texts"] and (high is None or lens["training_texts"] < high)
        ]
        if some:
            groups.append((label, some))
    return groups


def grades(lenses: Sequence[Record]) -> list[Record]:
    """How many lenses have each grade: of all levels (`level` is None), and of each."""
    levels = [None, *sorted({lens["level"] for lens in lenses})]
    return [
        {"level": level}
        | {
            letter: sum(lens["grade"] == letter and level in (None, lens["level"]) for lens in lenses)
            for letter in LETTERS
        }
        for level in levels
    ]


def is_certain(lens: Record) -> bool:
    """Whether the interval of a measured lens's AUROC lies within the letter that AUROC earns."""
    _, low, high = lens["text"]["auroc"]
    return grade({"auroc": low}) == grade({"auroc": high})
