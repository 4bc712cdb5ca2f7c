"""What every view shares: which colour a concept has, which concept a word takes its colour from, how its path reads.

A colour stands for a branch of the hierarchy (a concept of level 0), so that it means one kind of thing throughout.
Knows nothing about where it is shown: terminals, notebooks and pages take their colours from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # these import torch, which tables need not wait for
    from lenses.concept import Concept, Hierarchy
    from runtime.events import Event, Score

TINT_FROM = 0.5
"""Calibrated probability from which a word takes the colour of its strongest concept."""

_PALETTE = (
    "#4e9fd6", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#c9a227", "#3fa7a0", "#d37295",
    "#8c8ce0", "#9c755f", "#86a83a", "#c46fd0", "#5f8fa8", "#d98a6a", "#6fae86", "#a89f91",
)  # fmt: skip
_MUTED = 0.55
"""How far towards grey a colour goes when it is used a second time: hierarchies may have more branches than
eyes tell colours apart."""


@dataclass(frozen=True, slots=True)
class Tint:
    """What a word takes from its strongest concept: the branch, by name, and that branch's colour."""

    branch: str
    colour: str
    """`#rrggbb`"""


class Branches:
    """The branches of a hierarchy: a colour for each concept of level 0, shared by everything below it."""

    def __init__(self, hierarchy: Hierarchy) -> None:
        self._hierarchy = hierarchy

    def tint(self, concept: Concept) -> Tint:
        """The branch that the concept is in."""
        top = self._hierarchy.path(self._hierarchy.index(concept.id))[0]
        again, place = divmod(top, len(_PALETTE))
        return Tint(self._hierarchy.concepts[top].name, _muted(_PALETTE[place], 1 - (1 - _MUTED) ** again))

    def path(self, concept: Concept) -> list[str]:
        """Names from level 0 down to the concept."""
        indices = self._hierarchy.path(self._hierarchy.index(concept.id))
        return [self._hierarchy.concepts[index].name for index in indices]


def strongest_of(event: Event | None) -> Score | None:
    """The concept that a word takes its colour from; None where nothing reaches `TINT_FROM`."""
    if event is None:
        return None
    leaves = event.leaves(1)
    return leaves[0] if leaves and leaves[0].probability >= TINT_FROM else None


def format_probability(score: Score) -> str:
    """A probability with two digits; `?` marks a lens that is not calibrated."""
    return f"{score.probability:.2f}{'' if score.calibrated else '?'}"


def _muted(colour: str, share: float) -> str:
    """A `#rrggbb` colour, mixed with this share of grey."""
    parts = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(part + (128 - part) * share):02x}" for part in parts)
