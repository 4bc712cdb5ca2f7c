"""The two tiers in memory: what is where, what it takes, and how a family moves between them.

A tier has a budget in allocated bytes. A family in it is *held* (in use: it stays) or *idle* (it may leave, in
the order that `turns` gives). Room is *reserved* before bytes are allocated: base + held + idle + reserved <=
budget, always.

No family leaves in place of another that should leave before it. So a group of families in use is told to end,
by finding no room, where one of its own is the next to leave; and what leaves the hot tier takes no place in the
warm one where it is the next to leave there.

Where lenses are computed on the CPU, a family is in one tier, and moving it moves a reference. On other
devices a hot family is a copy, and the host copy that it was made from stays in the warm tier, held, for as
long as the family is hot: demotion drops the device's copy. A host copy that the warm budget has no room
for is not kept: such a family leaves memory when it leaves the hot tier, and the buffer it came through is
beside the budgets for the time of a read.

Knows nothing about threads (the cache calls it under its lock) or about where families come from.
"""

import math
from collections.abc import Collection, Container, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from cachetools import Cache

from runtime.turns import Turns

Tier = Literal["hot", "warm", "cold"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A family's tensor and the bytes that its allocation takes."""

    tensor: torch.Tensor
    allocated_bytes: int


class TierStore:
    """Families by index on a budget in bytes: idle ones leave when it is their turn, held ones stay."""

    def __init__(self, budget_bytes: int, turns: Turns, *, base_bytes: int = 0) -> None:
        self.budget_bytes = budget_bytes
        self.base_bytes = base_bytes
        self.reserved_bytes = 0
        self.peak_bytes = base_bytes
        self._turns = turns
        # Without a limit: with one, entries are dropped on insertion without a word.
        self._entries: Cache[int, Entry] = Cache(math.inf, getsizeof=lambda entry: entry.allocated_bytes)
        self._is_here_F = np.zeros(len(turns), np.bool_)
        self._holds: dict[int, int] = {}
        self._held_bytes = 0

    def __contains__(self, family: int) -> bool:
        return family in self._entries

    def absent(self, families: Collection[int]) -> list[int]:
        """Those that are not here."""
        family_W = np.fromiter(families, np.int64, len(families))
        absent: list[int] = family_W[~self._is_here_F[family_W]].tolist()
        return absent

    @property
    def resident_bytes(self) -> int:
        """Bytes of the families that are here, without the base and what is reserved."""
        return int(self._entries.currsize)

    @property
    def used_bytes(self) -> int:
        """What counts against the budget: base, resident families and reservations."""
        return self.base_bytes + self.resident_bytes + self.reserved_bytes

    def make_room(
        self, need_bytes: int, spare: Collection[int], unless: Collection[int] = ()
    ) -> list[tuple[int, Entry]] | None:
        """Take out, and return, idle families not in `spare`, the first to leave first, until `need_bytes` are free.

        None, with nothing changed, if that cannot be, or if one of those in `unless`, here or not, held or not,
        should leave before that is done.
        """
        free_bytes = self.budget_bytes - self.used_bytes
        if need_bytes <= free_bytes:
            return []
        if need_bytes > free_bytes + self.resident_bytes - self._held_bytes:
            return None
        may_leave_F = self._is_here_F.copy()
        may_leave_F[list(self._holds)] = False
        may_leave_F[list(unless)] = True
        may_leave_F[list(spare)] = False
        victims: list[int] = []
        for family in self._turns.leaving(may_leave_F):
            if family in unless:
                return None
            victims.append(family)
            free_bytes += self._entries[family].allocated_bytes
            if need_bytes <= free_bytes:
                return [(victim, self.take(victim)) for victim in victims]
        return None

    def reserve(self, need_bytes: int) -> None:
        """Set bytes aside that `make_room` has freed."""
        self.reserved_bytes += need_bytes
        self._note_use()

    def unreserve(self, need_bytes: int) -> None:
        """Undo `reserve`."""
        self.reserved_bytes -= need_bytes

    def put(self, family: int, entry: Entry) -> None:
        """Add a family that is not here, idle."""
        self._entries[family] = entry
        self._is_here_F[family] = True
        self._note_use()

    def take(self, family: int) -> Entry:
        """Remove an idle family and return it."""
        assert family not in self._holds
        self._is_here_F[family] = False
        return self._entries.pop(family)

    def hold(self, family: int) -> torch.Tensor:
        """Keep a family here until `let_go` was called as often as `hold`; returns its tensor."""
        entry = self._entries[family]
        if family in self._holds:
            self._holds[family] += 1
        else:
            self._holds[family] = 1
            self._held_bytes += entry.allocated_bytes
        return entry.tensor

    def let_go(self, family: int) -> None:
        """Undo one `hold`; after the last one the family is idle."""
        self._holds[family] -= 1
        if not self._holds[family]:
            del self._holds[family]
            self._held_bytes -= self._entries[family].allocated_bytes

    def _note_use(self) -> None:
        self.peak_bytes = max(self.peak_bytes, self.used_bytes)
        assert self.used_bytes <= self.budget_bytes


@dataclass(slots=True)
class Transfer:
    """A family on its way: what is left to do without the lock, and what is reserved for it until then."""

    family: int
    to_hot: bool
    keeps_host: bool = False
    """Whether what is read stays in the warm tier."""
    host: torch.Tensor | None = None
    """The warm copy, held, that a promotion copies from; None means to read."""
    hot_bytes: int = 0
    warm_bytes: int = 0
    buffer_bytes: int = 0
    """Host memory of a read that neither budget counts."""


class Tiers:
    """The hot and the warm tier together; `read_bytes[family]` is what reading a family allocates.

    `turns` is to be told what is wanted; both tiers follow it.

    `base` families count in the hot tier from the start and never come through here, and so do `aside_bytes` of what
    else their owner holds. `promotions` (warm to
    hot), `demotions` (hot to warm) and `evictions` (out of memory) count families.
    """

    def __init__(
        self,
        read_bytes: Sequence[int],
        levels: Sequence[int],
        base: Container[int],
        *,
        hot_budget_bytes: int,
        warm_budget_bytes: int,
        copies: bool,
        cuda: bool,
        aside_bytes: int = 0,
    ) -> None:
        self._read_bytes = read_bytes
        self._copies = copies
        self.pins_memory = cuda
        # PyTorch's allocators: CUDA memory comes in multiples of 512 bytes, pinned memory in powers of two.
        self._hot_bytes = [-(-size // 512) * 512 if cuda else size for size in read_bytes]
        self._warm_bytes = [1 << (size - 1).bit_length() if cuda and size else size for size in read_bytes]
        base_bytes = aside_bytes + sum(size for f, size in enumerate(self._hot_bytes) if f in base)
        self.largest_bytes = max((b for f, b in enumerate(self._hot_bytes) if f not in base), default=0)
        self.turns = Turns(levels, read_bytes)
        self.hot = TierStore(hot_budget_bytes, self.turns, base_bytes=base_bytes)
        self.warm = TierStore(warm_budget_bytes, self.turns)
        self.buffer_bytes = 0
        self.promotions = 0
        self.demotions = 0
        self.evictions = 0

    @property
    def in_flight_bytes(self) -> int:
        """What is set aside for reads and copies under way, and buffers beside the budgets."""
        return self.hot.reserved_bytes + self.warm.reserved_bytes + self.buffer_bytes

    def admit(
        self, family: int, wanted: Collection[int], *, must: bool = False, group: Collection[int] = ()
    ) -> tuple[Tier, Transfer | None] | None:
        """Make a family hot, or reserve room for the transfer that will; returns the tier where it was.

        None if there is no room, or if one of those in use in `group` should leave to make it. Families in
        `wanted` give way only if this is a `must` and no other can.
        """
        if family in self.hot:
            return "hot", None
        hot_bytes = self._hot_bytes[family]
        victims = self.hot.make_room(hot_bytes, wanted, unless=group)
        if victims is None and must:
            victims = self.hot.make_room(hot_bytes, ())
        if victims is None:
            return None
        if family in self.warm and not self._copies:
            entry = self.warm.take(family)  # before the victims come in, which might push it out
            self._demote(victims, wanted)
            self.hot.put(family, entry)
            self.promotions += 1
            return "warm", None
        self._demote(victims, wanted)
        self.hot.reserve(hot_bytes)
        transfer = Transfer(family, to_hot=True, hot_bytes=hot_bytes)
        if family in self.warm:
            transfer.host = self.warm.hold(family)
            return "warm", transfer
        if self._copies and not self._reserve_host(transfer, wanted):
            transfer.buffer_bytes = self._read_bytes[family]
            self.buffer_bytes += transfer.buffer_bytes
        return "cold", transfer

    def admit_warm(self, family: int, wanted: Collection[int]) -> Transfer | None:
        """Reserve room for reading a cold family into the warm tier; None if families in `wanted` fill it."""
        transfer = Transfer(family, to_hot=False)
        return transfer if self._reserve_host(transfer, wanted) else None

    def land(self, transfer: Transfer, hot: torch.Tensor | None, host: torch.Tensor) -> None:
        """Put a family that was read or copied where room is reserved, idle; the transfer is done."""
        family = transfer.family
        self._unreserve(transfer)
        if transfer.host is not None:
            transfer.host = None
            self.promotions += 1
        if transfer.keeps_host:
            self.warm.put(family, Entry(host, self._warm_bytes[family]))
            if transfer.to_hot:
                self.warm.hold(family)
        if hot is not None:
            self.hot.put(family, Entry(hot, self._hot_bytes[family]))

    def cancel(self, transfer: Transfer) -> None:
        """Give back what a transfer reserved; a warm family stays warm."""
        self._unreserve(transfer)
        if transfer.host is not None:
            transfer.host = None
            self.warm.let_go(transfer.family)

    def _reserve_host(self, transfer: Transfer, wanted: Collection[int]) -> bool:
        need_bytes = self._read_bytes[transfer.family]
        if self.pins_memory:
            need_bytes += self._warm_bytes[transfer.family]  # what is read, and its pinned copy beside it
        victims = self.warm.make_room(need_bytes, wanted)
        if victims is None:
            return False
        self.evictions += len(victims)
        self.warm.reserve(need_bytes)
        transfer.warm_bytes = need_bytes
        transfer.keeps_host = True
        return True

    def _demote(self, victims: list[tuple[int, Entry]], wanted: Collection[int]) -> None:
        """Give families that left the hot tier their place in the warm one, or drop them."""
        for family, entry in victims:
            if self._copies:
                stays = family in self.warm
                if stays:
                    self.warm.let_go(family)
            else:
                dropped = self.warm.make_room(entry.allocated_bytes, wanted, unless=[family])
                stays = dropped is not None
                if dropped is not None:
                    self.evictions += len(dropped)
                    self.warm.put(family, entry)
            self.demotions += stays
            self.evictions += not stays

    def _unreserve(self, transfer: Transfer) -> None:
        self.hot.unreserve(transfer.hot_bytes)
        self.warm.unreserve(transfer.warm_bytes)
        self.buffer_bytes -= transfer.buffer_bytes
