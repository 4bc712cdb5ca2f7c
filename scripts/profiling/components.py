"""The component table: what each component takes of a step, the bytes it moves, their memory floor; and child loading.

Shapes: S steps of one phase.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from measuring.samples import Summary

from profiling.runs import Run
from profiling.traffic import TIERS, Sizes, moved_bytes
from runtime.clock import Component, Step

Record = dict[str, Any]
REMAINDER = "seen by no component"
PHASES = ("prompt", "generation")


def steps_of(runs: Sequence[Run], phase: str) -> list[Step]:
    """The steps of one phase, of all runs."""
    return [step for run in runs for step in run.steps if step.name == phase]


def component_table(
    runs: Sequence[Run], phase: str, sizes: Sizes, floor_ms: Callable[[int], float]
) -> Record:
    """Rows of all components that ran, in the order of a step, the remainder last, and the whole.

    The whole is what the token times say, measured apart: the first token, or all others and the ending. It sees what
    happens before the first step and after the last, which no component does.
    """
    steps = steps_of(runs, phase)
    whole_ms = sum(
        float(run.token_ms[0]) if phase == "prompt" else float(run.token_ms[1:].sum()) + run.ending_ms
        for run in runs
    ) / len(steps)
    rows = [
        _row(component, steps, sizes, floor_ms, whole_ms)
        for component in Component
        if any(component in step.parts_ms for step in steps)
    ]
    parts_ms = sum(row["mean_ms"] for row in rows)
    return {
        "steps": len(steps),
        "whole_ms": whole_ms,
        "step_ms": Summary.of([step.total_ms for step in steps]).to_json(),
        "lens_ms": Summary.of([lens_ms(step) for step in steps]).to_json(),
        "rows": rows,
        "remainder_ms": whole_ms - parts_ms,
        "remainder_share": (whole_ms - parts_ms) / whole_ms,
        "largest_gap": max(abs(sum(step.parts_ms.values()) / step.total_ms - 1) for step in steps),
        "floor_ms": sum(row["floor_ms"] or 0.0 for row in rows),
        "scored": {
            "base lenses": _mean([step.counts.get("base passes", 0) * sizes.base_lenses for step in steps]),
            "families": _mean(
                [sum(step.counts.get(f"families {tier}", 0) for tier in TIERS) for step in steps]
            ),
            "lenses": _mean([sum(step.counts.get(f"lenses {tier}", 0) for tier in TIERS) for step in steps]),
        },
        "loading": _loading(steps, sizes),
    }


def lens_ms(step: Step) -> float:
    """All of a step but the host."""
    return sum(ms for name, ms in step.parts_ms.items() if name != Component.HOST)


def _row(
    component: Component,
    steps: Sequence[Step],
    sizes: Sizes,
    floor_ms: Callable[[int], float],
    whole_ms: float,
) -> Record:
    ms = Summary.of([step.parts_ms.get(component, 0.0) for step in steps])
    moved = _mean([moved_bytes(step, sizes).get(component, 0) for step in steps])
    floor = floor_ms(round(moved)) if moved else None
    device_ms = [step.device_ms() for step in steps]
    return {
        "component": component.value,
        "mean_ms": ms.mean,
        "median_ms": ms.median,
        "p95_ms": ms.p95,
        "share": ms.mean / whole_ms,
        "moved_bytes": moved,
        "floor_ms": floor,
        "times_floor": ms.mean / floor if floor else None,
        "device_ms": _mean([found.get(component, 0.0) for found in device_ms]) if any(device_ms) else None,
    }


def _loading(steps: Sequence[Step], sizes: Sizes) -> list[Record]:
    """Where the families that were scored came from, a step: a row each for hot, warm and cold, and read ahead.

    Finding and pinning a hot one is cache management, and on a CPU so is warm to hot, which moves a reference.
    """
    component = {"hot": None, "warm": Component.WARM, "cold": Component.COLD}
    rows = []
    for tier, charged in component.items():
        lenses = _mean([step.counts.get(f"lenses {tier}", 0) for step in steps])
        families = _mean([step.counts.get(f"families {tier}", 0) for step in steps])
        rows.append(_loaded(tier, charged, families, lenses, lenses * sizes.first_bytes, steps))
    size = _mean([step.counts.get("bytes prefetched", 0) for step in steps])
    families = _mean([step.counts.get("families prefetched", 0) for step in steps])
    rows.append(_loaded("read ahead", Component.PREWARM, families, size / sizes.first_bytes, size, steps))
    return rows


def _loaded(
    origin: str, charged: Component | None, families: float, lenses: float, size: float, steps: Sequence[Step]
) -> Record:
    ran = charged is not None and any(charged in step.parts_ms for step in steps)
    ms = _mean([step.parts_ms.get(charged or "", 0.0) for step in steps]) if ran else None
    return {
        "origin": origin,
        "families": families,
        "lenses": lenses,
        "bytes": size,
        "ms": ms,
        "ms_a_lens": ms / lenses if ms and lenses else None,
    }


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
