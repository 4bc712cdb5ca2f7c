"""What scoring a position costs in time, under several configurations on the same states.

Shapes: P positions, D hidden size.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import numpy as np

from judging.expansion_recall import Point
from judging.verdicts import Record
from lenses.lens import Floats
from lenses.pack import LensPack
from runtime.config import MonitorConfig
from runtime.engine import Engine

TIMED = 300
"""Positions at which scoring is timed, one by one."""


def configuration_of(point: Point) -> MonitorConfig:
    """The configuration of a point of the curve."""
    return MonitorConfig(
        base_levels=point.base_levels, top_k=point.top_k, load_threshold=point.load_threshold
    )


def cost(pack: LensPack, states_PD: Floats, configs: Sequence[MonitorConfig]) -> Iterator[Record]:
    """Milliseconds of scoring one position under each configuration, all families hot; they take turns."""
    with ExitStack() as opened:
        engines = [opened.enter_context(Engine(pack, config)) for config in configs]
        for engine in engines:
            engine.score(states_PD, "prompt")
        ms = np.zeros((len(engines), len(states_PD)))
        scored = np.zeros(len(engines))
        for position in range(len(states_PD)):
            for at, engine in enumerate(engines):
                begin = time.perf_counter()
                (found,) = engine.score(states_PD[position : position + 1], "generation")
                ms[at, position] = 1e3 * (time.perf_counter() - begin)
                scored[at] += found.coverage.scored
    for at, engine in enumerate(engines):
        yield {
            "exhaustive": engine.config.exhaustive,
            "base_levels": list(engine.base_levels),
            "top_k": engine.expansion.top_k,
            "load_threshold": engine.expansion.load_threshold,
            "share_scored": scored[at] / len(states_PD) / len(pack.hierarchy),
            "milliseconds": {
                "n": len(states_PD),
                "median": float(np.median(ms[at])),
                "p95": float(np.quantile(ms[at], 0.95)),
            },
        }
