"""A summary of some numbers, of any unit. Knows nothing about where they come from."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Self

import numpy as np

from lenses.errors import ConfigError
from lenses.metrics import Doubles


@dataclass(frozen=True, slots=True)
class Summary:
    """Some numbers in few. Quantiles are interpolated between neighbours."""

    n: int
    median: float
    mean: float
    std: float
    """Of the sample, with n - 1; 0 for one number."""
    p95: float
    p99: float
    min: float
    max: float
    spread: float
    """From quartile to quartile."""

    @classmethod
    def of(cls, values: Sequence[float] | Doubles) -> Self:
        """The summary of one or more numbers."""
        found = np.asarray(values, dtype=np.float64)
        if found.ndim != 1 or not len(found):
            raise ConfigError(f"a summary of {found.shape} numbers; measure at least once")
        first, median, third, p95, p99 = np.quantile(found, [0.25, 0.5, 0.75, 0.95, 0.99]).tolist()
        return cls(
            n=len(found),
            median=median,
            mean=float(found.mean()),
            std=float(found.std(ddof=1)) if len(found) > 1 else 0.0,
            p95=p95,
            p99=p99,
            min=float(found.min()),
            max=float(found.max()),
            spread=third - first,
        )

    def to_json(self) -> dict[str, float]:
        """As one JSON object."""
        return asdict(self)
