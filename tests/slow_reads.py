"""Families that come when a test says so: reads wait at a gate. No sleep, and no test that hangs."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import contextmanager

import pytest
import torch

from lenses.pack import LensPack
from runtime.kept import KeptRows
from runtime.monitor import Monitor
from runtime.rows import Sequence

PATIENCE_S = 20.0
"""How long a read waits before it says that nobody let it through; none should."""


class Gate:
    """Where the readers' reads wait: one goes through for each `let`, all while it is open.

    Reads by other threads go through at once. Whenever a thread begins to wait in the cache, so does one at the gate:
    who waits does so for a read.
    """

    def __init__(self) -> None:
        self.is_open = False
        self.damaged: frozenset[int] = frozenset()
        self.read: list[int] = []
        """Families in the order in which their reads went through."""
        self._free = 0
        self._changed = threading.Condition()

    def let(self, reads: int) -> None:
        """Let so many reads more through."""
        with self._changed:
            self._free += reads
            self._changed.notify_all()

    def set_open(self, is_open: bool) -> None:
        """Let all reads through from now on, or none but those that `let` allowed."""
        with self._changed:
            self.is_open = is_open
            self._changed.notify_all()

    def come(self, monitor: Monitor) -> None:
        """Wait for the reads that the monitor has handed over; the gate has to be open."""
        wait(monitor.engine.cache._handed_over, PATIENCE_S)

    def watch(self, monitor: Monitor) -> None:
        """Let a read through whenever this monitor waits for one."""
        gate = self

        class Impatient(threading.Condition):
            def wait(self, timeout: float | None = None) -> bool:
                gate.let(1)
                return super().wait(timeout)

        monitor.engine.cache._changed = Impatient()

    def _pass(self, family: int) -> None:
        with self._changed:
            if threading.current_thread().name.startswith("family-reader"):
                came = self._changed.wait_for(lambda: self.is_open or self._free > 0, PATIENCE_S)
                assert came, f"nobody let the read of family {family} through"
                self._free -= not self.is_open
            self.read.append(family)
        if family in self.damaged:
            raise OSError(f"family {family}: its disk has gone")


@contextmanager
def gated(pack: LensPack) -> Iterator[Gate]:
    """While this lasts, reads of the pack's families that are in no base wait at the gate that it yields."""
    gate = Gate()
    base = pack.hierarchy.base_families(pack.config.base_levels)
    read_family = LensPack.read_family

    def read(self: LensPack, family: int) -> torch.Tensor:
        if self is pack and family not in base:
            gate._pass(family)
        return read_family(self, family)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LensPack, "read_family", read)
        yield gate


def no_read_before_the_end(patch: Callable[[object, str, object], None] = setattr) -> None:
    """Let the reads of the readers wait until a generation has ended, in every monitor of this process."""
    over = threading.Event()
    read_family, finish = LensPack.read_family, KeptRows.finish

    def read(self: LensPack, family: int) -> torch.Tensor:
        if threading.current_thread().name.startswith("family-reader"):
            assert over.wait(PATIENCE_S), "no generation has ended"
        return read_family(self, family)

    def end(self: KeptRows, sequence: Sequence | None = None) -> None:
        if len(self):  # a generation that begins ends what was before it, too
            over.set()
        finish(self, sequence)

    patch(LensPack, "read_family", read)
    patch(KeptRows, "finish", end)
