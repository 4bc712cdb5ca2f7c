"""A monitor to run with, as a program finds it that has run for a while, or that has just started.

    warm    one monitor for all runs: after the first, what they want is in memory, as far as its budgets allow
    cold    before each run the pack's files leave the page cache, and pack and monitor are made anew, off the clock

What making them takes is kept, since somebody waits for it: `start_up_ms`. Knows nothing about what is measured.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from measuring.disk import evict

from lenses.pack import LensPack
from profiling.runs import Run, Task, generate
from runtime.clock import NO_CLOCK, Clock
from runtime.config import MonitorConfig
from runtime.counts import CacheStats
from runtime.host import Host
from runtime.monitor import Monitor

State = Literal["warm", "cold"]


@dataclass(frozen=True, slots=True)
class Watched:
    """One run, and the cache's counters before it: those after it are the run's."""

    run: Run
    before: CacheStats


class Watching:
    """Makes monitors of one configuration for one pack; `clock` gives each its clock."""

    def __init__(
        self,
        pack_dir: Path,
        config: MonitorConfig,
        state: State,
        *,
        clock: Callable[[], Clock] = lambda: NO_CLOCK,
    ) -> None:
        self._pack_dir, self._config, self._state, self._clock = pack_dir, config, state, clock
        self._monitor: Monitor | None = None
        self.start_up_ms: list[float] = []
        """Of each monitor made so far: opening the pack, reading the base."""

    def prepare(self) -> None:
        """Be ready to run."""
        if self._monitor is not None and self._state == "warm":
            return
        self.close()
        if self._state == "cold":
            for path in sorted(self._pack_dir.iterdir()):
                if path.is_file():
                    evict(path).check()
        begin = time.perf_counter()
        pack = LensPack.from_pretrained(self._pack_dir)
        self._monitor = Monitor(pack, self._config, clock=self._clock())
        self.start_up_ms.append(1e3 * (time.perf_counter() - begin))

    def run(self, host: Host, task: Task) -> Watched:
        """Generate, watched."""
        before = self.monitor.stats().cache
        return Watched(generate(host, task, self.monitor), before)

    @property
    def monitor(self) -> Monitor:
        """The monitor that `prepare` made last."""
        assert self._monitor is not None, "prepare comes first"
        return self._monitor

    def close(self) -> None:
        """End the monitor's threads; idempotent."""
        if self._monitor is not None:
            self._monitor.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
