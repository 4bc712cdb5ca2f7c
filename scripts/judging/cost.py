"""What scoring a position costs in time, under several configurations on the same states.

Shapes: P positions, D hidden size.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import numpy as np
from measuring.positions import time_positions

from judging.verdicts import Record
from lenses.lens import Floats
from lenses.pack import LensPack
from runtime.config import MonitorConfig
from runtime.engine import Engine
from runtime.training.walks import Point

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
        engines = {str(at): opened.enter_context(Engine(pack, config)) for at, config in enumerate(configs)}
        timed = time_positions(engines, states_PD)
    for name, engine in engines.items():
        yield {
            "exhaustive": engine.config.exhaustive,
            "base_levels": list(engine.base_levels),
            "top_k": engine.expansion.top_k,
            "load_threshold": engine.expansion.load_threshold,
            "share_scored": timed[name].scored / len(pack.hierarchy),
            "milliseconds": {
                "n": len(states_PD),
                "median": float(np.median(timed[name].ms_P)),
                "p95": float(np.quantile(timed[name].ms_P, 0.95)),
            },
        }
