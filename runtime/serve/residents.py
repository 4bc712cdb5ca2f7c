"""What is in memory, by bytes: loaded when first wanted, kept while somebody holds it, let go when room is wanted.

    hold ──▶ here? ──▶ one holder more
               │ no
               ▼
          make room ──▶ load ──▶ make room (now its size is known)
               │
               └─ lets go of what nobody holds and nothing in it is used, that which was wanted longest ago first

What is pinned stays. Loads happen one after another, and nobody who holds what is here waits for them. The size of
what is loaded for the first time is known only then: until room was made for it, memory may be above the budget.

Knows nothing about what it keeps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock, RLock
from typing import Any

from lenses.errors import ServerFull

_PATIENCE_S = 5.0
"""Before somebody whose wish found no room tries again."""


def _nothing() -> None:
    """For what needs no closing."""


def _nobody() -> int:
    """For what is used by its holders alone."""
    return 0


@dataclass(frozen=True, slots=True)
class Loaded:
    """Something that was brought into memory."""

    value: Any
    size_bytes: int
    """What it may take at the most."""
    close: Callable[[], None] = _nothing
    """Let go of it."""
    users: Callable[[], int] = _nobody
    """Who uses it beside its holders: sessions, say. It stays while there are any."""


@dataclass(slots=True)
class _Resident:
    loaded: Loaded
    holders: int = 0
    is_pinned: bool = False
    wanted: int = 0
    """When it was wanted last, counted in wishes."""

    @property
    def is_free(self) -> bool:
        return not self.is_pinned and self.holders == 0 and self.loaded.users() == 0


@dataclass(frozen=True, slots=True)
class Residence:
    """How one of them stands."""

    name: str
    size_bytes: int
    holders: int
    users: int
    is_pinned: bool


@dataclass(frozen=True, slots=True)
class ResidentCounts:
    """What was done so far."""

    hits: int
    loads: int
    evictions: int
    refusals: int
    size_bytes: int
    budget_bytes: int


class Residents:
    """Things in memory by their names, within `budget_bytes`. All of it may be called from any thread."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._here: dict[str, _Resident] = {}
        self._sizes: dict[str, int] = {}
        """Of everything that was ever here."""
        self._table, self._loading = Lock(), RLock()  # a load may want something else: an engine, its host
        self._wishes = self._hits = self._loads = self._evictions = self._refusals = 0
        self.largest_bytes = 0
        """What was wanted at once at the most, refused or not."""

    def find(self, name: str) -> Any | None:
        """Hold what is here already; None if it is not. Never waits for a load."""
        with self._table:
            one = self._here.get(name)
            if one is None:
                return None
            self._hits += 1
            return self._take(one).loaded.value

    def hold(self, name: str, load: Callable[[], Loaded], *, pin: bool = False) -> Any:
        """Hold what has this name, loaded now if it is not here; `release` ends that.

        Raises ServerFull where there is no room beside what is used, and whatever `load` raises.
        """
        with self._loading:
            value = self.find(name)
            if value is None:
                self._make_room(self._sizes.get(name, 0), name)
                loaded = load()
                value = loaded.value
                with self._table:
                    self._loads += 1
                    self._sizes[name] = loaded.size_bytes
                    self._take(self._here.setdefault(name, _Resident(loaded)))
                try:
                    self._make_room(0, name)
                except ServerFull:
                    self.release(name)
                    self.drop(name)
                    raise
            if pin:
                with self._table:
                    self._here[name].is_pinned = True
            return value

    def release(self, name: str) -> None:
        """End one `find` or `hold`."""
        with self._table:
            one = self._here[name]
            if not one.holders:
                raise ValueError(f"{name} is released more often than it was held")
            one.holders -= 1

    def drop(self, name: str) -> bool:
        """Let go of something, if nobody uses it; whether that was so."""
        with self._loading:
            with self._table:
                one = self._here.get(name)
                if one is None or not one.is_free:
                    return False
                del self._here[name]
                self._evictions += 1
            one.loaded.close()
            return True

    def close(self) -> None:
        """Let go of everything, whoever holds it: what was loaded last goes first."""
        with self._loading:
            while True:
                with self._table:
                    if not self._here:
                        return
                    _, one = self._here.popitem()
                one.loaded.close()

    @property
    def residences(self) -> list[Residence]:
        """Everything that is here."""
        with self._table:
            return [
                Residence(name, one.loaded.size_bytes, one.holders, one.loaded.users(), one.is_pinned)
                for name, one in self._here.items()
            ]

    @property
    def counts(self) -> ResidentCounts:
        """What was done so far."""
        with self._table:
            return ResidentCounts(
                self._hits,
                self._loads,
                self._evictions,
                self._refusals,
                self._size_bytes(),
                self._budget_bytes,
            )

    def _take(self, one: _Resident) -> _Resident:
        self._wishes += 1
        one.holders, one.wanted = one.holders + 1, self._wishes
        return one

    def _size_bytes(self) -> int:
        return sum(one.loaded.size_bytes for one in self._here.values())

    def _make_room(self, wanted_bytes: int, name: str) -> None:
        """Let go of what is free until so much more fits; raises ServerFull where all that is left is used.

        What something free holds is free after it, so it goes by rounds: an engine first, then its host.
        """
        while True:
            with self._table:
                wanted = self._size_bytes() + wanted_bytes
                self.largest_bytes = max(self.largest_bytes, wanted)
                if wanted <= self._budget_bytes:
                    return
                free = [known for known, one in self._here.items() if one.is_free and known != name]
                oldest = min(free, key=lambda known: self._here[known].wanted, default=None)
                if oldest is None:
                    self._refusals += 1
                    raise ServerFull(
                        f"there is no room for {name}: {wanted:,} bytes are wanted, {self._budget_bytes:,} are "
                        "allowed, and all that is here is used; try again later",
                        _PATIENCE_S,
                    )
            self.drop(oldest)
