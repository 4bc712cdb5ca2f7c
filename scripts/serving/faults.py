"""Faults planted in a server: an exception in a step of its engine, once each time that it is told to.

Counts what it planted, how generations ended, and what is left in slots: whether anything leaked is read here.
"""

import os
from collections.abc import Sequence
from typing import Any

from runtime.serve.generation import Generation
from runtime.serve.scheduler import Scheduler
from runtime.serve.service import Service
from serving.additions import Addition, Record


class PlantedFault(RuntimeError):
    """What a benchmark had a step raise."""


class Faults:
    """Steps that break when told to, and counters."""

    def __init__(self) -> None:
        self._due = 0
        self.planted = 0
        self.finished: dict[str, int] = {}

    def install(self) -> Addition:
        """Put them in."""
        self._break_steps()
        self._count_ends()
        return Addition(self._look, self._tell)

    def _look(self, service: Service) -> Record:
        scheduler: Any = service.scheduler
        progress = service.scheduler.progress
        return {
            "pid": os.getpid(),
            "planted": self.planted,
            "finished": dict(self.finished),
            "waiting": progress.waiting,
            "running": progress.running,
            "paused": progress.paused,
            "sessions": progress.sessions,
            "tokens": progress.tokens,
            "positions": progress.positions,
            "failure": progress.failure,
            "slots_owned": sum(owner is not None for owner in scheduler._owners),
            "slots_filled": sum(length > 0 for length in scheduler._slots.lengths),
        }

    def _tell(self, told: Record) -> None:
        self._due += int(told["break_steps"])

    def _break_steps(self) -> None:
        plain = Scheduler._forward

        def forward(scheduler: Scheduler, first: int, token_BT: Sequence[Sequence[int]]) -> Any:
            if self._due:  # once, for three broken steps in a row end the engine
                self._due -= 1
                self.planted += 1
                raise PlantedFault("planted by a benchmark")
            return plain(scheduler, first, token_BT)

        Scheduler._forward = forward  # type: ignore[method-assign, assignment]

    def _count_ends(self) -> None:
        plain = Generation._chunk

        def chunk(generation: Generation, told: Any, finish: Any) -> Any:
            if finish is not None:
                self.finished[finish] = self.finished.get(finish, 0) + 1
            return plain(generation, told, finish)

        Generation._chunk = chunk  # type: ignore[method-assign, assignment]
