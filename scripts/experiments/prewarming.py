"""Cold starts with pre-warming and without: whole generations from nothing, and replays that count.

A cold run drops the pack's files from the page cache, opens the pack anew (so that its bytes are checked again), makes
a monitor and generates. Times are from the opening of the pack on: start, prompt, first token and loading are in them.
A greedy run of 50 tokens is the beginning of one of 200, so one run tells of all shorter lengths.

Variants of one round are of the same text, so they are compared in pairs, a pair a text and round.

Shapes: R pairs, G generated tokens.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
from measuring.comparing import ALPHA, draws, holm, interval, median_difference, signed_rank_p
from measuring.disk import evict
from measuring.floor import MemoryFloor
from measuring.rounds import Variant, alternate
from measuring.samples import Summary
from profiling.runs import Differs, Run, Task, check_same, generate
from rich.progress import Progress

from experiments.recording import Recording
from experiments.replay import Replayed, lens_ms, lenses_read, mean_parts, started_ms
from experiments.rows import row
from experiments.subject import Subject, pack_files, smallest_hot_bytes
from experiments.trials import Bench, Watched
from lenses.metrics import Doubles, Estimate
from lenses.pack import LensPack
from runtime.clock import Clock, Step
from runtime.config import MonitorConfig
from runtime.monitor import Monitor

LENGTHS = (10, 50, 200)
BARE = "no lenses"

Record = dict[str, Any]


def name_of(prewarm: bool, cache: bool, events: str) -> str:
    """How a variant is called."""
    switches = [
        f"{name} {'on' if on else 'off'}" for name, on in (("pre-warming", prewarm), ("cache", cache))
    ]
    return f"{', '.join(switches)}, prompt events {events}"


def contexts() -> Iterator[tuple[bool, str]]:
    """What pre-warming is crossed with: the cache on or off, prompt events full or off."""
    return itertools.product((True, False), ("full", "off"))


def trials(pack: LensPack, load_threshold: float | None) -> list[Watched]:
    """The eight monitors; the cache is off with the smallest hot budget and no warm tier."""
    off = {"hot_budget_bytes": smallest_hot_bytes(pack, pack.config.base_levels), "warm_budget_bytes": 0}
    return [
        Watched(
            name_of(prewarm, cache, events),
            {"load_threshold": load_threshold, "prompt_events": events, "prewarm": prewarm}
            | ({} if cache else off),
            reopens=True,
        )
        for cache, events in contexts()
        for prewarm in (True, False)
    ]


@dataclass(frozen=True, slots=True)
class Cold:
    """One whole generation from nothing."""

    start_ms: float
    """Opening the pack, making the monitor; 0 for the host alone."""
    run: Run

    def until_ms(self, tokens: int) -> float:
        """From the opening of the pack to the token of this number."""
        return self.start_ms + float(self.run.token_ms[:tokens].sum())

    def is_so_long(self, tokens: int) -> bool:
        """Whether it has so many tokens."""
        return len(self.run.token_ms) >= tokens

    def steps(self, phase: str) -> list[Step]:
        """The clock's steps of a phase; none for the host alone."""
        return [step for step in self.run.steps if step.name == phase]


@dataclass(slots=True)
class Pairs:
    """Cold runs of every variant, by pair."""

    runs: dict[str, list[Cold]]
    first: dict[object, Run] = field(default_factory=dict)
    """What the first run of a text wrote, and what the first of a kind saw in it."""

    def until_ms(self, name: str, tokens: int) -> Doubles:
        """[R] the times to the token of this number, of the runs that are so long."""
        return np.array([cold.until_ms(tokens) for cold in self.runs[name] if cold.is_so_long(tokens)])

    def keep(self, name: str, task: Task, kind: object, cold: Cold) -> None:
        """Keep one run; raises Differs unless it wrote and saw what the others of its text did."""
        written = replace(cold.run, contents=None)
        check_same(name, written, self.first.setdefault(task, written))
        if cold.run.contents is not None:
            check_same(name, cold.run, self.first.setdefault((task, kind), cold.run))
        self.runs[name].append(cold)


def cold_generations(
    subject: Subject,
    watched: Sequence[Watched],
    prompts: Sequence[str],
    *,
    round_tokens: Sequence[int],
    seed: int,
    progress: Progress,
) -> Pairs:
    """Every variant and the host alone on every text, as often and as long as `round_tokens` says."""
    pairs = Pairs({name: [] for name in (BARE, *(trial.name for trial in watched))})
    bar = progress.add_task("cold generations", total=len(prompts) * len(round_tokens))
    for number, tokens in enumerate(round_tokens):
        for prompt in prompts:
            task = Task(prompt, tokens)
            variants = [
                Variant(
                    BARE,
                    lambda task=task: Cold(0.0, generate(subject.host, task)),  # type: ignore[misc]
                    check=partial(pairs.keep, BARE, task, None),
                )
            ]
            variants += [
                Variant(
                    trial.name,
                    partial(_cold, subject, trial, task),
                    prepare=partial(forget, subject.pack),
                    check=partial(pairs.keep, trial.name, task, trial.settings["prompt_events"]),
                )
                for trial in watched
            ]
            # A round of its own, in an order of its own: the next pair is of another text.
            alternate(variants, rounds=1, warm_up=0, seed=seed + 1000 * number + prompts.index(prompt))
            progress.advance(bar)
    return pairs


def cold_rows(pairs: Pairs, pack: LensPack) -> list[Record]:
    """A row a variant: start, prompt, first token, what a generated token takes, totals by length."""
    found = []
    for name, runs in pairs.runs.items():
        prompts = [step for cold in runs for step in cold.steps("prompt")]
        generated = [step for cold in runs for step in cold.steps("generation")]
        totals = {length: pairs.until_ms(name, length) for length in LENGTHS}
        record: Record = {
            "name": name,
            "runs": len(runs),
            "start_ms": Summary.of([cold.start_ms for cold in runs]).to_json(),
            "first_token_ms": Summary.of([cold.until_ms(1) for cold in runs]).to_json(),
            "until_ms": {
                str(length): Summary.of(ms_R).to_json() for length, ms_R in totals.items() if len(ms_R)
            },
        }
        if generated:
            record |= {
                "lenses_until_ms": {
                    str(length): float(
                        np.mean([_lenses_until_ms(cold, length) for cold in runs if cold.is_so_long(length)])
                    )
                    for length in LENGTHS
                    if len(totals[length])
                },
                "prompt_ms": Summary.of([lens_ms(step) for step in prompts]).to_json(),
                "prompt_parts_ms": mean_parts(prompts),
                "prompt_loaded": lenses_read(prompts, pack) / len(runs),
                "token_ms": Summary.of([lens_ms(step) for step in generated]).to_json(),
                "parts_ms": mean_parts(generated),
                "children_loaded": lenses_read(generated, pack) / len(generated),
            }
        found.append(record)
    return found


def compared(pairs: Pairs) -> list[Record]:
    """Pre-warming on against off, in each context and at each length; p after Holm's correction over contexts."""
    found = []
    for length in LENGTHS:
        tests: list[Record] = []
        p_values: list[float] = []
        for cache, events in contexts():
            on_R, off_R = (
                pairs.until_ms(name_of(prewarm, cache, events), length) for prewarm in (True, False)
            )
            if not len(on_R):
                continue
            share, difference = _paired_ratio(on_R, off_R), median_difference(on_R, off_R)
            p_values.append(signed_rank_p(on_R - off_R))
            tests.append(
                {
                    "length": length,
                    "cache": cache,
                    "prompt_events": events,
                    "pairs": len(on_R),
                    "ratio": [share.value, share.low, share.high],
                    "difference_ms": [difference.value, difference.low, difference.high],
                }
            )
        for test, p, p_holm in zip(tests, p_values, holm(p_values), strict=True):
            faster = test["difference_ms"][0] < 0
            outcome = ("win" if faster else "regression") if p_holm <= ALPHA else "noise"
            found.append(test | {"p": p, "p_holm": p_holm, "outcome": outcome})
    return found


def replayed(
    subject: Subject,
    recordings: Sequence[Recording],
    watched: Sequence[Watched],
    *,
    rounds: int,
    seed: int,
    progress: Progress,
    floor: MemoryFloor,
) -> list[Record]:
    """The same variants without the host, each text from a cold start of its own: means over texts and rounds."""
    runs: dict[str, list[Replayed]] = {trial.name: [] for trial in watched}
    for number, recording in enumerate(recordings):
        bench = Bench(subject, [recording], subject.pack.path)
        bench.prepare(watched, progress)
        found = bench.measure(
            watched,
            rounds=rounds,
            warm_up=0,
            seed=seed + number,
            title=f"replays of text {number + 1}",
            progress=progress,
            floor=floor,
        )
        for name, some in found.items():
            runs[name] += some
    return [row(name, some, floor) for name, some in runs.items()]


def must_differ(subject: Subject, task: Task, load_threshold: float | None) -> None:
    """The negative control: a walk of width 1 is seen to see something else. Raises Differs."""
    found = []
    for settings in ({"load_threshold": load_threshold}, {"load_threshold": 0.0, "top_k": 1}):
        with Monitor(subject.pack, MonitorConfig(**settings)) as monitor:
            found.append(generate(subject.host, task, monitor).contents)
    if found[0] == found[1]:
        raise Differs("a walk of width 1 gives the same contents: nothing was compared")


def forget(pack: LensPack) -> None:
    """Drop a pack's files from the page cache; raises SourceError where they stay."""
    for path in pack_files(pack):
        evict(path).check()


def _paired_ratio(on_R: Doubles, off_R: Doubles) -> Estimate:
    """The median of the pairs' ratios: texts differ in length, so medians of either side may be of different texts."""
    ratio_R = on_R / off_R
    drawn_W = np.median(ratio_R[draws(len(ratio_R), 0)], axis=1)
    return interval(float(np.median(ratio_R)), drawn_W)


def _lenses_until_ms(cold: Cold, tokens: int) -> float:
    """Lens time after the first token, to the token of this number."""
    return sum(map(lens_ms, cold.steps("generation")[: tokens - 1]))


def _cold(subject: Subject, trial: Watched, task: Task) -> Cold:
    begin_s = perf_counter()
    pack = LensPack.from_pretrained(subject.pack.path)
    with Monitor(pack, MonitorConfig(**trial.settings), clock=Clock()) as monitor:
        start_ms = started_ms(begin_s)
        return Cold(start_ms, generate(subject.host, task, monitor))
