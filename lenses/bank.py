"""Scoring many lenses at once. *** hot file ***

The bank holds what is resident of every lens (the heads) and the base families' first layers, laid end to end. It
scores the base in one call, and any families together in one call, given their first layers by whoever holds them.
What it computes is what `Lens.logit` computes; how lenses are chosen and where families lie is not its business.

Two back ends, tested against each other and against the reference:
- `numba` on a CPU: reads the stored bytes where they lie (see `kernels`); a logit's bits do not depend on the batch.
- `torch` on any device, and on a CPU without numba: widens to fp32 and multiplies.

Shapes: P states, D hidden size, C what lenses read of a state (D, or R of a compact pack), N lenses of the pack,
F families of a call, L lenses of them, K (family, position) pairs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray

from lenses.lens import Floats, Heads
from lenses.memory import empty_bytes
from lenses.pack import LensPack
from lenses.writer import TORCH_DTYPES

try:
    from lenses import kernels, team
except ImportError:  # numba has no wheel for this platform: the torch back end does the same, slower
    kernels = team = None  # type: ignore[assignment]

Backend = Literal["numba", "torch"]
Ints = NDArray[np.int64]

_SEEN_AS = {"bf16": np.uint16, "fp32": np.float32, "int8": np.int8}
"""How the kernels see a stored number; bf16 is the upper half of an fp32."""
_PIECE_BYTES = 1 << 18
"""Stored bytes, times states, that a thread takes at a time; below two of them, sharing costs more than it saves."""
_PIECES_A_THREAD = 32
"""At most, so that a large call is not cut too fine."""


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
        self.base_families = tuple(base)
        families = pack.hierarchy.families
        self.base_ids: NDArray[np.int32] = np.concatenate(
            [np.arange(families[f].first, families[f].first + families[f].rows, dtype=np.int32) for f in base]
        )
        """[base lenses] concept indices, in the order of the logits that `score_base` returns."""
        self._families = families
        self._base_layers = _read_base(pack, base, self.device)
        self._lenses_F2 = np.array([(family.first, family.rows) for family in families], np.int64)
        """The first concept of each family, and how many it has."""
        self._heads = pack.heads
        self._heads_torch = None if self.backend == "numba" else _TorchHeads.of(pack.heads, self.device)
        self._stored = np.dtype(_SEEN_AS[pack.config.lens.dtype])
        self._lens_bytes = pack.config.lens.h1 * self._base_layers.shape[1] * self._base_layers.itemsize
        self._threads = max(1, torch.get_num_threads())
        if self.backend == "numba":
            self._held = _held(pack.heads)
            self._head_words = kernels.heads_of(self._held)
            self._base_table = self._table_of_base()
        is_shared = self.backend == "numba" and self._threads > 1
        self._team = team.Team(self._threads) if is_shared else None

    def inputs(self, states_PD: Floats) -> Floats:
        """What lenses read of input states, `[P, C]`: the states, or what a compact pack's projection makes of them."""
        states_PD = np.ascontiguousarray(states_PD, dtype=np.float32)
        projection_CD = self._heads.projection
        if projection_CD is None:
            return states_PD
        if self._heads_torch is not None:
            return self._heads_torch.inputs(states_PD)
        inputs_PC = np.empty((len(states_PD), len(projection_CD)), np.float32)
        work = projection_CD.nbytes * len(states_PD)
        share = partial(self._share, len(projection_CD), work)
        kernels.project(share, projection_CD, states_PD, inputs_PC)
        return inputs_PC

    def score_base(self, inputs_PC: Floats) -> Floats:
        """Logits `[P, base lenses]` of every base lens."""
        if self._heads_torch is not None:
            return self._heads_torch.score(self._base_layers, torch.from_numpy(self.base_ids), inputs_PC)
        positions = len(inputs_PC)
        logits_PN = np.empty((positions, len(self.base_ids)), np.float32)
        table = self._base_table.copy()
        table[:, kernels.PAIRS] = positions
        self._score(table, np.arange(positions), inputs_PC, logits_PN.reshape(-1), len(self.base_ids))
        return logits_PN

    def score_families(
        self,
        first_layers: Mapping[int, torch.Tensor],
        positions: Mapping[int, Sequence[int]],
        inputs_PC: Floats,
    ) -> dict[int, Floats]:
        """Logits `[positions of it, rows]` of each family, given its first layer `[rows * h1, C]` on the bank's device.

        `positions[family]` says at which rows of the inputs it is wanted. No tensor is kept.
        """
        if self._heads_torch is not None:
            families = [self._families[family] for family in first_layers]
            return {
                f.index: self._heads_torch.score(
                    first_layers[f.index],
                    slice(f.first, f.first + f.rows),
                    inputs_PC[list(positions[f.index])],
                )
                for f in families
            }
        wanted = [positions[family] for family in first_layers]
        counts = [len(at) for at in wanted]
        table = self._table([*first_layers], [layer.data_ptr() for layer in first_layers.values()], counts)
        position_K = np.fromiter(chain.from_iterable(wanted), np.int64, sum(counts))
        rows, starts = table[:, kernels.ROWS].tolist(), table[:, kernels.OUT].tolist()
        sizes = [row * count for row, count in zip(rows, counts, strict=True)]
        logits = np.empty(sum(sizes), np.float32)
        self._score(table, position_K, inputs_PC, logits, sum(rows))
        pieces = zip(first_layers, starts, sizes, rows, strict=True)
        return {family: logits[at : at + size].reshape(-1, row) for family, at, size, row in pieces}

    def close(self) -> None:
        """End the bank's threads; idempotent."""
        if self._team is not None:
            self._team.close()

    def _table(self, families: Sequence[int], addresses: Sequence[int], positions: Sequence[int]) -> Ints:
        """The families of a call as kernels take them, each wanted at so many positions; logits one after another."""
        table = np.zeros((len(families), 7), np.int64)
        table[:, kernels.ADDRESS] = addresses
        table[:, kernels.CONCEPT : kernels.ROWS + 1] = self._lenses_F2[np.array(families, np.int64)]
        table[:, kernels.PAIRS] = positions
        table[:, kernels.STRIDE] = table[:, kernels.ROWS]
        before = table[:-1]
        np.cumsum(before[:, kernels.PAIRS], out=table[1:, kernels.PAIR])
        np.cumsum(before[:, kernels.PAIRS] * before[:, kernels.ROWS], out=table[1:, kernels.OUT])
        return table

    def _table_of_base(self) -> Ints:
        """The base's families, each wanted at all positions; logits `[P, base lenses]`."""
        families = self.base_families
        table = self._table(families, [0] * len(families), [1] * len(families))
        before = table[:, kernels.OUT]
        table[:, kernels.ADDRESS] = self._base_layers.data_ptr() + self._lens_bytes * before
        table[:, kernels.PAIR], table[:, kernels.STRIDE] = 0, len(self.base_ids)
        return table

    def _score(self, table: Ints, position_K: Ints, inputs_PC: Floats, out: Floats, lenses: int) -> None:
        """Score families where they lie; see `kernels.score_mlp` for the arrays."""
        kernel = kernels.score_linear if self._heads.weight2 is None else kernels.score_mlp
        share = partial(self._share, lenses, out.size * self._lens_bytes)
        kernel(share, self._stored, table, position_K, inputs_PC, self._head_words, out)

    def _share(self, size: int, size_bytes: int, function: int, call: Ints) -> None:
        """Have a call done that is of so many lenses, or rows of a projection."""
        pieces = min(self._threads * _PIECES_A_THREAD, size, size_bytes // _PIECE_BYTES)
        if pieces <= 1 or self._team is None:
            team.run_alone(function, call, 0, size)
        else:
            self._team.run(function, call, size, pieces)


def _held(heads: Heads) -> tuple[Floats | None, ...]:
    """Arrays of the heads as the kernels take them, each in one piece."""
    arrays = heads.scale1, heads.bias1, heads.weight2, heads.bias2, heads.weight3, heads.bias3
    return tuple(None if array is None else np.ascontiguousarray(array, np.float32) for array in arrays)


def _read_base(pack: LensPack, base: Sequence[int], device: torch.device) -> torch.Tensor:
    """First layers of the base `[R, C]` end to end, read a family at a time: never twice the base in memory."""
    families, lens = pack.hierarchy.families, pack.config.lens
    rows = lens.h1 * sum(families[f].rows for f in base)
    columns = lens.columns(pack.config.host.hidden_size)
    dtype = TORCH_DTYPES[lens.dtype]
    first_layers = empty_bytes(rows * columns * dtype.itemsize, device).view(dtype).view(rows, columns)
    start = 0
    for family in base:
        stop = start + lens.h1 * families[family].rows
        first_layers[start:stop] = pack.read_family(family)
        start = stop
    return first_layers


@dataclass(frozen=True, slots=True)
class _TorchHeads:
    """The heads of all lenses on a device, and the torch back end."""

    device: torch.device
    tensors: dict[str, torch.Tensor]
    """By the names of `Heads`."""

    @classmethod
    def of(cls, heads: Heads, device: torch.device) -> Self:
        return cls(
            device,
            {k: torch.from_numpy(np.ascontiguousarray(v)).to(device) for k, v in heads.tensors().items()},
        )

    def inputs(self, states_PD: Floats) -> Floats:
        states = torch.from_numpy(states_PD).to(self.device)
        return (states @ self.tensors["projection"].T).cpu().numpy()

    def score(self, first_layer: torch.Tensor, which: slice | torch.Tensor, inputs_PC: Floats) -> Floats:
        """Logits `[P, lenses]` of the lenses that have this first layer, in fp32."""
        inputs = torch.from_numpy(np.ascontiguousarray(inputs_PC)).to(self.device)
        bias1 = self.tensors["bias1"][which]
        hidden = (inputs @ first_layer.to(torch.float32).T).view(len(inputs), *bias1.shape)
        if "scale1" in self.tensors:
            hidden = hidden * self.tensors["scale1"][which]
        hidden = hidden + bias1
        if "weight2" not in self.tensors:
            return hidden[:, :, 0].cpu().numpy()
        weight2, bias2, weight3, bias3 = (
            self.tensors[name][which] for name in ("weight2", "bias2", "weight3", "bias3")
        )
        hidden = torch.relu(torch.einsum("pni,noi->pno", torch.relu(hidden), weight2) + bias2)
        return ((hidden * weight3).sum(dim=2) + bias3).cpu().numpy()  # the device-to-host copy: one a call
