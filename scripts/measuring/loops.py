"""Two loops that run without the interpreter: one that reads memory and does little else, one that only computes.

Knows arrays only. Shape: W words.
"""

from typing import Any

import numpy as np
from numba import njit

__all__ = ["spin", "sum_words"]


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def sum_words(words_W: Any) -> Any:
    """The sum of some uint64 modulo 2^64: every byte is read once, and the sum shows that it was.

    At four places at once: a single run through memory leaves a core waiting between its reads, and was measured to be
    up to a third slower.
    """
    quarter = words_W.shape[0] // 4
    a = b = c = d = np.uint64(0)
    for at in range(quarter):
        a += words_W[at]
        b += words_W[quarter + at]
        c += words_W[2 * quarter + at]
        d += words_W[3 * quarter + at]
    for at in range(4 * quarter, words_W.shape[0]):
        a += words_W[at]
    return a + b + c + d


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def spin(steps: int) -> Any:
    """So many steps of a generator of random numbers: each needs the one before, so none can be left out."""
    state = np.uint64(88172645463325252)
    for _ in range(steps):
        state ^= state << np.uint64(13)
        state ^= state >> np.uint64(7)
        state ^= state << np.uint64(17)
    return state
