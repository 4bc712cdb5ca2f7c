"""Input states in which the concepts of a hierarchy are planted, so that a lens has something to find.

    state = offset + scale * turn (sum over the text's concept and all above it of one of its two directions
                                   + background), the background half the text's and half the position's

The background's variances fall as 1/i, as spectra of a language model's states do, and concepts lie in it as the square
root of that: more in the wide directions, none nowhere. Each text shows a concept by one of two directions, so that a
linear lens cannot tell all. Scales are lognormal: some numbers of a state are many times as large as others.

How concepts lie in the spectrum is an assumption; what it decides is how much is lost by leaving narrow directions out.

Shapes: X texts, S samples, D hidden size, N concepts.
"""

from dataclasses import dataclass

import numpy as np

from lenses.concept import Hierarchy
from lenses.lens import Floats
from lenses.training import Samples

_STRENGTH, _MENTIONS, _LOUDEST = 2.0, 20, 0.8
"""Length of a concept's direction, where the background is about 3."""


@dataclass(frozen=True, slots=True)
class Planted:
    """A world of states; `samples` draws texts from it."""

    hierarchy: Hierarchy
    spread_D: Floats
    """Of the background, in its own directions."""
    directions_2ND: Floats
    turn_DD: Floats
    scale_D: Floats
    offset_D: Floats

    @classmethod
    def draw(cls, hierarchy: Hierarchy, hidden: int, seed: int) -> "Planted":
        """The world of this seed."""
        rng = np.random.default_rng([seed, hidden, len(hierarchy)])
        spread = (1 / np.sqrt(np.arange(1, hidden + 1))).astype(np.float32)
        directions = rng.standard_normal((2, len(hierarchy), hidden), np.float32) * spread
        directions *= _STRENGTH / np.linalg.norm(directions, axis=2, keepdims=True)
        turn, _ = np.linalg.qr(rng.standard_normal((hidden, hidden), np.float32))
        scale = np.exp(rng.standard_normal(hidden, np.float32))
        return cls(hierarchy, spread, directions, turn, scale, 3 * rng.standard_normal(hidden, np.float32))

    def samples(self, texts: int, positions: int, seed: int) -> Samples:
        """So many texts of random concepts, each at so many positions; other seeds give other texts."""
        rng = np.random.default_rng([seed, texts, positions])
        count, hidden = len(self.hierarchy), len(self.spread_D)
        told_X = rng.integers(count, size=texts)
        shown_XN = np.zeros((texts, 2, count), np.float32)
        positive_XN = np.zeros((texts, count), np.bool_)
        for x, concept in enumerate(told_X):
            path = list(self.hierarchy.path(int(concept)))
            positive_XN[x, path] = True
            mentioned = rng.integers(count, size=_MENTIONS)
            shown_XN[x, rng.integers(2, size=_MENTIONS), mentioned] = _LOUDEST * rng.random(_MENTIONS)
            shown_XN[x, :, path] = 0
            shown_XN[x, rng.integers(2, size=len(path)), path] = 1
        text_XD = shown_XN.reshape(texts, -1) @ self.directions_2ND.reshape(-1, hidden)
        text_XD += self.spread_D * rng.standard_normal((texts, hidden), np.float32) * np.float32(0.5**0.5)
        text_S = np.repeat(np.arange(texts, dtype=np.int32), positions)
        states_SD = text_XD[text_S]
        for start in range(0, len(states_SD), 4096):
            some = states_SD[start : start + 4096]
            some += self.spread_D * rng.standard_normal(some.shape, np.float32) * np.float32(0.5**0.5)
            states_SD[start : start + 4096] = self.offset_D + self.scale_D * (some @ self.turn_DD)
        return Samples(states_SD, text_S, positive_XN)
