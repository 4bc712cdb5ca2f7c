"""A monitor that scores one module at a time: the baseline where the engine would be, everything around it the same.

Rows, pooling, positions and events are the monitor's, so what differs in time is the scoring alone, and contents can be
compared event by event.

Shape: P positions, D hidden size.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from baseline.system import OneAtATime

from lenses.lens import Floats
from lenses.pack import LensPack
from runtime.cache import FamilyCache
from runtime.config import MonitorConfig
from runtime.engine import Engine
from runtime.events import Phase
from runtime.monitor import Monitor
from runtime.reading import Reader
from runtime.walk import Scores, Walk


class OneAtATimeMonitor(Monitor):
    """A monitor over the per-lens files of `directory` (`baseline.files.export_baseline`), all read at the start."""

    def __init__(self, pack: LensPack, config: MonitorConfig, directory: Path) -> None:
        super().__init__(pack, config)
        self.engine: Engine = _OneAtATimeEngine(
            OneAtATime(pack, directory, config, max_loaded_lenses=None), self.engine
        )  # type: ignore[assignment]
        self._reader = Reader(self.engine)


class _OneAtATimeEngine:
    """What a monitor asks of an engine; every walk is complete when it begins."""

    def __init__(self, system: OneAtATime, engine: Engine) -> None:
        self._system, self._engine = system, engine
        self.base_count, self.asked = system.base_count, engine.asked
        self.pack, self.config = engine.pack, engine.config

    @property
    def cache(self) -> FamilyCache:
        """Of the engine in whose place this is: it stays as it was made."""
        return self._engine.cache

    def begin(self, states_PD: Floats, phase: Phase) -> list[Walk]:
        """Score every position to the end of its walk."""
        found = self._system.score(states_PD).contents
        nothing = np.empty(0, np.float32)
        return [Walk(nothing, phase, Scores([one.concepts], [one.logits], cut=one.cut)) for one in found]

    def go_on(self, walks: Sequence[Walk], **_: object) -> None:
        """Nothing is left to do."""

    def close(self) -> None:
        """End the engine's threads."""
        self._engine.close()
