"""Where a step's time goes: one clock, one component running at any instant.

Components nest (loading a child happens inside the walk), and their times would overlap. So the clock measures
exclusive time: entering a component stops the one around it, leaving it starts that one again, and what runs when no
component does is the host's. The parts of a step therefore sum to the step; `total_ms` is measured apart, from one
`step` to the next, so that a sum which does not fit is seen.

Off, it is `NO_CLOCK`: the same calls, which do nothing. On an accelerator the components that launch work there also
get events on its stream, whose times are read when the step is over and somebody asks.

A clock belongs to the thread that calls `step`; what other threads do at the same time (reading ahead) is in the trace
and in no sum.
"""

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from enum import StrEnum
from time import perf_counter
from typing import Any

import torch


class Component(StrEnum):
    """What a step's time is charged to, in the order in which a step goes through them."""

    HOST = "host"
    """Whatever runs when no other component does."""
    HOOK = "hook and transfer"
    """Token ids and mask of a forward, its rows, and their copy from the device."""
    STATES = "input states"
    """Normalising and pooling; a compact pack's projection."""
    DETECTION = "initial detection"
    """Scoring the base."""
    EXPANSION = "expansion"
    """Ranking, and choosing the families to open."""
    PREWARM = "pre-warm"
    """Waiting for the batches that a prompt's families are read in."""
    CACHE = "cache management"
    """Finding families in the tiers, pinning them, making room; on a CPU also warm to hot, which copies nothing."""
    COLD = "child loading: cold"
    """Reading families from the pack when they are met."""
    WARM = "child loading: warm to hot"
    """Copying families from host memory to the device."""
    CHILDREN = "child detection"
    """Scoring the families that were opened."""
    EVENTS = "events"
    """Making events and handing them to whoever listens."""


@dataclass(slots=True)
class Step:
    """One step: from the beginning of one forward of the host to that of the next."""

    name: str
    parts_ms: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Component to its exclusive milliseconds."""
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """What was counted in the step, by name: `families hot` and `lenses hot`, `warm` and `cold`: what the step's
    levels brought to where it is scored, by the tier where it was; one that serves several positions once; `families
    read` and `bytes read` from the pack, of these `families prefetched` and `bytes prefetched`; `base passes`: how
    often the base was scored, for however many positions at once."""
    start_s: float = 0.0
    """When it began, on the scale of `time.perf_counter`."""
    total_ms: float = 0.0
    """The step as a whole, by two readings of its own."""
    device_parts: list[tuple[str, Any, Any]] = field(default_factory=list)
    """Component, and the events before and after what it launched on an accelerator."""

    def device_ms(self) -> dict[str, float]:
        """Component to its milliseconds on the accelerator's stream; waits for them. Empty on a CPU."""
        parts: dict[str, float] = defaultdict(float)
        for name, before, after in self.device_parts:
            after.synchronize()
            parts[name] += before.elapsed_time(after)
        return dict(parts)


@dataclass(frozen=True, slots=True)
class Span:
    """One stretch of one component, for a trace."""

    name: str
    thread: str
    start_s: float
    """On the scale of `time.perf_counter`."""
    stop_s: float


class Clock:
    """Times components; `with clock.part(Component.EXPANSION): ...`."""

    def __init__(self, device: torch.device | str = "cpu", *, trace: bool = False) -> None:
        self.steps: list[Step] = []
        """All steps so far, the running one not included."""
        self.spans: list[Span] = []
        """Every stretch of every component, if it is to `trace`; memory grows with them."""
        self._events = torch.device(device).type == "cuda"
        self._trace = trace
        self._owner: int | None = None
        self._step: Step | None = None
        self._began = self._since = 0.0
        self._running: str = Component.HOST
        self._stack: list[str] = []

    def step(self, name: str) -> None:
        """A step begins, and the one before it ends; called while no component runs but perhaps one around it."""
        self.finish()
        self._owner = threading.get_ident()
        self._began = self._since = perf_counter()
        self._step = Step(name, start_s=self._began)

    def finish(self) -> None:
        """The running step ends, if there is one."""
        if self._step is None:
            return
        now = perf_counter()
        self._charge(now)
        self._step.total_ms = (now - self._began) * 1e3
        self.steps.append(self._step)
        self._step = None

    @contextmanager
    def part(self, name: Component) -> Iterator[None]:
        """Charge what runs inside to this component."""
        if self._step is None or threading.get_ident() != self._owner:
            start = perf_counter()
            yield
            self._span(name, start, perf_counter())
            return
        before = self._mark()
        self._charge(perf_counter())
        self._stack.append(self._running)
        self._running = name
        try:
            yield
        finally:
            self._charge(perf_counter())
            self._running = self._stack.pop()
            if before is not None and self._step is not None:
                self._step.device_parts.append((name, before, self._mark()))

    def count(self, name: str, amount: int = 1) -> None:
        """Add to a count of the running step."""
        if self._step is not None:
            self._step.counts[name] += amount

    def _charge(self, now: float) -> None:
        """Charge the time since the last switch to the component that ran."""
        if self._step is not None:
            self._step.parts_ms[self._running] += (now - self._since) * 1e3
        self._span(self._running, self._since, now)
        self._since = now

    def _span(self, name: str, start: float, stop: float) -> None:
        if self._trace and stop > start:
            self.spans.append(Span(name, threading.current_thread().name, start, stop))

    def _mark(self) -> Any:
        if not self._events:
            return None
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event


class _NoClock(Clock):
    """A clock that is off."""

    _nothing = nullcontext()

    def step(self, name: str) -> None:
        pass

    def finish(self) -> None:
        pass

    def part(self, name: Component) -> AbstractContextManager[None]:  # type: ignore[override]
        return self._nothing

    def count(self, name: str, amount: int = 1) -> None:
        pass


NO_CLOCK = _NoClock()
