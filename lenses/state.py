"""The input state of a lens: what is done to a row of hidden states before any lens reads it.

Each row is normalised as the pack says, in fp32, then pooled causally over its own sequence:

    token    s_t = h_t
    ema:a    s_0 = h_0,  s_t = a s_(t-1) + (1 - a) h_t
    ewm:a    s_t = the mean of h_0 .. h_t with weights a^t .. 1: ema:a without its long memory of the first row
    mean     s_t = the mean of h_0 .. h_t

Training, calibration and serving all come through here, so a lens meets the same numbers in all three. Arithmetic is
elementwise or a reduction along one row, in numpy, so a row's state does not depend on the batch it came in.
It knows nothing about models: who is padding, BOS or not finite is the caller's to say.

Shapes: D hidden size, T rows of a sequence, B rows of any origin.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenses.config import InputConfig

Floats = NDArray[np.float32]


def normalise(rows_BD: Floats, config: InputConfig) -> Floats:
    """Rows `[B, D]` normalised each by itself in fp32: `none`, `rms` (x / rms) or `layer` ((x - mean) / std)."""
    if config.norm == "none":
        return rows_BD
    if config.norm == "layer":
        rows_BD = rows_BD - rows_BD.mean(axis=1, keepdims=True, dtype=np.float32)
    mean_square = np.mean(np.square(rows_BD), axis=1, keepdims=True, dtype=np.float32)
    return (rows_BD / np.sqrt(mean_square + np.float32(config.eps))).astype(np.float32)


@dataclass(slots=True)
class Pool:
    """The running pool of one sequence (or of a batch that moves in step): feed it rows, it gives input states."""

    config: InputConfig
    count: int = 0
    running: NDArray[np.floating[Any]] | None = field(default=None)
    """[D] (or any shape that rows have); None until the first row."""

    def push(self, row: Floats) -> Floats:
        """Take the next normalised row in and return its input state, of the same shape."""
        self.count += 1
        if (decay := self.config.decay) is not None:
            kept = np.float32(decay)
            if self.config.pooling.startswith("ewm:"):
                # Of the weights so far, 1 + a + .. + a^t, what the rows before this one have.
                kept = np.float32(decay * (1 - decay ** (self.count - 1)) / (1 - decay**self.count))
            fed = row if self.running is None else kept * self.running + (1 - kept) * row
            state: Floats = fed.astype(np.float32)
            self.running = state
            return state
        if self.config.pooling == "mean":
            # The sum is kept in fp64: a mean over thousands of rows must not drift with their number.
            total = row.astype(np.float64) if self.running is None else self.running + row
            self.running = total
            return (total / self.count).astype(np.float32)
        return row


def input_states(rows_TD: Floats, config: InputConfig) -> Floats:
    """Input states `[T, D]` of one sequence's rows `[T, D]`, which must be finite and hold no padding or BOS."""
    pool = Pool(config)
    return np.stack([pool.push(row) for row in normalise(rows_TD, config)])
