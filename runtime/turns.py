"""By turns: the order in which families leave a tier when others need the room.

A call wants families of one level, or of several: it is a turn of each of them. A family's *age* is how many turns
of its level have gone by since it was last wanted; where that call was for many positions at once (a prompt's), and a
share s of the most wanted family's positions wanted it, it begins at age 1 - s instead of 0. The oldest leaves first,
of one age the largest, of one size the first in the pack.

Why not the least recently used: a position asks level by level, and the next position asks for most of it again. Of
more than fits, that order keeps what was asked for last and drops what is asked for next (`reports/cache-policy.md`).
By turns all that a position wanted is of one age until its level's next turn, and of one age the small ones stay, of
which more fit.

A family's age follows from the turn at which it was last wanted, so a call touches the families that it wants and no
others; ages are only looked at when something has to leave. Knows nothing about tiers, threads or scores.

Shapes: F families, L levels, W families that a call wants, C candidates for leaving.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

_TURN = 1 << 32
"""Ticks of a turn. Whole numbers, so that equal ages are equal whatever turns they are counted from."""


class Turns:
    """Ages of families of these levels and sizes."""

    def __init__(self, levels: Sequence[int], sizes_bytes: Sequence[int]) -> None:
        self._level_F = np.array(levels, np.int64)
        largest_first = sorted(range(len(levels)), key=lambda family: (-sizes_bytes[family], family))
        self._place_F = np.empty(len(levels), np.int64)
        """The place of a family among all of its age."""
        self._place_F[largest_first] = np.arange(len(levels))
        self._now_L = np.zeros(max(levels, default=0) + 1, np.int64)
        self._wanted_F = np.zeros(len(levels), np.int64)
        """In ticks of its level, like `_now_L`: when a family was last wanted, less the age at which it began."""

    def __len__(self) -> int:
        """How many families there are."""
        return len(self._level_F)

    def call(self, positions: Mapping[int, int], new: Collection[int] | None = None) -> None:
        """A call wants families, each for so many positions: a turn of the levels of those in `new`, of all if None.

        The others were asked for before, and are wanted in their level's last turn.
        """
        if not positions:
            return
        family_W = np.fromiter(positions, np.int64, len(positions))
        count_W = np.fromiter(positions.values(), np.int64, len(positions))
        level_W = self._level_F[family_W]
        turned_W = level_W if new is None else self._level_F[list(new)]
        self._now_L[list(set(turned_W.tolist()))] += _TURN
        wanted_W = self._now_L[level_W] - _TURN + count_W * _TURN // count_W.max()
        self._wanted_F[family_W] = np.maximum(self._wanted_F[family_W], wanted_W)

    def expect(self, families: Iterable[int]) -> None:
        """Families are fetched before anyone asks: as if wanted in their level's last turn. This is none."""
        family_W = np.fromiter(families, np.int64)
        self._wanted_F[family_W] = self._now_L[self._level_F[family_W]]

    def leaving(self, may_leave_F: NDArray[np.bool_]) -> Iterator[int]:
        """Those of the families that may leave, the first to leave first."""
        family_C = may_leave_F.nonzero()[0]
        age_C = self._now_L[self._level_F[family_C]] - self._wanted_F[family_C]
        while len(family_C):
            is_oldest_C = age_C == age_C.max()
            oldest = family_C[is_oldest_C]
            yield from oldest[self._place_F[oldest].argsort()].tolist()
            family_C, age_C = family_C[~is_oldest_C], age_C[~is_oldest_C]
