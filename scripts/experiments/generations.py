"""Whole generations, with lenses and without, in turns: what a user waits for. All must write the same.

Each watched run has a new monitor whose base is read before the clock starts; the files of the pack are dropped from
the page cache before that. What was seen is compared with the replays' reference: the same rows, the same contents.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from measuring.comparing import median_difference
from measuring.rounds import Variant, alternate
from measuring.samples import Summary
from profiling.runs import Differs, Run, Task, check_same, generate
from rich.progress import Progress

from experiments.replay import lens_ms
from experiments.trials import Bench, Watched
from runtime.clock import Clock
from runtime.config import MonitorConfig
from runtime.monitor import Monitor

BARE = "no lenses"

Record = dict[str, Any]


def generations(
    bench: Bench, task: Task, trials: Sequence[Watched], *, rounds: int, seed: int, progress: Progress
) -> list[Record]:
    """A row for the host alone, and one for each trial; `task` is what the bench's only recording was made of."""
    host, found = bench.subject.host, {name: list[Run]() for name in (BARE, *(t.name for t in trials))}
    bar = progress.add_task("whole generations", total=rounds)
    first: list[Run] = []

    def keep(name: str, digest: str | None, run: Run) -> None:
        first.append(replace(run, contents=None))  # of the same walk or not, all write the same
        check_same(name, run, first[0])
        if digest is not None and run.contents != digest:
            raise Differs(f"{name}: a whole generation and the replay of its rows give other contents")
        found[name].append(run)

    def watched(trial: Watched) -> Run:
        with Monitor(bench.subject.pack, MonitorConfig(**trial.settings), clock=Clock()) as monitor:
            return generate(host, task, monitor)

    variants = [Variant(BARE, partial(generate, host, task), check=partial(keep, BARE, None))]
    variants += [
        Variant(
            trial.name,
            partial(watched, trial),
            prepare=partial(bench.forget, trial),
            check=partial(keep, trial.name, bench.references[trial.kind].digest),
        )
        for trial in trials
    ]
    alternate(variants, rounds=rounds, warm_up=1, seed=seed, between=lambda: progress.advance(bar))
    runs: Mapping[str, Sequence[Run]] = {name: some[-rounds:] for name, some in found.items()}
    return [_row(name, some, runs[BARE]) for name, some in runs.items()]


def _row(name: str, runs: Sequence[Run], bare: Sequence[Run]) -> Record:
    after_R, bare_R = (np.array([run.token_ms[1:].mean() for run in some]) for some in (runs, bare))
    difference = median_difference(after_R, bare_R)
    generated = [step for run in runs for step in run.steps if step.name == "generation"]
    return {
        "name": name,
        "runs": len(runs),
        "token_ms": Summary.of(np.concatenate([run.token_ms[1:] for run in runs])).to_json(),
        "first_token_ms": Summary.of([float(run.token_ms[0]) for run in runs]).to_json(),
        "total_ms": Summary.of([run.total_ms for run in runs]).to_json(),
        "overhead_ms": Summary.of([lens_ms(step) for step in generated]).to_json() if generated else None,
        "more_than_bare_ms": None if name == BARE else [difference.value, difference.low, difference.high],
    }
