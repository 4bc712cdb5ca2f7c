"""A ratio of two times measured in one run, and how far it moves by itself.

What is timed takes turns with itself (an A/A pair); *noise* is how far the interval of that pair's ratio reaches from
1. Two runs' ratios differ where they are further apart than the noise of either. Knows numbers only.

Shape: R rounds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from measuring.comparing import ratio
from measuring.rounds import Rounds, Variant

from lenses.errors import PhoropterError


class Broken(PhoropterError):
    """Contents differ that must be equal, or a counter that must move does not."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """One time over another."""

    name: str
    value: float
    noise: float
    """As a share: 0.1 is 10 %."""

    @classmethod
    def over(cls, name: str, rounds: Rounds, above: str, below: str) -> Self:
        """Medians of two variants, both of which were timed twice."""
        value = float(np.median(_both(rounds, above)) / np.median(_both(rounds, below)))
        return cls(name, value, max(_noise(rounds, above), _noise(rounds, below)))

    @classmethod
    def over_ms(cls, name: str, rounds: Rounds, above: str, below_ms: float) -> Self:
        """The median of a variant that was timed twice over a floor."""
        return cls(name, float(np.median(_both(rounds, above))) / below_ms, _noise(rounds, above))

    def to_json(self) -> dict[str, float]:
        """All but the name, as one JSON object."""
        return {"value": self.value, "noise": self.noise}


def twice(variants: Sequence[Variant]) -> list[Variant]:
    """Each variant and itself again."""
    return [one for variant in variants for one in (variant, variant.again())]


def _both(rounds: Rounds, name: str) -> list[float]:
    return [*rounds[name].tolist(), *rounds[f"{name} (again)"].tolist()]


def _noise(rounds: Rounds, name: str) -> float:
    pair = ratio(rounds[f"{name} (again)"], rounds[name])
    return max(abs(pair.low - 1), abs(pair.high - 1))
