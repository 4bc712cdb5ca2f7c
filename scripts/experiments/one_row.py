"""One row at a time, everything hot: a monitor fed as the hook feeds it, beside the baseline.

The walk's threshold is set so that a token opens about as many children as the reference's did.

A run is a token. It is timed whole, with all that a monitor does of it; the parts come from the monitor's clock. In one
round every variant has the same row: a recording's generated rows go round as one long sequence.

Shapes: R rounds, G rows of generation, D hidden size.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from baseline.files import export_baseline, families_scored
from baseline.system import OneAtATime, Scored
from measuring.floor import MemoryFloor
from measuring.rounds import Variant
from measuring.turns import turns
from rich.progress import Progress
from synthetic.scaling import opened_by_walk

from experiments.recording import Recording
from experiments.replay import Seen, lenses_read, play
from experiments.subject import fp32_lens_bytes, lens_bytes, shared_bytes
from experiments.timings import against, all_hot, check_close, check_control, lenses_of, timing
from experiments.trials import BASELINE_AGREES, OFF_BY
from lenses.lens import Floats
from lenses.pack import LensPack
from runtime.clock import Clock, Component, Step
from runtime.hook import Forward
from runtime.host import Host
from runtime.monitor import Monitor
from runtime.training.served import score_all

CACHED, ALL = "one at a time, cache of 500", "one at a time, all in memory"
_MODULES = {CACHED: 500, ALL: 1_000_000}
"""Modules that the baseline may hold: as the reference had it, and as many as it meets."""

CHILDREN = 50
"""Lenses below the base that a token is to open, about."""
THRESHOLDS = tuple(percent / 100 for percent in range(5, 96))

_SCORING = (Component.DETECTION, Component.CHILDREN)
_ENGINE = (*_SCORING, Component.EXPANSION, Component.CACHE, Component.COLD, Component.WARM)

Record = dict[str, Any]


def going_round(recording: Recording, rows: int) -> Recording:
    """The prompt, then its generated rows over and over until there are so many: one long sequence."""
    order = np.arange(rows) % recording.generated_rows + recording.prompt
    order = np.concatenate([np.arange(recording.prompt), order])
    token_T = np.append(recording.token_T[order], recording.token_T[-1])
    return replace(recording, token_T=token_T, rows_TD=recording.rows_TD[torch.from_numpy(order)])


def threshold_for(pack: LensPack, states_GD: Floats, children: int, progress: Progress) -> float:
    """Of `THRESHOLDS`, that at which the pack's walk opens nearest to so many children at these states."""
    logits_GN = score_all(pack, states_GD, progress)

    def off(threshold: float) -> float:
        opened = opened_by_walk(
            pack.hierarchy,
            pack.heads,
            logits_GN,
            base_levels=pack.config.base_levels,
            top_k=pack.config.top_k,
            load_threshold=threshold,
        )
        return abs(opened.children - children)

    return min(THRESHOLDS, key=off)


class Stepper:
    """Feeds a monitor one generated row a call; all that it will want is hot before the first."""

    def __init__(self, pack: LensPack, host: Host, recording: Recording, load_threshold: float) -> None:
        self.pack = pack
        self.monitor = Monitor(pack, all_hot(pack, load_threshold=load_threshold), clock=Clock())
        play(self.monitor, host, recording)
        self.monitor.events.clear()
        self._recording, self._next = recording, recording.prompt
        self._feed(0, recording.prompt)

    def step(self) -> None:
        """One token."""
        self._feed(self._next, self._next + 1)
        self._next += 1

    def finish(self, rounds: int) -> tuple[list[Step], list[Seen]]:
        """The clock's steps of the last rounds, and what was seen in them; the monitor is closed."""
        self.monitor.finish_run(None)
        self.monitor.close()
        events = [event for event in self.monitor.events if event.phase == "generation"][-rounds:]
        found = [(event.scored, event.logits, event.coverage.cut) for event in events]
        return self.monitor.clock.steps[-rounds:], found

    def _feed(self, start: int, stop: int) -> None:
        tokens, mask = self._recording.token_T[None, start:stop], np.ones((1, stop - start), np.bool_)
        self.monitor.tokens_fed(tokens, mask, start == 0)
        rows_BTD = self._recording.rows_TD[None, start:stop]
        self.monitor.observe(Forward(rows_BTD, tokens, mask, start == 0))


@dataclass(slots=True)
class Single:
    """The baseline's turns: the same states, one a call."""

    system: OneAtATime
    states_GD: Floats
    scored: list[Scored]

    def step(self) -> Scored:
        """One token."""
        at = len(self.scored)
        return self.system.score(self.states_GD[at : at + 1])


def one_row(
    packs: dict[str, LensPack],
    host: Host,
    recording: Recording,
    files: Path,
    *,
    load_threshold: float,
    rounds: int,
    warm_up: int,
    seed: int,
    progress: Progress,
    floor: MemoryFloor,
) -> list[Record]:
    """A row a variant: a monitor on each pack, the first twice; the baseline on the first. Raises Differs."""
    first, pack = next(iter(packs.items()))
    told = going_round(recording, rounds + warm_up)
    _, states_GD = told.states(pack.config.input)
    config = all_hot(pack, load_threshold=load_threshold)
    export_baseline(pack, files, families=families_scored(pack, config, states_GD))
    steppers = {name: Stepper(one, host, told, load_threshold) for name, one in packs.items()}
    steppers[f"{first} (again)"] = Stepper(pack, host, told, load_threshold)
    singles = {}
    for name, modules in _MODULES.items():
        system = OneAtATime(pack, files, config, max_loaded_lenses=modules)
        system.score(states_GD)  # loads what it may keep
        singles[name] = Single(system, states_GD, [])
    variants = [Variant(name, stepper.step) for name, stepper in steppers.items()]
    variants += [Variant(name, one.step, check=one.scored.append) for name, one in singles.items()]
    found = turns(
        variants,
        rounds=rounds,
        warm_up=warm_up,
        seed=seed,
        title="one row",
        progress=progress,
        floor=floor,
    )
    expected: list[Seen] = []
    rows: list[Record] = []
    for name, stepper in steppers.items():
        steps, got = stepper.finish(rounds)
        expected = expected or got
        if stepper.pack is pack:
            check_close(name, got, expected, 0.0)
        size = lenses_of(got) * lens_bytes(stepper.pack) + shared_bytes(stepper.pack)
        rows.append(
            {
                "name": name,
                "lenses": lenses_of(got),
                "loaded": lenses_read(steps, stepper.pack) / rounds,
                "whole": timing(found[name], size, floor),
                "engine": timing([_sum(step, _ENGINE) for step in steps], size, floor),
                "scoring": timing([_sum(step, _SCORING) for step in steps], size, floor),
                "parts_ms": {
                    part: float(np.mean([step.parts_ms.get(part, 0.0) for step in steps]))
                    for part in Component
                    if part != Component.HOST
                },
                **against(found, name, first),
            }
        )
    check_control(expected, OFF_BY)
    for name, one in singles.items():
        last = one.scored[-rounds:]
        got = [(c.concepts, c.logits, c.cut) for scored in last for c in scored.contents]
        check_close(name, got, expected, BASELINE_AGREES)
        size = lenses_of(got) * fp32_lens_bytes(pack)
        scoring = [s.component_ms["initial_detection"] + s.component_ms["child_detection"] for s in last]
        rows.append(
            {
                "name": name,
                "lenses": lenses_of(got),
                "loaded": sum(scored.loaded for scored in last) / rounds,
                "whole": timing(found[name], size, floor),
                "engine": None,
                "scoring": timing(scoring, size, floor),
                "parts_ms": None,
                **against(found, name, first),
            }
        )
    return rows


def _sum(step: Step, parts: tuple[Component, ...]) -> float:
    return sum(step.parts_ms.get(part, 0.0) for part in parts)
