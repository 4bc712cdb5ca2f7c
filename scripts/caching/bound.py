"""A hit rate that no order of eviction exceeds on a trace, whatever it knows of the future and whatever the sizes.

Between two calls that want the same family, keeping it saves one read and takes its bytes at every call in between.
Choosing what to keep is a packing problem, NP-hard with unequal sizes; the bound is its Lagrangian dual. For any prices
of a byte, one for each gap between calls, none negative,

    hits <= budget x sum of the prices + sum over all keepings of max(0, 1 - what the keeping costs),

because a feasible choice pays no more than budget x prices for room. Any prices give a true bound; Adam on their
logarithms finds low ones. Bytes that are only passing through during a call are not counted, nor is the order within a
call, so the bound is true of any mechanism. (The relaxation is that of Berger, Beckmann and Harchol-Balter, "Practical
bounds on optimal caching with variable object sizes" (2018); they solve it as a flow.)

Shapes: T calls, K keepings.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from caching.orders import Families
from caching.traces import Step, flat
from runtime.events import Phase

ITERATIONS = 300
_RATE = 0.1


def most_hits(
    steps: Sequence[Step],
    families: Families,
    budget_bytes: int,
    phase: Phase,
    *,
    iterations: int = ITERATIONS,
) -> float:
    """An upper bound on the hit rate of the requests of a phase."""
    calls = flat(steps)
    last: dict[int, int] = {}
    keepings: list[tuple[int, int, float]] = []
    requests = free = 0
    for at, (asked_in, call) in enumerate(calls):
        for family, count in zip(call.families, call.counts, strict=True):
            if asked_in == phase:
                requests += count
                free += count - 1
                if family in last:
                    keepings.append((last[family], at, families.bytes_F[family] / budget_bytes))
            last[family] = at
    if not requests:
        return 1.0
    if not keepings:
        return free / requests
    start_K, end_K, share_K = (np.array(column) for column in zip(*keepings, strict=True))
    return (free + _least(start_K, end_K, share_K, len(calls), iterations)) / requests


def _least(
    start_K: NDArray[np.int64],
    end_K: NDArray[np.int64],
    share_K: NDArray[np.float64],
    gaps: int,
    iterations: int,
) -> float:
    """The lowest bound on keepings that was found; shares are of the budget."""

    def bound(price_T: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        paid_T = np.concatenate([[0.0], np.cumsum(price_T)])
        gain_K = 1 - share_K * (paid_T[end_K] - paid_T[start_K])
        kept_K = gain_K > 0
        begun_T = np.bincount(start_K[kept_K], share_K[kept_K], gaps + 1)
        ended_T = np.bincount(end_K[kept_K], share_K[kept_K], gaps + 1)
        slope_T = 1 - np.cumsum(begun_T - ended_T)[:gaps]
        return float(price_T.sum() + gain_K[kept_K].sum()), slope_T

    flat_prices = [np.full(gaps, price) for price in np.geomspace(1e-4, 1e2, 61)]
    price_T = min(flat_prices, key=lambda prices: bound(prices)[0])
    least = min(float(len(start_K)), bound(price_T)[0])  # at no price all is kept
    log_T, mean_T, square_T = np.log(price_T), np.zeros(gaps), np.zeros(gaps)
    for step in range(1, iterations + 1):
        found, slope_T = bound(np.exp(log_T))
        least = min(least, found)
        slope_T = slope_T * np.exp(log_T)
        mean_T = 0.9 * mean_T + 0.1 * slope_T
        square_T = 0.99 * square_T + 0.01 * slope_T**2
        rate = _RATE * (1 - (step - 1) / iterations)
        log_T -= rate * (mean_T / (1 - 0.9**step)) / (np.sqrt(square_T / (1 - 0.99**step)) + 1e-9)
    return least
