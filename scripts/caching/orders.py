"""Orders of eviction: which family leaves first when room is needed. Knows calls and sizes, nothing about memory.

An order keeps a rank for every family, and the lowest leaves first. It is told of every call before it is served and of
every family as it is served, and may rank all anew at a call. Orders that know the future (`furthest_next_use` and
`furthest_by_size`) read it from the trace: no cache can have them, they are what others are held against.

`Belady, "A study of replacement algorithms for a virtual-storage computer" (1966)`: leaving in the order of the
furthest next use is optimal where all have one size. With unequal sizes the optimum is NP-hard to find; weighing the
distance with the size (`furthest_by_size`) is the usual heuristic, and `caching.bound` says what nothing exceeds.

Shapes: F families, R requests of the whole trace, each family of each call one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caching.traces import Call, Step, flat

NEVER = 1e15
"""Further away than any request: a family that is not asked for again."""


@dataclass(frozen=True, slots=True)
class Families:
    """What an order may know of families: sizes in bytes and levels."""

    bytes_F: NDArray[np.float64]
    level_F: NDArray[np.int64]


class Order:
    """The base of all orders: a rank for every family, and a clock of requests."""

    spares = True
    """Whether families that the same call still wants are evicted last, as the cache does."""

    def __init__(self, families: Families) -> None:
        self.families = families
        self.rank_F = np.zeros(len(families.bytes_F))
        self.clock = 0
        """Requests served so far."""

    def begin(self, step: Step) -> None:
        """A walk begins."""

    def ask(self, call: Call) -> None:
        """A call is about to be served."""

    def serve(self, family: int, odds: float, hit: bool) -> None:
        """A family is there and served; `hit` if it was there before."""
        self.clock += 1

    def expect(self, family: int) -> None:
        """A family was read ahead of a request."""

    def leave(self, family: int) -> None:
        """A family was evicted."""


class LeastRecent(Order):
    """LRU: what was used longest ago leaves first."""

    def serve(self, family: int, odds: float, hit: bool) -> None:
        """Stamp it."""
        super().serve(family, odds, hit)
        self.rank_F[family] = self.clock

    def expect(self, family: int) -> None:
        """As if used now."""
        self.rank_F[family] = self.clock


class LeastRecentPlain(LeastRecent):
    """LRU as in textbooks: what the same call still wants is not spared."""

    spares = False


class MostRecent(LeastRecent):
    """MRU, what is right for a scan that goes round and round."""

    def serve(self, family: int, odds: float, hit: bool) -> None:
        """Stamp it, the latest lowest."""
        super().serve(family, odds, hit)
        self.rank_F[family] = -self.clock


class FirstIn(Order):
    """FIFO, a control: what came first leaves first, used or not."""

    def serve(self, family: int, odds: float, hit: bool) -> None:
        """Stamp it if it came now."""
        super().serve(family, odds, hit)
        if not hit:
            self.rank_F[family] = self.clock


class LeastFrequent(Order):
    """LFU: the least often used leaves first; ties go to the least recently used."""

    def __init__(self, families: Families) -> None:
        super().__init__(families)
        self._used_F = np.zeros(len(families.bytes_F))

    def serve(self, family: int, odds: float, hit: bool) -> None:
        """Count it."""
        super().serve(family, odds, hit)
        self._used_F[family] += 1
        self.rank_F[family] = self._used_F[family] + self.clock * 1e-9


class Ageing(Order):
    """LFU with ageing: a use is worth half as much after every `half_life` steps."""

    half_life = 10.0

    def __init__(self, families: Families) -> None:
        super().__init__(families)
        self._worth = 1.0

    def begin(self, step: Step) -> None:
        """Later uses are worth more, instead of earlier ones less."""
        self._worth *= 2 ** (1 / self.half_life)
        if self._worth > 1e100:
            self.rank_F /= self._worth
            self._worth = 1.0

    def serve(self, family: int, odds: float, hit: bool) -> None:
        """Add a use."""
        super().serve(family, odds, hit)
        self.rank_F[family] += self._worth


class SecondLast(Order):
    """LRU-2: by the step of the last use but one, then of the last."""

    def __init__(self, families: Families) -> None:
        super().__init__(families)
        self._steps = 0
        self._last_F = np.zeros(len(families.bytes_F))
        self._before_F = np.zeros(len(families.bytes_F))

    def begin(self, step: Step) -> None:
        """Count steps."""
        self._steps += 1

    def serve(self, family: int, odds: float, hit: bool) -> None:
        """Shift the two."""
        super().serve(family, odds, hit)
        self._before_F[family], self._last_F[family] = self._last_F[family], self._steps
        self.rank_F[family] = self._before_F[family] + self._last_F[family] * 1e-9


class GreedyDual(Order):
    """GDSF: uses a byte on top of the rank of what left last (Cherkasova 1998)."""

    def __init__(self, families: Families) -> None:
        super().__init__(families)
        self._floor = 0.0
        self._used_F = np.zeros(len(families.bytes_F))

    def serve(self, family: int, odds: float, hit: bool) -> None:
        """Count it, from one if it came now."""
        super().serve(family, odds, hit)
        self._used_F[family] = self._used_F[family] + 1 if hit else 1
        self.rank_F[family] = self._floor + self._used_F[family] / self.families.bytes_F[family]

    def leave(self, family: int) -> None:
        """Raise the floor."""
        self._floor = max(self._floor, float(self.rank_F[family]))


class Turns(Order):
    """By turns: the family that its level has asked for least lately leaves first, of equals the largest.

    A level's turn is a call of that level. A family's age is how many turns of its level have gone by since it was last
    wanted; where a turn was for many positions at once (a prompt's), a family that only some of them wanted is a
    fraction of a turn older. All that a position wanted is of one age until its level's next turn, so a position that
    wants more than fits does not push out what it is about to ask for; and of one age, what room there is goes to the
    small families, of which more fit.
    """

    def __init__(self, families: Families) -> None:
        super().__init__(families)
        self.age_F = np.zeros(len(families.bytes_F))
        self._tie_F = self.tie(families)

    def tie(self, families: Families) -> NDArray[np.float64]:
        """What orders families of one age, much smaller than any difference of ages: the highest leaves first."""
        return np.asarray(families.bytes_F / families.bytes_F.max() * 1e-6)

    def ask(self, call: Call) -> None:
        """It is a level's turn."""
        self.age_F[self.families.level_F == call.level] += 1
        self.age_F[list(call.families)] = 1 - np.array(call.counts) / max(call.counts)
        self.rank_F = -self.age_F - self._tie_F

    def expect(self, family: int) -> None:
        """As if wanted in its level's last turn."""
        self.age_F[family] = 0


class TurnsWithoutSize(Turns):
    """By turns; of one age the last in the pack leaves first, whatever its size: the same ones always."""

    def tie(self, families: Families) -> NDArray[np.float64]:
        """Places in the pack."""
        return np.arange(len(families.bytes_F)) / len(families.bytes_F) * 1e-6


class WantedByte(Order):
    """How often a family was wanted in its level's latest turns (halved every turn), a byte."""

    def __init__(self, families: Families) -> None:
        super().__init__(families)
        self._wanted_F = np.zeros(len(families.bytes_F))

    def ask(self, call: Call) -> None:
        """It is a level's turn."""
        self._wanted_F[self.families.level_F == call.level] /= 2
        self._wanted_F[list(call.families)] += self.worth(call)
        self.rank_F = self._wanted_F / self.families.bytes_F

    def worth(self, call: Call) -> float | NDArray[np.float64]:
        """What being wanted once is worth."""
        return 1.0


class ProbableByte(WantedByte):
    """The same, weighed with the probability of the parent, which the walk has scored anyway."""

    def worth(self, call: Call) -> float | NDArray[np.float64]:
        """The parents' probabilities."""
        return np.asarray(1 / (1 + np.exp(-np.array(call.odds, np.float64))))


class _Future(Order):
    """Knows when each family is asked for next."""

    def __init__(self, families: Families, steps: Sequence[Step]) -> None:
        super().__init__(families)
        next_at = dict.fromkeys(range(len(families.bytes_F)), NEVER)
        asked = [family for _, call in flat(steps) for family in call.families]
        self._next_R = np.empty(len(asked))
        for at in range(len(asked) - 1, -1, -1):
            self._next_R[at], next_at[asked[at]] = next_at[asked[at]], float(at)
        self.next_F = np.array(list(next_at.values()))
        """The request that is each family's next."""

    def serve(self, family: int, odds: float, hit: bool) -> None:
        """Look up the next request after this one."""
        self.next_F[family] = self._next_R[self.clock]
        super().serve(family, odds, hit)
        self.rank_F[family] = self.rank(family)

    def rank(self, family: int) -> float:
        """The rank of a family from when it is asked for next."""
        return -float(self.next_F[family])


class FurthestNextUse(_Future):
    """Belady's order: whose next use is furthest away leaves first."""

    spares = False


class FurthestBySize(_Future):
    """Belady's order weighed with sizes: the largest product of distance and bytes leaves first."""

    def ask(self, call: Call) -> None:
        """All distances have shrunk."""
        self.rank_F = -(self.next_F - self.clock) * self.families.bytes_F

    def rank(self, family: int) -> float:
        """Distance times bytes."""
        return -float((self.next_F[family] - self.clock) * self.families.bytes_F[family])


Make = Callable[[Families, Sequence[Step]], Order]
"""How an order is made for a trace; only those that know the future look at it."""


def _blind(kind: Callable[[Families], Order]) -> Make:
    return lambda families, steps: kind(families)


COMMON = "lru"
"""What a cache usually has."""
CHOSEN = "turns"
"""The order that is recommended."""
SERVED = CHOSEN
"""The order that the cache has today: what the replay is held against it with."""
OPTIMA = ("belady", "belady by size")
"""Those that know the future; the better one is the reference."""

ORDERS: dict[str, Make] = {
    "lru": _blind(LeastRecent),
    "fifo": _blind(FirstIn),
    "lfu": _blind(LeastFrequent),
    "lfu ageing": _blind(Ageing),
    "turns": _blind(Turns),
    "belady": FurthestNextUse,
    "belady by size": FurthestBySize,
    "lru plain": _blind(LeastRecentPlain),
    "mru": _blind(MostRecent),
    "lru-2": _blind(SecondLast),
    "gdsf": _blind(GreedyDual),
    "turns without size": _blind(TurnsWithoutSize),
    "wanted a byte": _blind(WantedByte),
    "probable a byte": _blind(ProbableByte),
}
"""Name to order; the first seven are replayed at every budget."""
EVERYWHERE = tuple(ORDERS)[:7]
