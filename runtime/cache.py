"""Families of lenses in three tiers: hot (ready on the compute device), warm (host memory), cold (the pack).

The cache reads, waits and counts; `tiers` says what is where. It knows nothing about scores or positions,
or about which family is worth having.

1. One lock, never held while a family is read or copied. A family is read once at a time; others wait.
2. Room is reserved before a read starts, so that the budgets, in allocated bytes, hold at every instant.
3. A family in use is pinned hot. A thread never waits while it holds pins: only the first family of a group
   may wait for room, first come first served, and the group ends at the first one that does not fit.
4. Families leave in the order of `turns`. Those that the same call still wants leave last, and never to let one
   more join a group; and a group ends where one of its own is the next to leave: no other leaves in its place.
5. A family that cannot be read is quarantined, named and never tried again; the others go on.
6. Who does not wait (`request`) is served what is here, and reads begin for the rest as far as there is room:
   beside what is in use, and without pushing out what the same or another request still wants. What has no
   room is not queued: it begins with a later `request` or `start`, first asked first. So nothing ever waits
   for a queue of reads, and where the budget holds one family only, each gets its turn once the last was used.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Protocol, Self

import torch

from lenses.errors import BudgetError, PackIntegrityError
from runtime.clock import NO_CLOCK, Clock, Component
from runtime.counts import CacheStats, PhaseCounts
from runtime.events import Phase
from runtime.tiers import Tier, Tiers, Transfer

HAND_OVER_BYTES = 256 * 2**10
"""From this size on a family is handed to a reader. 440 of about 20 KiB from disk took four threads 163 ms on a busy
machine and 85 on a quiet one; one thread, the disk told of all of them, 63 and 81."""


class FamilySource(Protocol):
    """Where families are read from; a `LensPack` is one. Called from several threads at once."""

    def family_bytes(self, family: int, /) -> int:
        """Bytes that `read_family(family)` allocates for its tensor."""
        ...

    def expect(self, families: Iterable[int], /) -> None:
        """These will be read, one after another: what makes that faster may begin. Waits for nothing."""
        ...

    def read_family(self, family: int, /) -> torch.Tensor:
        """The family's first layer [rows*h1, D] in host memory, the only user of its storage.

        Raises PackIntegrityError or OSError if it cannot be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class Group:
    """Families that are hot together until the next group is asked for; then `resident` is emptied.

    Keep no tensor of a group beyond it: memory that the budgets count as free would not be.
    """

    resident: dict[int, torch.Tensor]
    """Family to first layer [rows*h1, D], on the device and pinned."""
    failed: dict[int, str]
    """Quarantined family to the reason."""
    origin: dict[int, Tier]
    """Resident family to the tier where it was when its turn came."""


@dataclass(slots=True)
class _Asked:
    """What one call still wants, and how its requests are counted."""

    phase: Phase
    pending: dict[int, int]
    """Family to the requests that are new with this call, in the order in which families are wanted."""
    again: Mapping[int, int] = field(default_factory=dict)
    """Family to the requests that were counted when they were made, and were not served then."""
    absent: set[int] = field(default_factory=set)
    """Families whose reads are handed over, so that they count as cold wherever they are by now."""


class FamilyCache:
    """Brings families of `source` to `device` and back, within two budgets; safe to use from many threads.

    `levels` has the level of every family that the source has. Those of `base` count in the hot budget but are
    read and held by whoever scores them at every position: asking for one here is a ValueError. `readers` threads
    read for `request` and `start`, and for `prefetch` the families of `hand_over_bytes` or more. `copies` makes a CPU
    keep two copies as other devices do, for tests. `aside_bytes` are what else is scored at every position, and count
    in the hot budget like the base. Raises BudgetError, with what is needed, where the hot budget holds less than the
    base and the largest other family.
    """

    def __init__(
        self,
        source: FamilySource,
        *,
        levels: Sequence[int],
        base: Sequence[int],
        hot_budget_bytes: int,
        warm_budget_bytes: int,
        device: torch.device,
        readers: int = 4,
        hand_over_bytes: int = HAND_OVER_BYTES,
        copies: bool | None = None,
        aside_bytes: int = 0,
        clock: Clock = NO_CLOCK,
    ) -> None:
        self._source = source
        self._clock = clock
        self._device = device
        self._hand_over_bytes = hand_over_bytes
        self._copies = device.type != "cpu" if copies is None else copies
        self._read_bytes = [source.family_bytes(family) for family in range(len(levels))]
        self._base = frozenset(base)
        self._servable = frozenset(range(len(levels))) - self._base
        self._tiers = Tiers(
            self._read_bytes,
            levels,
            self._base,
            hot_budget_bytes=hot_budget_bytes,
            warm_budget_bytes=warm_budget_bytes,
            copies=self._copies,
            cuda=device.type == "cuda",
            aside_bytes=aside_bytes,
        )
        base_bytes, largest_bytes = self._tiers.hot.base_bytes, self._tiers.largest_bytes
        if hot_budget_bytes < base_bytes + largest_bytes:
            raise BudgetError(
                f"hot budget: {_readable(hot_budget_bytes)} is too small, it needs at least "
                f"{_readable(base_bytes + largest_bytes)}: {_readable(base_bytes)} for the families scored "
                f"at every position, {_readable(largest_bytes)} for the largest other; raise the hot budget"
            )
        if warm_budget_bytes < 0:
            raise BudgetError(
                f"warm budget: found {warm_budget_bytes} bytes, expected 0 (keep nothing warm) or more"
            )
        # Condition's own lock is re-entrant, and has to be: the garbage collector may finalise a forgotten
        # `groups` iterator anywhere, so also in this thread while it holds the lock.
        self._changed = threading.Condition()
        self._in_flight: set[int] = set()
        self._waiting: deque[object] = deque()
        self._quarantined: dict[int, str] = {}
        self._reads: Counter[str] = Counter()
        self._served: Counter[tuple[Phase, str]] = Counter()
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="family-reader")
        self._handed_over: list[Future[None]] = []
        self._closed = False

    def groups(
        self, families: Iterable[int], requests: Mapping[int, int] | None, phase: Phase
    ) -> Iterator[Group]:
        """Yield `families` once each, in order, in groups that are hot together; cold ones are read when met.

        `requests[family]` is how many positions of this call the family serves (1 each if None): the first
        counts as where the family was found, the others as hot hits, all as failed if it is quarantined. A
        group is unpinned when the next is asked for or the iterator closes. Do not ask for other groups
        while using one. Each call is a turn of the levels of its families.
        """
        asked = _Asked(phase, {family: 1 if requests is None else requests[family] for family in families})
        self._check(asked.pending)
        if min(asked.pending.values(), default=1) < 1:
            raise ValueError("a family that is requested serves at least one position")
        with self._changed:
            self._tiers.turns.call(asked.pending)
            absent = self._tiers.hot.absent(asked.pending)
            cold = [f for f in absent if f not in self._in_flight and not self._is_here(f)]
        if len(cold) > 1:
            self._source.expect(cold)
        while asked.pending:
            group = Group({}, {}, {})
            try:
                self._gather(group, asked)
                yield group
            finally:
                self._release(group)

    def request(
        self,
        requests: Mapping[int, int],
        phase: Phase,
        *,
        wait: bool,
        again: Mapping[int, int] | None = None,
        spare: Collection[int] = (),
    ) -> Iterator[Group]:
        """Hand over the reads of all families that are not here, and yield groups of those that are.

        `requests` is as for `groups`, most wanted families first. With `wait`, the others are yielded as they come;
        without, nothing is waited for, families that do not come meanwhile are left out, and their requests count as
        cold misses. Who asks for them once more says so: `again[family]` is how many positions did not get it
        when they asked; they are not counted a second time. Reads push no family out that is in `spare`. The call
        is a turn of the levels of those families that are not only asked for once more.
        """
        asked = _Asked(phase, dict(requests), again or {})
        self._check(asked.pending)
        if any(count + asked.again.get(family, 0) < 1 for family, count in asked.pending.items()):
            raise ValueError("a family that is requested serves at least one position")
        wanted = {family: count + asked.again.get(family, 0) for family, count in asked.pending.items()}
        with self._changed:
            self._tiers.turns.call(wanted, [family for family, count in asked.pending.items() if count])
        asked.absent |= {*asked.pending} - self.start(asked.pending, spare)
        while asked.pending:
            group = Group({}, {}, {})
            try:
                self._gather_here(group, asked, spare)
                if not group.origin and not group.failed:
                    if not wait:
                        break
                    self._gather(group, asked)
                yield group
            finally:
                self._release(group)
        self.start(asked.pending, spare)  # for some there is room now that the groups are released
        with self._changed:
            for count in asked.pending.values():
                self._served[phase, "requests"] += count
                self._served[phase, "cold"] += count

    def start(self, families: Iterable[int], spare: Collection[int] = ()) -> set[int]:
        """Hand over the reads of families that are not here, as far as there is room; returns those that are.

        First come, first served; neither these nor those in `spare` are pushed out. Waits for nothing. A damaged
        family is quarantined, and is here then; any other error of a read handed over before is raised.
        """
        wanted = dict.fromkeys(families)
        self._check(wanted)
        self._raise_what_went_wrong()
        with self._changed:
            here = {family for family in wanted if self._is_here(family)}
            # Not those that are here: on a GPU a reader would promote them, and they would be here no more.
            plan = self._plan([family for family in wanted if family not in here], {*wanted, *spare})
        started = self._hand_over(plan, self._carry)
        with self._changed:
            self._handed_over += started
        return here

    def prefetch(self, families: Iterable[int]) -> None:
        """Bring `families`, most wanted first, closer with overlapped reads; returns when its reads are done.

        Large ones are read side by side by the readers, meanwhile small ones one after another here.
        They go to the hot tier while they fit without evicting each other, then to the warm tier, then no
        further. It waits for nothing but its reads and moves nothing pinned. A damaged family is
        quarantined, not raised.
        """
        wanted = dict.fromkeys(families)
        self._check(wanted)
        with self._changed:
            self._tiers.turns.expect(wanted)
            plan = self._plan(wanted, wanted)
        small = deque(t for t in plan if self._read_bytes[t.family] < self._hand_over_bytes)
        large = [t for t in plan if self._read_bytes[t.family] >= self._hand_over_bytes]
        try:
            started = self._hand_over(large, self._carry_ahead)
            try:
                self._source.expect([transfer.family for transfer in small if transfer.host is None])
                while small:
                    self._carry_ahead(small.popleft(), Component.PREWARM)
                wait(started)
            except BaseException:
                self._withdraw(large, started)
                raise
        finally:
            for transfer in small:  # only where something went wrong
                self._abandon(transfer)
        for future in started:
            future.result()

    @property
    def quarantined(self) -> dict[int, str]:
        """Families that could not be read, with the reason."""
        with self._changed:
            return dict(self._quarantined)

    def stats(self) -> CacheStats:
        """Counters and bytes, all of one instant."""
        with self._changed:
            hot, warm = self._tiers.hot, self._tiers.warm
            return CacheStats(
                prompt=self._phase_counts("prompt"),
                generation=self._phase_counts("generation"),
                reads=self._reads["families"],
                bytes_read=self._reads["bytes"],
                prefetched=self._reads["ahead"],
                promotions=self._tiers.promotions,
                demotions=self._tiers.demotions,
                evictions=self._tiers.evictions,
                base_bytes=hot.base_bytes,
                hot_bytes=hot.base_bytes + hot.resident_bytes,
                warm_bytes=warm.resident_bytes,
                in_flight_bytes=self._tiers.in_flight_bytes,
                hot_peak_bytes=hot.peak_bytes,
                warm_peak_bytes=warm.peak_bytes,
                hot_budget_bytes=hot.budget_bytes,
                warm_budget_bytes=warm.budget_bytes,
            )

    def close(self) -> None:
        """End the reader threads; nothing can be asked for afterwards. Idempotent."""
        self._closed = True
        self._readers.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check(self, families: Iterable[int]) -> None:
        if self._closed:
            raise RuntimeError("this family cache is closed")
        wrong = set(families) - self._servable
        if not wrong:
            return
        family, last = min(wrong), len(self._read_bytes) - 1
        if family in self._base:
            raise ValueError(f"family {family} is in the base, which this cache does not hold")
        raise ValueError(f"family {family} does not exist, expected 0 to {last}")

    def _hand_over(self, plan: Sequence[Transfer], carry: Callable[[Transfer], None]) -> list[Future[None]]:
        """Have the readers carry what room is reserved for, in order."""
        started: list[Future[None]] = []
        try:
            for transfer in plan:
                started.append(self._readers.submit(carry, transfer))
        except BaseException:
            self._withdraw(plan, started)
            raise
        return started

    def _withdraw(self, plan: Sequence[Transfer], started: Sequence[Future[None]]) -> None:
        """Give back the room of transfers that did not begin, and wait for those that did."""
        for transfer, future in zip(plan, started, strict=False):
            if future.cancel():
                self._abandon(transfer)
        for transfer in plan[len(started) :]:
            self._abandon(transfer)
        wait(started)

    def _raise_what_went_wrong(self) -> None:
        """Raise the error of a read that nobody waited for, if there is one."""
        done: list[Future[None]] = []
        under_way: list[Future[None]] = []
        with self._changed:
            for future in self._handed_over:
                (done if future.done() else under_way).append(future)
            self._handed_over = under_way
        for future in done:
            future.result()

    def _gather(self, group: Group, asked: _Asked) -> None:
        """Move families from `pending` into `group`, pinned, until one does not fit or none is left."""
        while asked.pending:
            self._hold_hot(group, asked)
            family = next(iter(asked.pending), None)
            found = None if family is None else self._claim(family, group, asked.pending)
            if family is None or found is None:
                return
            self._serve(family, *found, group, asked)

    def _hold_hot(self, group: Group, asked: _Asked) -> None:
        """Pin and count the first families of `pending` that are hot, up to one that is not: all under one lock."""
        with self._changed:
            if self._waiting:
                return
            hot = self._tiers.hot
            held: list[int] = []
            for family in asked.pending:
                if family not in hot or family in self._in_flight:
                    break
                group.resident[family] = hot.hold(family)
                held.append(family)
            late = [family for family in held if family in asked.absent]
            self._settle([family for family in held if family not in asked.absent], "hot", group, asked)
            if late:
                self._settle(late, "cold", group, asked)

    def _gather_here(self, group: Group, asked: _Asked, spare: Collection[int]) -> None:
        """Move the families that need no read and have room beside each other; waits for nothing."""
        for family in list(asked.pending):
            found = self._claim_here(family, group, asked.pending, spare)
            if found is not None:
                self._serve(family, *found, group, asked)

    def _serve(
        self, family: int, found: Tier, transfer: Transfer | None, group: Group, asked: _Asked
    ) -> None:
        """Bring a claimed family into its group, and count its requests."""
        if transfer is not None:
            self._carry(transfer, into=group)
        self._settle([family], "cold" if family in asked.absent else found, group, asked)

    def _claim_here(
        self, family: int, group: Group, wanted: Collection[int], spare: Collection[int]
    ) -> tuple[Tier, Transfer | None] | None:
        """Like `_claim`, for a family that is here and has room; None for any other."""
        with self._changed:
            if not self._is_here(family):
                return None
            if family in self._quarantined:
                return "cold", None
            found: tuple[Tier, Transfer | None] | None = ("hot", None)
            if family not in self._tiers.hot:
                if self._waiting:
                    return None  # who waits for room in the hot tier gets it first
                found = self._admit(family, {*wanted, *spare}, group=group.resident)
                if found is None and not group.resident:
                    found = self._admit(family, spare)
            if found is not None and found[1] is None:
                group.resident[family] = self._tiers.hot.hold(family)
            return found

    def _is_here(self, family: int) -> bool:
        """Whether a request for it need not wait for a read. Called with the lock."""
        if family in self._quarantined:
            return True
        tiers = self._tiers
        return family not in self._in_flight and (family in tiers.hot or family in tiers.warm)

    def _claim(
        self, family: int, group: Group, wanted: Collection[int]
    ) -> tuple[Tier, Transfer | None] | None:
        """Pin a family into `group`, or begin its transfer; returns where it was found.

        A quarantined one is left alone. Waits for a read in flight, its turn and room if the group holds no
        pin; otherwise returns None instead of waiting.
        """
        ticket = object()
        with self._changed:
            try:
                while True:
                    if family in self._quarantined:
                        return "cold", None
                    if family not in self._in_flight:
                        if not self._waiting or self._waiting[0] is ticket:
                            alone = not group.resident
                            found = self._admit(family, wanted, must=alone, group=group.resident)
                            if found is not None:
                                if found[1] is None:
                                    group.resident[family] = self._tiers.hot.hold(family)
                                return found
                        if not group.resident and ticket not in self._waiting:
                            self._waiting.append(ticket)
                    if group.resident:
                        return None
                    self._changed.wait()
            finally:
                if ticket in self._waiting:
                    self._waiting.remove(ticket)
                    self._changed.notify_all()

    def _settle(self, families: Sequence[int], found: Tier, group: Group, asked: _Asked) -> None:
        """Count the requests for families found in one tier, or failed; they are not pending any more."""
        served: Counter[str] = Counter()
        for family in families:
            count = asked.pending.pop(family)
            served["requests"] += count
            if family in group.resident:
                group.origin[family] = found
                if count:
                    served[found] += 1
                    served["hot"] += count - 1
            else:
                again = asked.again.get(family, 0)
                group.failed[family] = self._quarantined[family]
                served["failed"] += count + again
                served["cold"] -= again
        with self._changed:
            for name, count in served.items():
                self._served[asked.phase, name] += count

    def _release(self, group: Group) -> None:
        with self._changed:
            for family in group.resident:
                self._tiers.hot.let_go(family)
            group.resident.clear()
            self._changed.notify_all()

    def _admit(
        self, family: int, wanted: Collection[int], *, must: bool = False, group: Collection[int] = ()
    ) -> tuple[Tier, Transfer | None] | None:
        found = self._tiers.admit(family, wanted, must=must, group=group)
        if found is not None and found[1] is not None:
            self._in_flight.add(family)
        return found

    def _plan(self, wanted: Collection[int], spared: Collection[int]) -> list[Transfer]:
        """Reserve room for all that the readers will read before their first read: they evict none of their own."""
        plan: list[Transfer] = []
        to_hot = not self._waiting  # who waits for room in the hot tier gets it first
        for family in wanted:
            if family in self._quarantined or family in self._in_flight or family in self._tiers.hot:
                continue
            if to_hot:
                found = self._admit(family, spared)
                if found is not None:
                    if found[1] is not None:
                        plan.append(found[1])
                    continue
                to_hot = False
            if family not in self._tiers.warm:
                transfer = self._tiers.admit_warm(family, spared)
                if transfer is None:
                    break
                self._in_flight.add(family)
                plan.append(transfer)
        return plan

    def _carry_ahead(self, transfer: Transfer, reading: Component = Component.COLD) -> None:
        reads = transfer.host is None
        self._carry(transfer, reading=reading)
        with self._changed:
            if reads and transfer.family not in self._quarantined:
                self._reads["ahead"] += 1
                self._clock.count("families prefetched")
                self._clock.count("bytes prefetched", self._read_bytes[transfer.family])

    def _carry(
        self, transfer: Transfer, into: Group | None = None, reading: Component = Component.COLD
    ) -> None:
        """Read and copy a family to where room is reserved, pinned into a group if one is given.

        The time of `reading` is that component's. A family that cannot be read is quarantined. Called without the lock.
        """
        hot: torch.Tensor | None = None
        try:
            host = transfer.host
            if host is None:
                with self._clock.part(reading):
                    host = self._read(transfer.family)
                    if transfer.keeps_host and self._tiers.pins_memory:
                        host = host.pin_memory()
            if transfer.to_hot and self._copies:
                with self._clock.part(Component.WARM):
                    hot = torch.empty_like(host, device=self._device).copy_(host)
            elif transfer.to_hot:
                hot = host
        except (PackIntegrityError, OSError) as error:
            self._abandon(transfer, reason=str(error))
            return
        except BaseException:
            self._abandon(transfer)
            raise
        with self._changed:
            if transfer.host is None:
                self._reads["families"] += 1
                self._reads["bytes"] += self._read_bytes[transfer.family]
                self._clock.count("families read")
                self._clock.count("bytes read", self._read_bytes[transfer.family])
            self._tiers.land(transfer, hot, host)
            self._in_flight.discard(transfer.family)
            if into is not None:
                into.resident[transfer.family] = self._tiers.hot.hold(transfer.family)
            # Without the lock the family may be evicted: this frame must not keep its memory alive.
            del hot, host
            self._changed.notify_all()

    def _read(self, family: int) -> torch.Tensor:
        tensor = self._source.read_family(family)
        found_bytes = tensor.untyped_storage().nbytes()
        if found_bytes > self._read_bytes[family]:
            raise PackIntegrityError(
                f"family {family}: reading it allocated {found_bytes} bytes, expected at most "
                f"{self._read_bytes[family]}; the pack contradicts itself, fetch it again"
            )
        return tensor

    def _abandon(self, transfer: Transfer, reason: str | None = None) -> None:
        """Give back what a transfer reserved; with a reason, quarantine its family."""
        with self._changed:
            self._tiers.cancel(transfer)
            self._in_flight.discard(transfer.family)
            if reason is not None:
                self._quarantined[transfer.family] = reason
            self._changed.notify_all()

    def _phase_counts(self, phase: Phase) -> PhaseCounts:
        return PhaseCounts(
            requests=self._served[phase, "requests"],
            hot_hits=self._served[phase, "hot"],
            warm_hits=self._served[phase, "warm"],
            cold_misses=self._served[phase, "cold"],
            failed=self._served[phase, "failed"],
        )


def _readable(size_bytes: int) -> str:
    """`1.5 MiB (1572864 bytes)`; rounded up, so that giving the first part as a budget is enough."""
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size_bytes >= scale:
            tenths = -(-size_bytes * 10 // scale)
            return f"{tenths // 10}.{tenths % 10} {unit} ({size_bytes} bytes)"
    return f"{size_bytes} bytes"
