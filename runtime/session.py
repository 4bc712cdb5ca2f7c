"""One monitored generation as every view tells it: its words, where the time went, what the counters say.

Knows nothing about how it is shown, and holds no numbers of its own that the monitor counts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING

from runtime.alarms import Alarms
from runtime.rules import Rule
from runtime.transcript import Transcript, Word
from runtime.trend import Trend

if TYPE_CHECKING:
    from runtime.events import Event
    from runtime.monitor import MonitorStats


class Pace:
    """Where the milliseconds go: those of the prompt, and per generated token those of host and lenses.

    A `Sink`: events are timed where they are emitted, between two steps of the host, not where they
    are shown.
    """

    def __init__(self, clock_s: Callable[[], float] = perf_counter) -> None:
        self._clock_s = clock_s
        self._last_s = clock_s()
        self.prompt_ms = 0.0
        self.generation_ms = 0.0
        self.lens_ms = 0.0
        """Of `generation_ms`, what the lenses took."""
        self.steps = 0
        """Steps of generation that were timed. Where tokens are read in groups, a group's time is at its first."""
        self._pending_ms: dict[tuple[int, int], float] = {}
        """Of `lens_ms`, what positions have taken that wait for families; of the prompt's, nothing is counted."""
        self.step_ms: dict[int, float] = {}
        """Milliseconds of each step of generation, host and lenses, by the position of its row."""

    def __call__(self, event: "Event") -> None:
        place = event.sequence, event.position
        if event.run.revision:  # no step of its own: what it took is in the time of the next one
            self.lens_ms += event.run.step_ms - self._pending_ms.pop(place, event.run.step_ms)
            return
        if event.coverage.pending and event.phase == "generation":
            self._pending_ms[place] = event.run.step_ms
        now_s = self._clock_s()
        step_ms, self._last_s = (now_s - self._last_s) * 1e3, now_s
        if event.phase == "prompt":
            self.prompt_ms += step_ms
            return
        self.generation_ms += step_ms
        self.step_ms[event.position] = step_ms
        self.lens_ms += event.run.step_ms
        self.steps += 1

    def __str__(self) -> str:
        if not self.steps:
            return "no token timed yet"
        token_ms, lens_ms = self.generation_ms / self.steps, self.lens_ms / self.steps
        host_ms = max(0.0, token_ms - lens_ms)
        return f"{token_ms:.1f} ms a token (host {host_ms:.1f}, lenses {lens_ms:.1f})"


@dataclass(slots=True)
class Session:
    """One monitored generation as every view sees it."""

    transcript: Transcript
    stats: Callable[[], "MonitorStats"]
    title: str
    limit: int
    """Tokens that may be generated at the most."""
    show: int
    """Concepts to show."""
    trends: Sequence[Trend] = ()
    """Concepts that are shown whatever they score."""
    pace: Pace = field(default_factory=Pace)
    alarms: Alarms | None = None
    """Counts alarms, where a budget for them was asked for."""
    rules: Sequence[Rule] = ()
    """What is looked for, and counted as it is met."""
    view_ms: float | None = field(default=None, init=False)
    """Processor time that a live view has taken; None where there is none."""
    events: int = field(default=0, init=False)
    """Events that were taken in, one a position."""
    _met_at: dict[Rule, set[int]] = field(default_factory=dict, init=False)
    """Positions at which rules were met."""
    _stopped_by: set[Rule] = field(default_factory=set, init=False)

    def add(self, event: "Event") -> list[Word]:
        """Take an event in, or a later revision of one; returns the words that it speaks for."""
        self.events += not event.run.revision
        for met in event.met:
            self._met_at.setdefault(met.rule, set()).add(event.position)
            if met.stops:
                self._stopped_by.add(met.rule)
        for trend in self.trends:
            trend.add(event)
        if self.alarms is not None:
            self.alarms.add(event)
        return self.transcript.add(event)

    def rule_facts(self) -> list[str]:
        """What became of each rule."""
        facts = []
        for rule in dict.fromkeys(self.rules):
            count = len(self._met_at.get(rule, ()))
            fact = f"{rule}: met at {count} position{'' if count == 1 else 's'}"
            facts.append(f"{fact}, ended the text" if rule in self._stopped_by else fact)
        return facts

    def facts(self) -> list[str]:
        """Where the run stands, as short statements: tokens, time, tiers, memory, and whatever went wrong."""
        stats = self.stats()
        cache, phases = stats.cache, (stats.cache.prompt, stats.cache.generation)
        hot = sum(phase.hot_hits for phase in phases)
        warm = sum(phase.warm_hits for phase in phases)
        cold = sum(phase.cold_misses for phase in phases)
        facts = [
            f"{self.transcript.generated}/{self.limit} tokens",
            str(self.pace),
            f"tier hits: hot {hot}, warm {warm}, cold {cold}",
            f"memory: hot {format_bytes(cache.hot_bytes)} of {format_bytes(cache.hot_budget_bytes)}, "
            f"warm {format_bytes(cache.warm_bytes)} of {format_bytes(cache.warm_budget_bytes)}",
        ]
        if self.view_ms is not None:
            facts.insert(2, f"view {self.view_ms / max(1, self.events):.1f} ms a token")
        if self.alarms is not None:
            facts.append(str(self.alarms))
        facts += self.rule_facts()
        failed = sum(phase.failed for phase in phases)
        if failed:
            facts.append(f"{failed} families could not be read")
        if stats.deferred:
            facts.append(f"late: {stats.deferred} positions, {stats.pending} still to come")
        if stats.positions["non_finite"]:
            facts.append(f"{stats.positions['non_finite']} rows were not finite")
        return facts


def format_bytes(count: int) -> str:
    """Bytes in the largest unit of which they are one or more, such as `6.1 MiB`; `0` for none."""
    if not count:
        return "0"
    power = min((count.bit_length() - 1) // 10, 3)
    value = count / 1024**power
    digits = 1 if power and value < 10 and value != int(value) else 0
    return f"{value:.{digits}f} {('B', 'KiB', 'MiB', 'GiB')[power]}"
