"""Rows on their way from the host to their events: each row, its sequence, and the memory of those not read yet.

A row is *read* when it was copied from the host's device and scored, and *closed* when it is known which token followed
it; then it has its event. Knows nothing about scoring, or when to read.

Shapes: B sequences of the running batch, T columns of a forward, D hidden size, R rows.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from lenses.state import Floats, Pool
from runtime.events import Phase, Score, State
from runtime.rules import Met, Runs
from runtime.walk import Scores, Walk


@dataclass(slots=True, eq=False)
class Row:
    """One position between being seen and being emitted."""

    sequence: "Sequence"
    position: int
    phase: Phase
    token: int
    state: State
    """`ok` may yet turn out to be `non_finite` when the row is read."""
    predicts: bool = True
    """Whether the token that follows is generated: else it is the prompt's."""
    is_wanted: bool = True
    """Whether it is to be scored; else it is in its sequence's pool and nothing more."""
    scores: Scores | None = None
    walk: Walk | None = None
    """The walk behind `scores`, while it waits for families."""
    asked: tuple[Score, ...] = ()
    met: tuple[Met, ...] = ()
    step_ms: float = 0.0
    next_token: int | None = None
    is_read: bool = False
    is_closed: bool = False
    is_emitted: bool = False


@dataclass(slots=True, eq=False)
class Sequence:
    """One sequence of the running batch."""

    number: int
    pool: Pool
    runs: Runs
    asked_A: NDArray[np.int32]
    """[A] concepts that are scored at each of its rows, beside the walk."""
    rules_at: list[int]
    """Where among these each rule's concept is."""
    length: int = 0
    fed: int = 0
    """Columns of the batch that have gone by, padding included."""
    ended: bool = False
    is_stopped: bool = False
    """A rule has said that it is to end with the token that follows its last row."""
    last: Row | None = None
    """The row whose next token is not known yet."""


@dataclass(slots=True)
class UnreadRows:
    """Rows of some forwards of one batch, in the order in which they came, and where their states are."""

    columns: int = 0
    """Columns of the batch that these forwards had."""
    _states: list[torch.Tensor] = field(default_factory=list)
    _rows: list[Row] = field(default_factory=list)
    _at: list[tuple[int, int]] = field(default_factory=list)
    """Sequence and column of each row."""

    def add(self, states_BTD: torch.Tensor, rows: list[Row], at: list[tuple[int, int]]) -> None:
        """Add the rows of one forward; `at` says in which sequence and column of it each is."""
        self._states.append(states_BTD)
        self._rows += rows
        self._at += [(b, self.columns + t) for b, t in at]
        self.columns += states_BTD.shape[1]

    def take(self) -> tuple[list[Row], Floats]:
        """All rows and their hidden states `[R, D]` in fp32 on the host; none is left."""
        rows, at = self._rows, np.array(self._at, np.intp).reshape(-1, 2)
        states_BTD = self._states[0] if len(self._states) == 1 else torch.cat(self._states, dim=1)
        self.columns, self._states, self._rows, self._at = 0, [], [], []
        on_host_BTD = states_BTD.to(device="cpu", dtype=torch.float32).numpy()  # the device-to-host copy
        return rows, on_host_BTD[at[:, 0], at[:, 1]]
