"""The CPU kernel that scores lenses: stored weights in, logits out, one pass over the bytes.

A batch-1 step is bound by memory bandwidth, so the kernel reads each stored row once, as bf16 if it is stored so,
widens it into a buffer that stays in the first-level cache, and takes its dot product with every state there is. The
same dot product serves one state and many: a logit has the same bits whatever batch it was computed in, and however
many threads shared the work, because a lens is never split between threads.

Knows arrays only. Shapes: N lenses, h1 and h2 their widths, D hidden size, B states.
"""

from typing import Any

import numpy as np
from numba import njit, types
from numba.core.errors import NumbaError as CompileError
from numba.extending import overload

__all__ = ["CompileError", "score_linear", "score_mlp"]

# Reassociation is what lets the sum of a dot product run in vector lanes; nothing here depends on NaN or infinity.
FASTMATH = {"reassoc", "contract", "nsz"}


def _widen(stored: Any, row: int, wide: Any) -> None:
    """Copy one stored row into `wide` `[D]` fp32; bf16 arrives as uint16, its upper half."""
    raise AssertionError("compiled only")


@overload(_widen)  # type: ignore[untyped-decorator]
def _widen_compiled(stored: Any, row: Any, wide: Any) -> Any:
    if stored.dtype == types.uint16:

        def bf16(stored: Any, row: Any, wide: Any) -> None:
            bits = wide.view(np.uint32)
            for d in range(stored.shape[1]):
                bits[d] = np.uint32(stored[row, d]) << np.uint32(16)

        return bf16

    def fp32(stored: Any, row: Any, wide: Any) -> None:
        for d in range(stored.shape[1]):
            wide[d] = stored[row, d]

    return fp32


@njit(nogil=True, cache=True, fastmath=FASTMATH)  # type: ignore[untyped-decorator]
def _dot(a: Any, b: Any) -> Any:
    total = np.float32(0)
    for d in range(a.shape[0]):
        total += a[d] * b[d]
    return total


@njit(nogil=True, cache=True, fastmath=FASTMATH)  # type: ignore[untyped-decorator]
def score_linear(stored_ND: Any, bias1_N1: Any, states_BD: Any, out_BN: Any, start: int, stop: int) -> None:
    """Logits of linear lenses start..stop for B states, into their columns of `out_BN`."""
    wide = np.empty(stored_ND.shape[1], np.float32)
    for n in range(start, stop):
        _widen(stored_ND, n, wide)
        for b in range(states_BD.shape[0]):
            out_BN[b, n] = _dot(wide, states_BD[b]) + bias1_N1[n, 0]


@njit(nogil=True, cache=True, fastmath=FASTMATH)  # type: ignore[untyped-decorator]
def score_mlp(
    stored_RD: Any,
    bias1: Any,
    weight2: Any,
    bias2: Any,
    weight3: Any,
    bias3: Any,
    states_BD: Any,
    out_BN: Any,
    start: int,
    stop: int,
) -> None:
    """Logits of mlp lenses start..stop for B states, into their columns of `out_BN`; `stored_RD` is `[N * h1, D]`."""
    n_states = states_BD.shape[0]
    h1, h2 = weight2.shape[2], weight2.shape[1]
    wide = np.empty(stored_RD.shape[1], np.float32)
    hidden = np.empty((n_states, h1), np.float32)
    for n in range(start, stop):
        for unit in range(h1):
            _widen(stored_RD, n * h1 + unit, wide)
            for b in range(n_states):
                hidden[b, unit] = max(_dot(wide, states_BD[b]) + bias1[n, unit], np.float32(0))
        for b in range(n_states):
            logit = bias3[n]
            for unit in range(h2):
                total = _dot(weight2[n, unit], hidden[b]) + bias2[n, unit]
                logit += weight3[n, unit] * max(total, np.float32(0))
            out_BN[b, n] = logit
