"""Runs that belong together, two by two: the median of their ratios with an interval. Knows numbers only.

The interval is of pairs drawn anew with replacement. Shape: P pairs.
"""

from collections.abc import Sequence

import numpy as np
from measuring.comparing import draws, interval

from lenses.errors import ConfigError
from lenses.metrics import Doubles, Estimate


def median_ratio(
    numerator_P: Sequence[float] | Doubles, denominator_P: Sequence[float] | Doubles, *, seed: int = 0
) -> Estimate:
    """The median over pairs of numerator / denominator, with its 95 % interval; raises ConfigError without pairs."""
    if not len(numerator_P):
        raise ConfigError("no pair of runs is left whose contents agree: nothing can be said")
    ratio_P: Doubles = np.asarray(numerator_P, np.float64) / np.asarray(denominator_P, np.float64)
    return interval(float(np.median(ratio_P)), np.median(ratio_P[draws(len(ratio_P), seed)], axis=1))


def mean(values: Sequence[float], *, seed: int = 0) -> Estimate:
    """The mean of some runs with its 95 % interval."""
    of_P = np.asarray(values, np.float64)
    return interval(float(of_P.mean()), of_P[draws(len(of_P), seed)].mean(axis=1))
