"""A process's resident set over time: samples, growth, a slope with its interval.

Growth is from the median of the second quarter of the samples to that of the last: in the first, caches still fill. The
slope is of all samples behind the first quarter, by least squares; its interval is of blocks of what is left over,
drawn anew, because samples that follow each other are alike.

Shape: S samples.
"""

import asyncio
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
import psutil
from measuring.comparing import DRAWS, interval

from lenses.metrics import Doubles, Estimate

MIB = 2**20
_BLOCKS = 20
_FEWEST = 40
"""Samples that have a slope."""


@dataclass(slots=True)
class Resident:
    """The samples of one process."""

    pid: int
    seconds_S: list[float] = field(default_factory=list)
    mib_S: list[float] = field(default_factory=list)

    def sample(self) -> float:
        """Look now: MiB."""
        mib = float(psutil.Process(self.pid).memory_info().rss) / MIB
        self.seconds_S.append(perf_counter())
        self.mib_S.append(mib)
        return mib

    async def watch(self, every_s: float) -> None:
        """Look again and again, until it is cancelled."""
        while True:
            self.sample()
            await asyncio.sleep(every_s)

    def to_json(self, seed: int) -> dict[str, Any]:
        """What a report says."""
        quarters = np.array_split(np.array(self.mib_S), 4)
        return {
            "samples": len(self.mib_S),
            "first_mib": self.mib_S[0],
            "last_mib": self.mib_S[-1],
            "most_mib": max(self.mib_S),
            "growth_mib": float(np.median(quarters[3]) - np.median(quarters[1])),
            "slope_mib_a_minute": None
            if len(self.mib_S) < _FEWEST
            else slope(np.array(self.seconds_S), np.array(self.mib_S), seed=seed),
        }


def slope(seconds_S: Doubles, mib_S: Doubles, *, seed: int = 0) -> Estimate:
    """MiB a minute behind the first quarter, with its 95 % interval."""
    start = len(mib_S) // 4
    minutes_S, mib_S = (seconds_S[start:] - seconds_S[start]) / 60, mib_S[start:]
    centred_S = minutes_S - minutes_S.mean()
    weight_S = centred_S / np.square(centred_S).sum()
    value = float(weight_S @ mib_S)
    left_S = mib_S - mib_S.mean() - value * centred_S
    size = max(1, len(left_S) // _BLOCKS)
    random = np.random.default_rng(seed)
    starts_WB = random.integers(0, len(left_S) - size + 1, (DRAWS, -(-len(left_S) // size)))
    places_WS = (starts_WB[:, :, None] + np.arange(size)).reshape(DRAWS, -1)[:, : len(left_S)]
    return interval(value, value + left_S[places_WS] @ weight_S)
