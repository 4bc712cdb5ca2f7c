"""Scoring many lenses at once. *** hot file ***

The bank holds what is resident of every lens (the heads) and the base families' first layers, laid end to end. It
scores the base in one call and any family in one call, given that family's first layer by whoever holds it. What it
computes is what `Lens.logit` computes; how lenses are chosen and where families lie is not its business.

Two back ends, tested against each other and against the reference:
- `numba` on a CPU: reads the stored bytes where they lie (see `kernels`); a logit's bits do not depend on the batch.
- `torch` on any device, and on a CPU without numba: widens to fp32 and multiplies.

Shapes: B states, D hidden size, N lenses of the pack, F lenses of one family, R = lenses * h1 stored rows.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray

from lenses.lens import Floats, Heads
from lenses.pack import LensPack
from lenses.writer import TORCH_DTYPES

try:
    from lenses import kernels
except ImportError:  # numba has no wheel for this platform: the torch back end does the same, slower
    kernels = None  # type: ignore[assignment]

Backend = Literal["numba", "torch"]

_BYTES_WORTH_A_THREAD = 1 << 19
"""Below this many stored bytes times states, handing work to a second thread costs more than it saves."""


class Bank:
    """The heads of all lenses, the first layers of the base, and the one way to score either."""

    def __init__(
        self,
        pack: LensPack,
        base: Sequence[int],
        *,
        device: torch.device | str = "cpu",
        backend: Backend | None = None,
    ) -> None:
        self.device = torch.device(device)
        on_cpu = self.device.type == "cpu"
        self.backend: Backend = backend or ("numba" if on_cpu and kernels is not None else "torch")
        families = pack.hierarchy.families
        self.base_families = tuple(base)
        self.base_ids: NDArray[np.int32] = np.concatenate(
            [np.arange(families[f].first, families[f].first + families[f].rows, dtype=np.int32) for f in base]
        )
        """[base lenses] concept indices, in the order of the logits that `score_base` returns."""
        self._base = _Layers.of(pack.heads, self.base_ids, _read_base(pack, base, self.device))
        self._family_heads = [
            _Layers.of(pack.heads, slice(f.first, f.first + f.rows), None)
            if on_cpu
            else _Layers.of(pack.heads, np.arange(f.first, f.first + f.rows), None).to(self.device)
            for f in families
        ]
        self._base = self._base if on_cpu else self._base.to(self.device)
        self._threads = max(1, torch.get_num_threads())
        self._pool = (
            ThreadPoolExecutor(self._threads, thread_name_prefix="bank") if self._threads > 1 else None
        )

    def score_base(self, states_BD: Floats) -> Floats:
        """Logits `[B, base lenses]` of every base lens."""
        return self._score(self._base, states_BD)

    def score_family(self, family: int, first_layer_RD: torch.Tensor, states_BD: Floats) -> Floats:
        """Logits `[B, F]` of a family's lenses, given its first layer `[R, D]` on the bank's device."""
        return self._score(self._family_heads[family].with_first(first_layer_RD), states_BD)

    def close(self) -> None:
        """End the bank's threads; idempotent."""
        if self._pool is not None:
            self._pool.shutdown()

    def _score(self, layers: "_Layers", states_BD: Floats) -> Floats:
        if self.backend == "torch":
            states = torch.from_numpy(states_BD).to(self.device)
            return layers.score_torch(states).cpu().numpy()  # the device-to-host copy: one a call
        states_BD = np.ascontiguousarray(states_BD, dtype=np.float32)
        logits_BN = np.empty((len(states_BD), layers.count), np.float32)
        stored = layers.stored()
        parts = min(self._threads, layers.count, 1 + stored.nbytes * len(states_BD) // _BYTES_WORTH_A_THREAD)
        if parts == 1 or self._pool is None:
            layers.score_numba(stored, states_BD, logits_BN, 0, layers.count)
            return logits_BN
        cuts = [layers.count * part // parts for part in range(parts + 1)]
        jobs = [
            self._pool.submit(layers.score_numba, stored, states_BD, logits_BN, start, stop)
            for start, stop in pairwise(cuts)
        ]
        for job in jobs:
            job.result()
        return logits_BN


def _read_base(pack: LensPack, base: Sequence[int], device: torch.device) -> torch.Tensor:
    """First layers of the base `[R, D]` end to end, read a family at a time: never twice the base in memory."""
    families = pack.hierarchy.families
    width, hidden = pack.config.lens.h1, pack.config.host.hidden_size
    rows = width * sum(families[f].rows for f in base)
    first_layer = torch.empty((rows, hidden), dtype=TORCH_DTYPES[pack.config.lens.dtype], device=device)
    start = 0
    for family in base:
        stop = start + width * families[family].rows
        first_layer[start:stop] = pack.read_family(family)
        start = stop
    return first_layer


@dataclass(frozen=True, slots=True)
class _Layers:
    """All layers of some lenses, side by side; `first_layer` is None until a family's bytes are at hand."""

    first_layer: torch.Tensor | None
    bias1: torch.Tensor
    later: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor] | None
    """weight2, bias2, weight3, bias3 of an mlp."""
    arrays: tuple[Floats, ...]
    """The same as numpy views: what the CPU kernel takes."""

    @classmethod
    def of(
        cls, heads: Heads, which: slice | NDArray[np.integer[Any]], first_layer: torch.Tensor | None
    ) -> Self:
        if heads.weight2 is None or heads.bias2 is None or heads.weight3 is None or heads.bias3 is None:
            arrays: tuple[Floats, ...] = (heads.bias1[which],)
        else:
            layers = (heads.bias1, heads.weight2, heads.bias2, heads.weight3, heads.bias3)
            arrays = tuple(array[which] for array in layers)
        bias1, *later = (torch.from_numpy(array) for array in arrays)
        return cls(first_layer, bias1, tuple(later) if later else None, arrays)  # type: ignore[arg-type]

    @property
    def count(self) -> int:
        return int(self.bias1.shape[0])

    def to(self, device: torch.device) -> "_Layers":
        later = None if self.later is None else tuple(layer.to(device) for layer in self.later)
        return _Layers(self.first_layer, self.bias1.to(device), later, self.arrays)  # type: ignore[arg-type]

    def with_first(self, first_layer: torch.Tensor) -> "_Layers":
        return _Layers(first_layer, self.bias1, self.later, self.arrays)

    def stored(self) -> NDArray[np.generic]:
        """The first layer as the kernel reads it: fp32, or bf16 seen as uint16."""
        assert self.first_layer is not None
        stored = self.first_layer
        if stored.dtype == torch.bfloat16:
            return stored.view(torch.uint16).numpy()
        return stored.numpy()

    def score_numba(
        self, stored: NDArray[np.generic], states_BD: Floats, out: Floats, start: int, stop: int
    ) -> None:
        """Score lenses start..stop into their columns of `out`."""
        kernel = kernels.score_linear if self.later is None else kernels.score_mlp
        kernel(stored, *self.arrays, states_BD, out, start, stop)

    def score_torch(self, states_BD: torch.Tensor) -> torch.Tensor:
        """Logits `[B, lenses]` on the device of the states, in fp32."""
        assert self.first_layer is not None
        hidden = states_BD @ self.first_layer.to(torch.float32).T
        hidden = hidden.view(len(states_BD), *self.bias1.shape) + self.bias1
        if self.later is None:
            return hidden[:, :, 0]
        weight2, bias2, weight3, bias3 = self.later
        hidden = torch.relu(torch.einsum("bni,noi->bno", torch.relu(hidden), weight2) + bias2)
        return (hidden * weight3).sum(dim=2) + bias3
