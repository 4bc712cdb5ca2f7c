"""Rows whose walks wait for families, kept within a budget in bytes, oldest first (`missing = deferred`).

1. A row that is kept has its walk's state, scores so far and frontier, none of it shared with other rows.
2. `go_on` takes those walks on of which a family came, and has begun reading what there was no room for before.
3. Where the budget is full, the oldest row is waited for until there is room, and that is counted.
4. Rows of a sequence leave in order of position: one that is complete stays behind an older one that is not.

Knows nothing about events, or what becomes of the rows that leave.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from time import perf_counter

from runtime.engine import Engine
from runtime.rows import Row
from runtime.rows import Sequence as RowSequence
from runtime.walk import Walk


class KeptRows:
    """The rows that wait, in the order in which they came; `engine` takes their walks on."""

    def __init__(self, engine: Engine, budget_bytes: int) -> None:
        self._engine = engine
        self._budget_bytes = budget_bytes
        self._rows: list[Row] = []
        self._row_bytes: dict[Row, int] = {}
        self._gone: list[Row] = []
        self._awaited: Counter[int] = Counter()
        self.size_bytes = 0
        self.peak_bytes = 0
        """The most that was ever kept from one step to the next; never above the budget."""
        self.deferred = 0
        """Rows that had to be kept."""
        self.blocked = 0
        """How often a row was waited for because the budget was full."""

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def awaited(self) -> Collection[int]:
        """Families that rows here wait for."""
        return self._awaited.keys()

    def keep(self, rows: Sequence[Row]) -> None:
        """Keep rows whose walks are not complete; waits for the oldest where the budget is full."""
        for row in rows:
            self.deferred += 1
            self._rows.append(row)
            self._note(row)
            self._shrink()

    def go_on(self) -> None:
        """Take the walks on of which a family came; waits for nothing but the budget."""
        if not self._rows:
            return
        here = self._engine.cache.start(self._awaited)
        moving = [row for row in self._rows if not here.isdisjoint(_walk(row).choice.families)]
        self._move(moving, wait=False, spare=self._awaited.keys() - here)
        self._shrink()

    def finish(self, sequence: RowSequence | None = None) -> None:
        """Wait until all rows are complete, or those of one sequence."""
        waiting = [row for row in self._rows if not _walk(row).is_complete]
        wanted = [row for row in waiting if sequence is None or row.sequence is sequence]
        self._move(wanted, wait=True, spare=())

    def take_complete(self) -> list[Row]:
        """The rows that have left since the last call."""
        gone, self._gone = self._gone, []
        return gone

    def _move(self, rows: Sequence[Row], *, wait: bool, spare: Collection[int]) -> None:
        """Take the walks of some rows on, share the time among them, and let go of what is complete."""
        if not rows:
            return
        for row in rows:
            self._awaited.subtract(_walk(row).choice.families)
        began_s = perf_counter()
        try:
            self._engine.go_on([_walk(row) for row in rows], wait=wait, spare=spare)
        finally:
            step_ms = (perf_counter() - began_s) * 1e3 / len(rows)
            for row in rows:
                row.step_ms += step_ms
                self._note(row)
            self._awaited = +self._awaited  # without those that nobody awaits any more
            self._let_go()

    def _note(self, row: Row) -> None:
        """Count what a row takes and waits for, as it is now."""
        walk = _walk(row)
        self._awaited.update(walk.choice.families)
        size_bytes = walk.own()
        self.size_bytes += size_bytes - self._row_bytes.get(row, 0)
        self._row_bytes[row] = size_bytes

    def _shrink(self) -> None:
        while self.size_bytes > self._budget_bytes:
            self.blocked += 1
            self._move(self._rows[:1], wait=True, spare=())
        self.peak_bytes = max(self.peak_bytes, self.size_bytes)

    def _let_go(self) -> None:
        stay: list[Row] = []
        behind: set[RowSequence] = set()
        for row in self._rows:
            if not _walk(row).is_complete or row.sequence in behind:
                behind.add(row.sequence)
                stay.append(row)
            else:
                self.size_bytes -= self._row_bytes.pop(row)
                row.walk = None
                self._gone.append(row)
        self._rows = stay


def _walk(row: Row) -> Walk:
    assert row.walk is not None, "a row that is kept has a walk"
    return row.walk
