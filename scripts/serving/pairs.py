"""Runs that belong together, two by two: the median of their ratios with an interval. Knows numbers only.

The interval is of pairs drawn anew with replacement. Shape: P pairs.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from measuring.comparing import draws, interval

from lenses.errors import ConfigError
from lenses.metrics import Doubles, Estimate

Run = TypeVar("Run")


def median_ratio(
    numerator_P: Sequence[float] | Doubles, denominator_P: Sequence[float] | Doubles, *, seed: int = 0
) -> Estimate:
    """The median over pairs of numerator / denominator, with its 95 % interval; raises ConfigError without pairs."""
    if not len(numerator_P):
        raise ConfigError("no pair of runs is left whose contents agree: nothing can be said")
    ratio_P: Doubles = np.asarray(numerator_P, np.float64) / np.asarray(denominator_P, np.float64)
    return interval(float(np.median(ratio_P)), np.median(ratio_P[draws(len(ratio_P), seed)], axis=1))


def median_ratio_of_kept(
    numerator_P: Sequence[Run | None],
    denominator_P: Sequence[Run | None],
    measure: Callable[[Run], float],
    *,
    seed: int = 0,
) -> Estimate | None:
    """`median_ratio` of a measure of runs, over pairs of which neither is void (None); None where no pair is left."""
    both = zip(numerator_P, denominator_P, strict=True)
    kept = [(measure(a), measure(b)) for a, b in both if a is not None and b is not None]
    return median_ratio(*zip(*kept, strict=True), seed=seed) if kept else None


def mean(values: Sequence[float], *, seed: int = 0) -> Estimate:
    """The mean of some runs with its 95 % interval."""
    of_P = np.asarray(values, np.float64)
    return interval(float(of_P.mean()), of_P[draws(len(of_P), seed)].mean(axis=1))
