"""What scoring a position takes: engines with everything hot that take turns, position by position.

Shapes: P positions, D hidden size.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from lenses.lens import Floats
from lenses.metrics import Doubles
from measuring.rounds import collector_off
from runtime.engine import Engine


@dataclass(frozen=True, slots=True)
class Timed:
    """What one engine took, and how much it scored."""

    ms_P: Doubles
    scored: float
    """Lenses a position, on average."""


def time_positions(
    engines: Mapping[str, Engine], states_PD: Floats, between: Callable[[int], object] | None = None
) -> dict[str, Timed]:
    """Score every position alone, all engines at it in an order drawn anew, after one pass that makes families hot.

    `between` is told of each position before it, off the clock.
    """
    for engine in engines.values():
        engine.score(states_PD, "prompt")
    ms = {name: np.zeros(len(states_PD)) for name in engines}
    scored = dict.fromkeys(engines, 0)
    order = np.random.default_rng(0)
    names = list(engines)
    with collector_off():
        for position in range(len(states_PD)):
            if between is not None:
                between(position)
            for name in order.permutation(names).tolist():
                begin = time.perf_counter()
                (found,) = engines[name].score(states_PD[position : position + 1], "generation")
                ms[name][position] = 1e3 * (time.perf_counter() - begin)
                scored[name] += found.coverage.scored
    return {name: Timed(ms[name], scored[name] / len(states_PD)) for name in engines}
