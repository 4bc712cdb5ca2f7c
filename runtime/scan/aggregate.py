"""What the positions of one text say of each concept together.

    mean    the mean over the positions at which the concept was scored
    max     the highest of them
    ema:a   the first, then e = a e + (1 - a) p at each of them, as it is at the end of the text

A position at which a concept was not scored tells nothing of it and is no zero; how many there were is told beside the
number. So that one word does not speak for a whole text, concepts are ordered by mean and ema times the share of the
text's positions at which they were scored, and by max as it is; ties by id.

Shapes: N concepts of the pack, C of them at one position.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lenses.concept import Hierarchy
from lenses.errors import ConfigError
from lenses.text import quoted

_EMA = re.compile(r"ema:(0?\.\d+)")


@dataclass(frozen=True, slots=True)
class Aggregation:
    """How probabilities of many positions become one; `str` and `parse` are each other's inverse."""

    name: str
    decay: float = 0.0

    @classmethod
    def parse(cls, text: str) -> "Aggregation":
        """`mean`, `max`, or `ema:` with a number between 0 and 1; raises ConfigError."""
        if text in ("mean", "max"):
            return cls(text)
        if (found := _EMA.fullmatch(text)) and float(found[1]) > 0:
            return cls("ema", float(found[1]))
        raise ConfigError(f"aggregation {quoted(text)} is not known; give mean, max, or ema:0.9 or the like")

    def __str__(self) -> str:
        return self.name if self.name != "ema" else f"ema:{self.decay!r}"


@dataclass(slots=True)
class Course:
    """The probabilities of one text so far, position by position."""

    aggregation: Aggregation
    concepts: int
    positions: int = 0
    """That had scores."""
    count_N: NDArray[np.int64] = field(init=False)
    _value_N: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self.count_N = np.zeros(self.concepts, np.int64)
        self._value_N = np.zeros(self.concepts)

    def add(self, concepts_C: NDArray[np.int32], probability_C: NDArray[np.float32]) -> None:
        """One more position with scores, in the order of the text."""
        before, p = self._value_N[concepts_C], probability_C.astype(np.float64)
        if self.aggregation.name == "mean":
            after = before + p
        elif self.aggregation.name == "max":
            after = np.maximum(before, p)
        else:
            decay = self.aggregation.decay
            after = np.where(self.count_N[concepts_C] > 0, decay * before + (1 - decay) * p, p)
        self._value_N[concepts_C] = after
        self.count_N[concepts_C] += 1
        self.positions += 1

    def values(self) -> NDArray[np.float64]:
        """[N] the aggregate of each concept; 0 where it was never scored."""
        if self.aggregation.name == "mean":
            return self._value_N / np.maximum(self.count_N, 1)
        return self._value_N

    def strongest(self, hierarchy: Hierarchy, most: int | None) -> Sequence[int]:
        """The concepts that were scored anywhere, strongest first, at the most so many."""
        weight_N = self.values()
        if self.aggregation.name != "max":
            weight_N = weight_N * self.count_N / max(1, self.positions)
        scored = np.flatnonzero(self.count_N)
        order = np.lexsort((hierarchy.id_rank[scored], -weight_N[scored]))
        strongest: list[int] = scored[order][:most].tolist()
        return strongest
