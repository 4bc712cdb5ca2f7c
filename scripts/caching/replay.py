"""Replays a trace on a memory of fixed size under an order of eviction, and counts as the cache counts.

Who asks first for a family that is not there causes a read; other positions of the same call find it there. A family
must be in memory to be scored, so nothing is read past the memory. Room is made as `runtime.tiers` makes it: what the
same call still wants is spared, unless nothing else is left. `through_cache` asks the same of the real cache.

Shapes: F families.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from caching.orders import Families, Order
from caching.traces import Call, Step
from runtime.cache import FamilyCache
from runtime.counts import CacheStats
from runtime.events import Phase


@dataclass(slots=True)
class Counts:
    """Requests of one phase."""

    requests: int = 0
    hits: int = 0
    reads: int = 0
    bytes_read: int = 0

    @property
    def hit_rate(self) -> float:
        """Hits a request; 1 where nothing was asked for."""
        return self.hits / self.requests if self.requests else 1.0


@dataclass(slots=True)
class Ahead:
    """Reads of families that nobody had asked for yet."""

    reads: int = 0
    bytes_read: int = 0
    used: int = 0
    """Of `reads`, those asked for while they were still there."""


@dataclass(slots=True)
class Replayed:
    """What a replay counted."""

    phases: dict[Phase, Counts] = field(default_factory=lambda: {"prompt": Counts(), "generation": Counts()})
    ahead: Ahead = field(default_factory=Ahead)
    peak_bytes: int = 0

    @property
    def reads(self) -> int:
        """All reads, ahead and on demand."""
        return self.ahead.reads + sum(counts.reads for counts in self.phases.values())


def replay(
    steps: Sequence[Step], families: Families, order: Order, budget_bytes: int, *, near: bool = False
) -> Replayed:
    """Replay a trace; with `near`, each step's near misses are read after it, where that evicts nothing it wanted.

    `budget_bytes` is without the base, and must hold the largest family.
    """
    memory = _Memory(families, order, budget_bytes)
    found = Replayed()
    for step in steps:
        order.begin(step)
        counts = found.phases[step.phase]
        for call in step.calls:
            _serve(call, memory, order, counts, found.ahead)
        if near:
            wanted = [family for call in step.calls for family in call.families]
            memory.read_ahead(step.near, wanted, found.ahead)
    found.peak_bytes = memory.peak_bytes
    return found


def _serve(call: Call, memory: "_Memory", order: Order, counts: Counts, ahead: Ahead) -> None:
    order.ask(call)
    memory.spare(call.families)
    for family, positions, odds in zip(call.families, call.counts, call.odds, strict=True):
        hit = memory.has(family)
        counts.requests += positions
        counts.hits += positions - (not hit)
        if hit:
            ahead.used += memory.first_use(family)
        else:
            counts.reads += 1
            counts.bytes_read += memory.bring(family)
        order.serve(family, odds, hit)
        memory.served(family)


class _Memory:
    """What is in memory, and what of it may be evicted now, with its rank."""

    def __init__(self, families: Families, order: Order, budget_bytes: int) -> None:
        self._bytes = [int(size) for size in families.bytes_F]
        self._bytes_F = families.bytes_F
        self._order = order
        self._budget_bytes = budget_bytes
        self._here_F = np.zeros(len(self._bytes), np.bool_)
        self._spared_F = np.zeros(len(self._bytes), np.bool_)
        self._unasked: set[int] = set()
        """Read ahead and not asked for since."""
        self._used_bytes = 0
        self.peak_bytes = 0
        self._rank_anew()

    def has(self, family: int) -> bool:
        return bool(self._here_F[family])

    def first_use(self, family: int) -> bool:
        """Whether this is the first request for a family that was read ahead."""
        if family in self._unasked:
            self._unasked.remove(family)
            return True
        return False

    def spare(self, families: Sequence[int]) -> None:
        """From now on evict these last, until each is `served`."""
        self._spared_F[:] = False
        if self._order.spares:
            self._spared_F[list(families)] = True
        self._rank_anew()

    def served(self, family: int) -> None:
        """A family that is here may be evicted again, at the rank that it has now."""
        if self._spared_F[family]:
            self._evictable_bytes += self._bytes[family]
            self._spared_F[family] = False
        self._rank_F[family] = self._order.rank_F[family]

    def bring(self, family: int) -> int:
        """Read a family, making room for it; returns its bytes. It may not be evicted until it is `served`."""
        size = self._bytes[family]
        shortage = self._used_bytes + size - self._budget_bytes
        if shortage > self._evictable_bytes:
            # Nothing else is left: all that is here may go, in order.
            self._evict(np.where(self._here_F, self._order.rank_F, math.inf), shortage)
            self._rank_anew()
        elif shortage > 0:
            self._evict(self._rank_F, shortage)
        self._here_F[family] = True
        self._spared_F[family] = True
        self._used_bytes += size
        self.peak_bytes = max(self.peak_bytes, self._used_bytes)
        return size

    def read_ahead(self, near: Sequence[int], wanted: Sequence[int], ahead: Ahead) -> None:
        """Read families that may be asked for soon, while that evicts neither each other nor what was wanted."""
        self._spared_F[:] = False
        self._spared_F[list(wanted)] = True
        self._spared_F[list(near)] = True
        self._rank_anew()
        for family in near:
            if self._here_F[family]:
                continue
            if self._used_bytes + self._bytes[family] - self._budget_bytes > self._evictable_bytes:
                break
            ahead.reads += 1
            ahead.bytes_read += self.bring(family)
            self._unasked.add(family)
            self._order.expect(family)

    def _evict(self, rank_F: NDArray[np.float64], shortage: int) -> None:
        while shortage > 0:
            family = int(rank_F.argmin())
            rank_F[family] = math.inf
            self._here_F[family] = False
            self._used_bytes -= self._bytes[family]
            self._evictable_bytes -= self._bytes[family]
            shortage -= self._bytes[family]
            self._unasked.discard(family)
            self._order.leave(family)

    def _rank_anew(self) -> None:
        """Rank anew whatever may be evicted."""
        may_go_F = self._here_F & ~self._spared_F
        self._rank_F = np.where(may_go_F, self._order.rank_F, math.inf)
        self._evictable_bytes = int(self._bytes_F[may_go_F].sum())


class _Blank:
    """A source for the real cache: families of the right size, with nothing in them."""

    def __init__(self, families: Families) -> None:
        self._bytes = [int(size) for size in families.bytes_F]

    def family_bytes(self, family: int) -> int:
        return self._bytes[family]

    def expect(self, families: Iterable[int]) -> None:
        """Nothing is on a disk."""

    def read_family(self, family: int) -> torch.Tensor:
        return torch.empty(self._bytes[family], dtype=torch.uint8)


def through_cache(
    steps: Sequence[Step],
    families: Families,
    base: Sequence[int],
    hot_budget_bytes: int,
    warm_budget_bytes: int,
) -> CacheStats:
    """What the real cache counts on the trace; budgets as it takes them, the base's bytes included."""
    with FamilyCache(
        _Blank(families),
        levels=families.level_F.tolist(),
        base=base,
        hot_budget_bytes=hot_budget_bytes,
        warm_budget_bytes=warm_budget_bytes,
        device=torch.device("cpu"),
    ) as cache:
        for step in steps:
            for call in step.calls:
                for _ in cache.groups(
                    call.families, dict(zip(call.families, call.counts, strict=True)), step.phase
                ):
                    pass
        return cache.stats()
