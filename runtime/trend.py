"""The course of one concept over a text: what it scored at every position, and where it was not scored.

A trend only looks at events. What is scored does not depend on who looks, so a concept whose family was not
opened has a gap there, and a gap is never a zero. Knows nothing about terminals.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lenses.concept import Hierarchy
    from runtime.events import Event, Score

NOT_SCORED, FAILED, PROMPT_END = "·", "!", "│"
"""Marks among the blocks of a trend line: a position where the concept's family was not opened; one where it
could not be scored (a family that could not be read, a row that was not finite); the end of the prompt."""
_BLOCKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Reading:
    """One concept at one position."""

    score: "Score | None"
    """None where it was not scored."""
    is_read: bool
    """Whether the position is one of the prompt; else its token was generated."""
    is_failed: bool
    """Not scored, though it was to be."""

    @property
    def mark(self) -> str:
        """One cell: a block as high as the probability, on a scale from 0 to 1, or the mark of a gap."""
        if self.score is None:
            return FAILED if self.is_failed else NOT_SCORED
        return _BLOCKS[min(int(self.score.probability * len(_BLOCKS)), len(_BLOCKS) - 1)]


class Trend:
    """One tracked concept and its readings; raises ConceptNotFound with the ids that come close."""

    def __init__(self, hierarchy: "Hierarchy", concept_id: str) -> None:
        path = hierarchy.path(hierarchy.index(concept_id))
        self.path = tuple(hierarchy.concepts[index] for index in path)
        """The concepts from level 0 down to the tracked one."""
        self.concept = self.path[-1]
        """The tracked concept."""
        self._parents = {"", *(concept.id for concept in self.path[:-1])}
        self._readings: dict[int, Reading] = {}

    def read(self, event: "Event") -> Reading:
        """What an event says about the concept."""
        score = event.score_of(self.concept.id)
        failed = event.state == "non_finite" or not self._parents.isdisjoint(event.failed)
        return Reading(score, event.phase == "prompt", score is None and failed)

    def add(self, event: "Event") -> None:
        """Take an event in; a later one for the same position takes the place of the earlier."""
        if event.state not in ("bos", "after_end"):  # neither is a place in the text
            self._readings[event.position] = self.read(event)

    @property
    def last(self) -> Reading | None:
        """The latest reading; None before the first."""
        return next(reversed(self._readings.values()), None)

    def line(self, cells: int) -> str:
        """The latest readings as one string of at most this many cells, with a mark where the prompt ends."""
        latest = list(self._readings.values())[-cells:] if cells > 0 else []
        marks = []
        for before, reading in zip([None, *latest], latest, strict=False):
            if before is not None and before.is_read and not reading.is_read:
                marks.append(PROMPT_END)
            marks.append(reading.mark)
        return "".join(marks)[-cells:] if cells > 0 else ""
