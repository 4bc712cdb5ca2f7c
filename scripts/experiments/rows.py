"""Runs of a trial as a row of a report: plain numbers, a mean over tokens where parts must add up.

Shapes: R rounds, G generated rows.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from measuring.comparing import ratio, signed_rank_p
from measuring.floor import MemoryFloor
from measuring.samples import Summary

from experiments.replay import COLUMNS, Replayed
from lenses.metrics import Doubles

Record = dict[str, Any]


def rows(
    runs: Mapping[str, Sequence[Replayed]],
    *,
    against: str,
    floor: MemoryFloor,
) -> list[Record]:
    """A row a trial; ratios are to the trial `against`, of the runs' mean time of a token."""
    reference_R = token_ms(runs[against])
    return [
        row(name, found, floor)
        | {"change": None if name == against else change(token_ms(found), reference_R)}
        for name, found in runs.items()
    ]


def row(name: str, runs: Sequence[Replayed], floor: MemoryFloor) -> Record:
    """One trial's numbers. Counts are the same in every run but where reads ahead land in another order: a mean."""
    tokens = len(runs[0].step_ms_G)
    all_ms = np.concatenate([run.step_ms_G for run in runs])

    def mean(value: Callable[[Replayed], float]) -> float:
        return float(np.mean([value(run) for run in runs]))

    return {
        "name": name,
        "runs": len(runs),
        "tokens": tokens,
        "base_lenses": runs[0].base_lenses,
        "token_ms": Summary.of(all_ms).to_json(),
        "first_ten_ms": mean(lambda run: float(run.step_ms_G[:10].mean())),
        "parts_ms": {part: mean(lambda run, part=part: run.parts_ms[part]) for part in COLUMNS},  # type: ignore[misc]
        "children_scored": mean(lambda run: run.children_scored / tokens),
        "children_loaded": mean(lambda run: run.children_loaded / tokens),
        "hit_rate": mean(lambda run: run.hits / run.requests) if runs[0].requests else None,
        "requests": runs[0].requests,
        "prompt_ms": mean(lambda run: run.prompt_ms),
        "prompt_parts_ms": {
            part: mean(lambda run, part=part: run.prompt_parts_ms[part])  # type: ignore[misc]
            for part in COLUMNS
        },
        "prompt_loaded": mean(lambda run: run.prompt_loaded),
        "start_ms": mean(lambda run: run.start_ms),
        "floor_ms": floor.floor_ms(round(mean(lambda run: run.floor_bytes))),
    }


def token_ms(runs: Sequence[Replayed]) -> Doubles:
    """[R] the mean time of a generated row in each run."""
    return np.array([float(run.step_ms_G.mean()) for run in runs])


def change(found_R: Doubles, reference_R: Doubles) -> Record:
    """How two trials that took turns differ: ratio with its interval, and p of the signed ranks of the rounds."""
    estimate = ratio(found_R, reference_R)
    return {
        "ratio": [estimate.value, estimate.low, estimate.high],
        "p": signed_rank_p(found_R - reference_R),
    }
