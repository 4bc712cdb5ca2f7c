"""A generation as a monitor is told of it, without a host: rows, tokens and mask of every forward, made from a seed."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from runtime.events import Event
from runtime.hook import Forward
from runtime.monitor import Monitor
from runtime.plan import GenerationPlan

EOS = 1


@dataclass
class Fed:
    """What a host with `B` sequences would feed: a prompt of `prompt` columns, then one column a step."""

    rows_BTD: torch.Tensor
    token_BT: np.ndarray
    """One more column than rows: the last tokens are written and never read."""
    mask_BT: np.ndarray
    prompt: int
    finish: dict[int, int] = field(default_factory=dict)
    """Step to the sequence that is finished before it."""

    @property
    def steps(self) -> int:
        """Steps of generation."""
        return self.rows_BTD.shape[1] - self.prompt


def fed(
    *,
    seed: int,
    sequences: int,
    prompt: int,
    steps: int,
    hidden_size: int,
    ends: tuple[int, ...] = (),
    not_finite: int = 0,
    finish: dict[int, int] | None = None,
) -> Fed:
    """Random rows and tokens; sequence b writes EOS at step `ends[b]`, where there is one, and padding afterwards."""
    rng = np.random.default_rng(seed)
    columns = prompt + steps
    rows = rng.normal(size=(sequences, columns, hidden_size)).astype(np.float32)
    for _ in range(not_finite):
        rows[rng.integers(sequences), rng.integers(columns), rng.integers(hidden_size)] = np.nan
    tokens = rng.integers(5, 60, size=(sequences, columns + 1))
    mask = np.ones((sequences, columns), np.bool_)
    for b in range(sequences):
        mask[b, : rng.integers(0, prompt)] = False
    for b, end in enumerate(ends):
        tokens[b, prompt + end :] = EOS
    return Fed(torch.from_numpy(rows), tokens, mask, prompt, finish or {})


def play(
    monitor: Monitor, told: Fed, before_step: Callable[[int], object] = lambda step: None
) -> list[Event]:
    """What the hook tells a monitor in `generate`; returns all events in the order in which they were emitted."""
    events: list[Event] = []
    unsubscribe = monitor.subscribe(events.append)
    monitor.expect(GenerationPlan(told.token_BT[:, : told.prompt], (EOS,)))
    start = 0
    for step, stop in enumerate(range(told.prompt, told.rows_BTD.shape[1] + 1)):
        before_step(step)
        if step in told.finish:
            monitor.finish(told.finish[step])
        tokens, mask = told.token_BT[:, start:stop], told.mask_BT[:, start:stop]
        monitor.tokens_fed(tokens, mask, step == 0)
        rows = told.rows_BTD[:, start:stop].clone()
        monitor.observe(Forward(rows, tokens, mask, step == 0))
        rows.fill_(7.0)  # the memory is the host's own, and it goes on using it
        start = stop
    monitor.finish_run(told.token_BT)
    monitor.expect(None)
    unsubscribe()
    return events
