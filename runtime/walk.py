"""One position on its way down the hierarchy: what it got so far, and what it still wants.

A walk goes down a level at a time: only when all families of a level are in (or have failed) are their children ranked,
so what it gets does not depend on when they came. Knows nothing about who scores, fetches or chooses.

Shapes: C what lenses read of a state, A concepts that are scored beside the walk.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lenses.lens import Floats
from runtime.events import Coverage, Phase
from runtime.expansion import NOTHING, Choice


@dataclass(slots=True)
class Scored:
    """Concepts and their logits, in the pieces in which they came."""

    concepts: list[NDArray[np.int32]] = field(default_factory=list)
    logits: list[Floats] = field(default_factory=list)

    def add(self, concepts: NDArray[np.int32], logits: Floats) -> None:
        """Add concepts and their logits."""
        self.concepts.append(concepts)
        self.logits.append(logits)

    def own(self) -> int:
        """Copy what are views of larger arrays, so that those can go; returns the bytes that are left."""
        if self.concepts:
            self.concepts, self.logits = [np.concatenate(self.concepts)], [np.concatenate(self.logits)]
        return sum(array.nbytes for array in (*self.concepts, *self.logits))


@dataclass(slots=True)
class Scores(Scored):
    """What one position got: which concepts were scored, what came out, and what could not be."""

    failed: list[int] = field(default_factory=list)
    """Families that could not be read."""
    failed_lenses: int = 0
    pending_lenses: int = 0
    """Lenses that are wanted and whose families are not here yet; 0 once the walk is complete."""
    cut: int = 0
    asked_A: Floats = field(default_factory=lambda: np.empty(0, np.float32))
    """Logits of the concepts that are scored beside the walk: see `Engine.asked`."""
    origins: dict[str, int] = field(default_factory=lambda: {"hot": 0, "warm": 0, "cold": 0})

    def ordered(self) -> tuple[NDArray[np.int32], Floats]:
        """Concept indices, ascending, and their logits."""
        concepts, logits = np.concatenate(self.concepts), np.concatenate(self.logits)
        if (concepts[1:] > concepts[:-1]).all():  # the base alone is in order, and may be everything
            return concepts, logits
        order = np.argsort(concepts)
        return concepts[order], logits[order]

    @property
    def coverage(self) -> Coverage:
        """How much of what is known to be wanted was scored."""
        scored = sum(len(concepts) for concepts in self.concepts)
        expected = scored + self.pending_lenses + self.failed_lenses
        return Coverage(expected, scored, self.pending_lenses, self.failed_lenses, self.cut)


@dataclass(slots=True)
class Walk:
    """One position's walk; complete once its choice names no family."""

    input_C: Floats
    """What its lenses read of its state: see `Bank.inputs`."""
    phase: Phase
    scores: Scores
    choice: Choice = NOTHING
    """What it opens at this level, less what was scored of that or has failed."""
    level: Scored = field(default_factory=Scored)
    """What this level gave so far."""
    asked: bool = False
    """Whether the families of `choice` were asked for before, and were not there."""

    def add(self, concepts: NDArray[np.int32], logits: Floats) -> None:
        """Add concepts of this level and their logits."""
        self.scores.add(concepts, logits)
        self.level.add(concepts, logits)

    @property
    def is_complete(self) -> bool:
        """Whether it has reached its end."""
        return not self.choice.families

    def own(self) -> int:
        """Hold no more memory than it needs, none of it shared with other positions; returns how much, in bytes."""
        if self.is_complete:
            self.input_C, self.level = self.input_C[:0].copy(), Scored()
        elif self.input_C.base is not None:
            self.input_C = self.input_C.copy()
        return self.input_C.nbytes + self.scores.own() + self.level.own()
