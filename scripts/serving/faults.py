"""Faults planted in a server: an exception in a step of its engine.

steps      the next one, once each time that it is told to
requests   each with a probability, drawn with a seed in the order in which they come. Such a request breaks the forward
           over its prompt, which is its own. Three broken steps in a row would end the engine: after two, it breaks a
           later forward that it takes part in. Who else took part in a step that broke is collateral

Counts what it planted, how generations ended, and what is left in slots: whether anything leaked is read here.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from runtime.serve.generation import Generation
from runtime.serve.scheduler import Scheduler
from runtime.serve.service import Service
from serving.additions import Addition, Record


class PlantedFault(RuntimeError):
    """What a benchmark had a step raise."""


_MOST_IN_A_ROW = 2
"""Broken steps that the engine goes on after."""


def drawn(rate: float, seed: int, requests: int) -> int:
    """How many of so many requests are to break: whoever told the rate and the seed knows it too."""
    return int((np.random.default_rng(seed).random(requests) < rate).sum())


class Faults:
    """Steps and requests that break when told to, and counters."""

    def __init__(self) -> None:
        self._due = 0
        self.planted = 0
        self.finished: dict[str, int] = {}
        self._breaking = 0
        self._rate, self._random = 0.0, np.random.default_rng(0)
        self._to_break: set[Generation] = set()
        self.requests = self.told = self.requests_broken = self.spared = self.collateral = 0
        """Since a rate was told: requests; of these to be broken, broken, and over before that; broken by others."""

    def install(self) -> Addition:
        """Put them in."""
        self._break_steps()
        self._draw_requests()
        self._break_requests()
        self._count_ends()
        return Addition(self._look, self._tell)

    def _look(self, service: Service) -> Record:
        scheduler: Any = service.scheduler
        progress = service.scheduler.progress
        return {
            "pid": os.getpid(),
            "planted": self.planted,
            "requests": self.requests,
            "told": self.told,
            "requests_broken": self.requests_broken,
            "spared": self.spared,
            "collateral": self.collateral,
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
        self._due += int(told.get("break_steps", 0))
        if "rate" in told:
            self._rate, self._random = float(told["rate"]), np.random.default_rng(int(told["seed"]))
            self._to_break.clear()
            self.requests = self.told = self.requests_broken = self.spared = self.collateral = 0

    def _break_steps(self) -> None:
        plain = Scheduler._forward

        def forward(scheduler: Scheduler, first: int, token_BT: Sequence[Sequence[int]]) -> Any:
            if self._due:  # once, for three broken steps in a row end the engine
                self._due -= 1
                self.planted += 1
                raise PlantedFault("planted by a benchmark")
            return plain(scheduler, first, token_BT)

        Scheduler._forward = forward  # type: ignore[method-assign, assignment]

    def _draw_requests(self) -> None:
        plain = Generation.__init__

        def init(generation: Generation, *arguments: Any) -> None:
            plain(generation, *arguments)
            self.requests += 1
            if self._random.random() < self._rate:
                self.told += 1
                self._to_break.add(generation)

        Generation.__init__ = init  # type: ignore[method-assign, assignment]

    def _break_requests(self) -> None:
        plain_forward, plain_advance = Scheduler._forward, Scheduler._advance

        def forward(scheduler: Scheduler, first: int, token_BT: Sequence[Sequence[int]]) -> Any:
            here = scheduler._owners[first : first + len(token_BT)]
            broken = [one for one in here if isinstance(one, Generation) and one in self._to_break]
            if broken and scheduler._failures < _MOST_IN_A_ROW:
                self._to_break.difference_update(broken)
                self.requests_broken += len(broken)
                self._breaking = len(broken)
                raise PlantedFault(f"planted by a benchmark, number {self.requests_broken}")
            return plain_forward(scheduler, first, token_BT)

        def advance(scheduler: Scheduler, taking_part: list[Generation]) -> None:
            self._breaking = 0
            try:
                plain_advance(scheduler, taking_part)
            finally:
                if self._breaking:
                    self.collateral += len(taking_part) - self._breaking

        Scheduler._forward = forward  # type: ignore[method-assign, assignment]
        Scheduler._advance = advance  # type: ignore[method-assign, assignment]

    def _count_ends(self) -> None:
        plain = Generation._chunk

        def chunk(generation: Generation, told: Any, finish: Any) -> Any:
            if finish is not None:
                self.finished[finish] = self.finished.get(finish, 0) + 1
                self.spared += generation in self._to_break
                self._to_break.discard(generation)
            return plain(generation, told, finish)

        Generation._chunk = chunk  # type: ignore[method-assign, assignment]
