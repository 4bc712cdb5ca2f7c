"""The input states that a run's lenses read, recorded beside the monitor in the same forwards: the same bits.

Shapes: T rows of the run, P rows that are scored, D hidden size.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lenses.config import InputConfig
from lenses.lens import Floats
from lenses.pack import LensPack
from lenses.state import input_states
from profiling.runs import Task, generate
from runtime.blocks import text_config
from runtime.events import Event
from runtime.generate import encode
from runtime.hook import Rows, Tap
from runtime.host import Host
from runtime.monitor import Monitor


@dataclass(frozen=True, slots=True)
class Recorded:
    """What one run gave lenses to read."""

    position_P: NDArray[np.int_]
    """[P] the positions, ascending: all but BOS and rows that are not finite."""
    states_PD: Floats
    events: tuple[Event, ...]
    """What a monitor said of the run; empty where none watched."""


def record(host: Host, task: Task, pack: LensPack, monitor: Monitor | None = None) -> Recorded:
    """Generate as the task says, and keep the input states of every position."""
    rows = Rows()
    with Tap(host.model, pack.config.site, rows):
        generate(host, task, monitor)
    bos = text_config(host.model).bos_token_id
    first = int(encode(host.model, host.tokenizer, task.prompt)["input_ids"][0, 0])
    position_P, states_PD = scored_states(rows.take_BTD()[0], first == bos, pack.config.input)
    return Recorded(position_P, states_PD, () if monitor is None else tuple(monitor.events))


def scored_states(
    rows_TD: Floats, begins_with_bos: bool, config: InputConfig
) -> tuple[NDArray[np.int_], Floats]:
    """Positions and input states of one sequence's rows that are scored."""
    is_scored_T = np.asarray(np.isfinite(rows_TD).all(axis=1))
    is_scored_T[0] &= not begins_with_bos
    return np.flatnonzero(is_scored_T), input_states(rows_TD[is_scored_T], config)
