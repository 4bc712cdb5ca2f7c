"""Whether a cost grows from turn to turn: a line through repeats that took the same turns. Knows numbers only.

Least squares through all repeats, each of which is a cluster of its own: the interval is of repeats drawn anew with
replacement, because turns of one repeat are alike. All repeats have all turns, so the line's slope is the mean of the
repeats' own.

Shapes: R repeats, T turns.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from measuring.comparing import draws, interval

from lenses.errors import ConfigError
from lenses.metrics import Estimate


@dataclass(frozen=True, slots=True)
class Trend:
    """How a cost goes with the turn."""

    slope: Estimate
    """A turn more."""
    change: Estimate
    """From the first turn to the last on the line, as a share of the mean cost: 0.1 is a tenth dearer."""

    def to_json(self) -> dict[str, object]:
        """As one JSON object."""
        return {"slope": self.slope, "change": self.change}


def trend(cost_RT: Sequence[Sequence[float]], *, seed: int = 0) -> Trend:
    """The line with its 95 % intervals; raises ConfigError for fewer than two turns, or none."""
    found_RT = np.asarray(cost_RT, np.float64)
    if found_RT.ndim != 2 or not len(found_RT) or found_RT.shape[1] < 2:
        raise ConfigError(
            "no repeat of two turns or more is left whose contents agree: nothing can be said of a trend"
        )
    turns = found_RT.shape[1]
    centred_T = np.arange(turns) - (turns - 1) / 2
    slope_R = found_RT @ centred_T / np.square(centred_T).sum()
    mean_R = found_RT.mean(axis=1)
    slope, mean = float(slope_R.mean()), float(mean_R.mean())
    drawn = draws(len(found_RT), seed)
    slope_W, mean_W = slope_R[drawn].mean(axis=1), mean_R[drawn].mean(axis=1)
    steps = turns - 1
    return Trend(
        interval(slope, slope_W),
        interval(slope * steps / mean, slope_W * steps / mean_W),
    )
