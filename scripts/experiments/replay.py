"""Recorded rows, scored again: by a monitor as it watches, or by the baseline. What every token cost, what was seen.

A monitor is told what the hook tells it, step by step, so all of its work is in the figures: ids and mask, input
states, scoring, loading, events. Not in them: the hook's own call, and that a host which ran in between has used the
processor's caches. The baseline is handed input states; it is charged for its walk and its loading alone.

Shapes: P positions, G rows of generation, D hidden size.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from baseline.system import OneAtATime, Scored
from numpy.typing import NDArray

from experiments.recording import Recording
from experiments.subject import first_layer_bytes, fp32_lens_bytes, lens_bytes, shared_bytes
from lenses.lens import Floats
from lenses.metrics import Doubles
from lenses.pack import LensPack
from runtime.blocks import eos_ids_of
from runtime.clock import Component, Step
from runtime.events import Event
from runtime.hook import Forward
from runtime.host import Host
from runtime.monitor import Monitor
from runtime.plan import GenerationPlan

COLUMNS = ("initial detection", "child loading", "child detection", "cache management", "other")
"""What a token's time is made of, as the reference divides it; `other` is the rest, so that they sum to the whole."""

_COLUMN_OF: Mapping[str, str] = {
    Component.DETECTION: "initial detection",
    Component.COLD: "child loading",
    Component.WARM: "child loading",
    Component.PREWARM: "child loading",
    Component.CHILDREN: "child detection",
    Component.CACHE: "cache management",
}

Seen = tuple[NDArray[np.int32], Floats, int]
"""What was seen at one position: concepts in ascending order, their logits, how many families were cut."""


@dataclass(frozen=True, slots=True, eq=False)
class Replayed:
    """One replay of one or more recordings."""

    start_ms: float
    """Making the monitor (or the baseline), its base read."""
    prompt_ms: float
    """Lens time of the prompts, all together."""
    step_ms_G: Doubles
    """[G] lens time of each generated row."""
    parts_ms: dict[str, float]
    """By `COLUMNS`, the mean over generated rows."""
    prompt_parts_ms: dict[str, float]
    """By `COLUMNS`, of all prompts together."""
    seen: tuple[Seen, ...]
    """By generated row."""
    digest: str | None
    """sha256 of the contents of all events, as `profiling.runs.generate` makes it; None of the baseline."""
    base_lenses: int
    children_scored: int
    """Lenses beyond the base that were scored for generated rows."""
    children_loaded: int
    """Lenses that were read from disk while rows were generated."""
    prompt_loaded: int
    """Lenses that were read from disk for the prompts, the base left out."""
    requests: int
    hits: int
    """Of the requests of generated rows, those whose lenses were in memory. A request is a (position, family) pair; of
    the baseline, which knows no families, a (position, lens) pair."""
    floor_bytes: float
    """What scoring one generated row must read, on average: base and children, all layers."""

    @property
    def total_ms(self) -> float:
        """Start, prompts and generation together."""
        return self.start_ms + self.prompt_ms + float(self.step_ms_G.sum())


def replay(
    monitor: Monitor, host: Host, recordings: Sequence[Recording], *, start_ms: float = 0.0
) -> Replayed:
    """Tell a monitor, which must have a clock, what the hook told it when these were recorded."""
    digest = hashlib.sha256()
    seen: list[Seen] = []
    steps: dict[str, list[Step]] = {"prompt": [], "generation": []}
    before = monitor.stats().cache.generation
    for recording in recordings:
        first_step = len(monitor.clock.steps)
        monitor.events.clear()
        play(monitor, host, recording)
        add_to_digest(digest, monitor.events)
        seen += [
            (event.scored, event.logits, event.coverage.cut)
            for event in monitor.events
            if event.phase == "generation"
        ]
        for step in monitor.clock.steps[first_step:]:
            steps[step.name].append(step)
    after, pack = monitor.stats().cache.generation, monitor.pack
    base = monitor.engine.base_count
    children = sum(len(concepts) - base for concepts, _, _ in seen)
    rows = max(1, len(seen))
    return Replayed(
        start_ms=start_ms,
        prompt_ms=sum(map(lens_ms, steps["prompt"])),
        step_ms_G=np.array([lens_ms(step) for step in steps["generation"]]),
        parts_ms=mean_parts(steps["generation"]),
        prompt_parts_ms=_scaled(mean_parts(steps["prompt"]), len(steps["prompt"])),
        seen=tuple(seen),
        digest=digest.hexdigest(),
        base_lenses=base,
        children_scored=children,
        children_loaded=lenses_read(steps["generation"], pack),
        prompt_loaded=lenses_read(steps["prompt"], pack),
        requests=after.requests - before.requests,
        hits=after.hot_hits + after.warm_hits - before.hot_hits - before.warm_hits,
        floor_bytes=(base + children / rows) * lens_bytes(pack) + shared_bytes(pack),
    )


def replay_baseline(
    system: OneAtATime,
    pack: LensPack,
    recordings: Sequence[Recording],
    *,
    prompt: bool = False,
    prewarm: bool = False,
    start_ms: float = 0.0,
) -> Replayed:
    """Hand the baseline the same input states, token by token; with `prompt` it scores the prompt's first, at once."""
    scored: list[Scored] = []
    prompt_ms, prompt_loaded = 0.0, 0
    prompt_parts_ms = dict.fromkeys(COLUMNS, 0.0)
    for recording in recordings:
        prompt_PD, generation_GD = recording.states(pack.config.input)
        if prewarm:
            warmed = system.prewarm(prompt_PD)
            prompt_ms += warmed.total_ms
            prompt_loaded += warmed.loaded
            prompt_parts_ms["child loading"] += warmed.total_ms
        if prompt:
            found = system.score(prompt_PD)
            prompt_ms += found.total_ms
            prompt_loaded += found.loaded
            for name in COLUMNS:
                prompt_parts_ms[name] += found.component_ms[name.replace(" ", "_")]
        scored += [system.score(generation_GD[at : at + 1]) for at in range(len(generation_GD))]
    rows = max(1, len(scored))
    children = sum(one.loaded + one.reused for one in scored)
    return Replayed(
        start_ms=start_ms,
        prompt_ms=prompt_ms,
        step_ms_G=np.array([one.total_ms for one in scored]),
        parts_ms={
            name: sum(one.component_ms[name.replace(" ", "_")] for one in scored) / rows for name in COLUMNS
        },
        prompt_parts_ms=prompt_parts_ms,
        seen=tuple((one.contents[0].concepts, one.contents[0].logits, one.contents[0].cut) for one in scored),
        digest=None,
        base_lenses=system.base_count,
        children_scored=children,
        children_loaded=sum(one.loaded for one in scored),
        prompt_loaded=prompt_loaded,
        requests=children,
        hits=sum(one.reused for one in scored),
        floor_bytes=(system.base_count + children / rows) * fp32_lens_bytes(pack),
    )


def play(monitor: Monitor, host: Host, recording: Recording) -> None:
    """Tell a monitor of one generation, as the hook does."""
    monitor.attach(host.model)  # the tap is not used: this is where a monitor learns of BOS
    token_BT = recording.token_T[None]
    eos_ids = tuple(sorted(eos_ids_of(host.model)))
    monitor.expect(GenerationPlan(token_BT[:, : recording.prompt], eos_ids))
    start = 0
    for stop in range(recording.prompt, len(recording.rows_TD) + 1):
        tokens, mask = token_BT[:, start:stop], np.ones((1, stop - start), np.bool_)
        monitor.tokens_fed(tokens, mask, start == 0)
        monitor.observe(Forward(recording.rows_TD[None, start:stop], tokens, mask, start == 0))
        start = stop
    monitor.finish_run(token_BT)
    monitor.expect(None)


def started_ms(begin_s: float) -> float:
    """Milliseconds since `perf_counter()` was `begin_s`."""
    return 1e3 * (perf_counter() - begin_s)


def lens_ms(step: Step) -> float:
    """A step without the host's part."""
    return step.total_ms - step.parts_ms.get(Component.HOST, 0.0)


def lenses_read(steps: Sequence[Step], pack: LensPack) -> int:
    """Lenses that were read from disk in these steps."""
    return sum(step.counts.get("bytes read", 0) for step in steps) // first_layer_bytes(pack)


def mean_parts(steps: Sequence[Step]) -> dict[str, float]:
    """By `COLUMNS`, the mean over steps; they sum to the mean of `lens_ms`."""
    parts = dict.fromkeys(COLUMNS, 0.0)
    for step in steps:
        for name, ms in step.parts_ms.items():
            if name != Component.HOST:
                parts[_COLUMN_OF.get(name, "other")] += ms / len(steps)
    return parts


def add_to_digest(digest: "hashlib._Hash", events: Iterable[Event]) -> None:
    """Add the contents of events, the number of their sequence left out: it counts the runs of a monitor."""
    for event in events:
        digest.update(repr(event.content()[1:]).encode())


def largest_difference(found: Sequence[Seen], expected: Sequence[Seen]) -> float:
    """The largest difference of logits, relative to the largest of them or 1; infinite where other sets were opened."""
    if len(found) != len(expected):
        return float("inf")
    largest = 0.0
    for (concepts, logits, cut), (wanted, reference, reference_cut) in zip(found, expected, strict=True):
        if cut != reference_cut or not np.array_equal(concepts, wanted):
            return float("inf")
        if len(logits):
            scale = max(1.0, float(np.abs(reference).max()))
            largest = max(largest, float(np.abs(logits - reference).max()) / scale)
    return largest


def _scaled(parts: dict[str, float], factor: float) -> dict[str, float]:
    return {name: ms * factor for name, ms in parts.items()}
