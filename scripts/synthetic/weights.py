"""Random lenses: first layers that are drawn a family at a time whenever they are asked for, and heads.

Weights are uniform, with variances that keep the numbers between layers near 1. A lens may have a LayerNorm of its own
before its first layer; its gain and bias are folded into that layer (`lenses.fold`), as they are when a real lens is
packed.

Nothing is trained and nothing is calibrated. Knows nothing about hosts or how often a lens should be active.

Shapes: N lenses, F lenses of one family, D hidden size, C columns of a first layer (D, or R of compact lenses), h1 and
h2 the widths of the hidden layers, R rows of the projection that compact lenses share.
"""

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from lenses.concept import Hierarchy
from lenses.config import LensConfig
from lenses.fold import fold_layer_norm
from lenses.lens import Floats, Heads

_SMALL = 0.1
"""Standard deviation of biases, and of what a LayerNorm's gain and bias differ from 1 and 0 by."""


@dataclass(frozen=True, slots=True)
class FirstLayers(Sequence[torch.Tensor]):
    """First layers of all families, `[F * h1, C]` fp32, each made anew from its seed when it is asked for."""

    hierarchy: Hierarchy
    h1: int
    columns: int
    """C"""
    seed: int
    own_norm: bool = False
    """Each lens has a LayerNorm of its own, folded."""
    progress: Callable[[], object] = field(default=lambda: None)
    """Called when a family is made."""

    def __len__(self) -> int:
        return len(self.hierarchy.families)

    def __getitem__(self, family: int) -> torch.Tensor:  # type: ignore[override]  # nobody slices it
        return self.with_bias(family)[0]

    def with_bias(self, family: int) -> tuple[torch.Tensor, Floats]:
        """A family's first layer `[F * h1, C]` and its biases `[F, h1]`."""
        rng = _generator(self.seed, "family", family)
        rows = self.hierarchy.families[family].rows
        weight_FHC = _uniform(rng, (rows, self.h1, self.columns), 1 / math.sqrt(self.columns))
        bias_FH = _uniform(rng, (rows, self.h1), _SMALL)
        if self.own_norm:
            weight_FHC, bias_FH = fold_layer_norm(weight_FHC, bias_FH, *self.norm(family))
        self.progress()
        return torch.from_numpy(weight_FHC.reshape(rows * self.h1, self.columns)), bias_FH

    def norm(self, family: int) -> tuple[Floats, Floats]:
        """Gain and bias `[F, C]` of the LayerNorms of a family's lenses."""
        rng = _generator(self.seed, "norm", family)
        shape = (self.hierarchy.families[family].rows, self.columns)
        return 1 + _uniform(rng, shape, _SMALL), _uniform(rng, shape, _SMALL)


def random_heads(lens: LensConfig, hidden_size: int, count: int, seed: int) -> Heads:
    """Heads of `count` lenses, `bias1` 0 yet: it belongs to the first layers."""
    rng = _generator(seed, "heads", 0)
    *shared, h1, h2 = lens.widths
    arrays: dict[str, Any] = {
        "bias1": np.zeros((count, h1), np.float32),
        "weight2": _uniform(rng, (count, h2, h1), math.sqrt(2 / h1)),
        "bias2": _uniform(rng, (count, h2), _SMALL),
        "weight3": _uniform(rng, (count, h2), math.sqrt(2 / h2)),
        "bias3": np.zeros(count, np.float32),
        "platt_slope": np.ones(count, np.float32),
        "platt_offset": np.zeros(count, np.float32),
        "calibrated": np.zeros(count, np.bool_),
    }
    if lens.kind == "compact":
        arrays["projection"] = _uniform(rng, (*shared, hidden_size), 1 / math.sqrt(hidden_size))
    return Heads(**arrays)


def _generator(seed: int, what: str, number: int) -> np.random.Generator:
    return np.random.Generator(np.random.SFC64([seed, zlib.crc32(what.encode()), number]))


def _uniform(rng: np.random.Generator, shape: tuple[int, ...], std: float) -> Floats:
    """Uniform numbers around 0 with this standard deviation."""
    values = rng.random(shape, dtype=np.float32)
    values -= np.float32(0.5)
    values *= np.float32(math.sqrt(12) * std)
    return values
