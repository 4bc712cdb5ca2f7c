"""Colours that mean one kind of thing throughout: each stands for a branch of the hierarchy, a concept of level 0.

Also which concept a word takes its colour from, and how a probability is spelled: terminals, notebooks and pages agree
on all three. Colours are about as bright as a grey in the middle, so that they can be read on dark terminals and on
light ones: nobody can ask a terminal which it is. Knows nothing about what is painted with them.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lenses.concept import Concept, Hierarchy
    from runtime.events import Event, Score

TINT_FROM = 0.98
"""Calibrated probability from which a word takes the colour of its strongest concept.

A colour is a claim. The strongest of some hundreds of lenses is above 0.9 nearly everywhere, and then names a wrong
branch at four words of ten; from 0.98 at a quarter, and a third of the words stays plain (`reports/wordnet-mini.md`).
"""

GREY = "#7b7b7b"
"""For what stands beside the matter: frames, legends, what leads to a name. Terminals differ in what `dim` is."""
_PALETTE = (
    "#207fc1", "#c05f00", "#458a3c", "#e83032", "#a96396", "#967613", "#2b8881", "#d14779",
    "#6c6ce1", "#9c7158", "#678425", "#bd45ce", "#4d809c", "#cc5626", "#45875e", "#857965",
)  # fmt: skip
_MUTED = 0.55
"""How far towards grey a colour goes when it is used a second time: hierarchies may have more branches than
eyes tell colours apart."""


@dataclass(frozen=True, slots=True)
class Tint:
    """What a word takes from its strongest concept: the branch, by name, and that branch's colour."""

    branch: str
    colour: str


class Branches:
    """The branches of a hierarchy: a colour for each concept of level 0, shared by everything below it."""

    def __init__(self, hierarchy: "Hierarchy") -> None:
        self._hierarchy = hierarchy

    def tint(self, concept: "Concept") -> Tint:
        """The branch that the concept is in."""
        top = self._hierarchy.path(self._hierarchy.index(concept.id))[0]
        again, place = divmod(top, len(_PALETTE))
        return Tint(self._hierarchy.concepts[top].name, _muted(_PALETTE[place], 1 - (1 - _MUTED) ** again))

    def path(self, concept: "Concept") -> list[str]:
        """Names from level 0 down to the concept."""
        indices = self._hierarchy.path(self._hierarchy.index(concept.id))
        return [self._hierarchy.concepts[index].name for index in indices]


def strongest_of(event: "Event | None") -> "Score | None":
    """The concept that a word takes its colour from: the strongest whose lens is calibrated and was measured.

    None where it does not reach `TINT_FROM`. A colour is a claim, and nothing vouches for the claims of other lenses.
    """
    if event is None:
        return None
    strongest = next((score for score in event.ranked() if score.vouched), None)
    return strongest if strongest and strongest.probability >= TINT_FROM else None


def format_probability(score: "Score") -> str:
    """A probability with two digits; `?` marks a lens that was not measured or is not calibrated."""
    return f"{score.probability:.2f}{'' if score.vouched else '?'}"


def _muted(colour: str, share: float) -> str:
    """A `#rrggbb` colour, mixed with this share of grey."""
    pairs = ((int(colour[i : i + 2], 16), int(GREY[i : i + 2], 16)) for i in (1, 3, 5))
    return "#" + "".join(f"{round(part + (grey - part) * share):02x}" for part, grey in pairs)
