"""One lens, and its slow, obvious score.

A lens maps an input state `[D]` to one logit for one concept. This file says what that function is, one lens at a
time, with the stored weights widened to fp32; `bank` computes the same for many at once and is tested against it.
It knows nothing about files, tiers or models.

    mlp      logit = w3 · relu(W2 relu(W1 x + b1) + b2) + b3
    linear   logit = W1 x + b1                                  (h1 = 1, no later layers)

Shapes: D input state, N lenses of the pack, h1 and h2 the widths of the two hidden layers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray

from lenses.calibration import probability
from lenses.concept import Concept
from lenses.errors import PackFormatError

LensKind = Literal["mlp", "linear"]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Heads:
    """All of every lens but its first layer, and its calibration, over the pack's N lenses in concept order.

    These are a few per cent of a pack's bytes and stay resident. A linear lens has only `bias1` and the calibration.
    """

    bias1: Floats
    """[N, h1]; h1 = 1 for linear."""
    weight2: Floats | None
    """[N, h2, h1]"""
    bias2: Floats | None
    """[N, h2]"""
    weight3: Floats | None
    """[N, h2]"""
    bias3: Floats | None
    """[N]"""
    platt_slope: Floats
    """[N]; 1 where the lens is not calibrated."""
    platt_offset: Floats
    """[N]; 0 where the lens is not calibrated."""
    calibrated: NDArray[np.bool_]
    """[N]"""

    @property
    def kind(self) -> LensKind:
        """The kind of lens these heads belong to."""
        return "linear" if self.weight2 is None else "mlp"

    @property
    def count(self) -> int:
        """N, the number of lenses."""
        return int(self.bias1.shape[0])

    def tensors(self) -> dict[str, NDArray[np.generic]]:
        """The arrays by their names in `heads.safetensors`; `calibrated` is stored as one byte a lens."""
        layers = {
            "bias1": self.bias1,
            "weight2": self.weight2,
            "bias2": self.bias2,
            "weight3": self.weight3,
            "bias3": self.bias3,
            "platt_slope": self.platt_slope,
            "platt_offset": self.platt_offset,
        }
        arrays: dict[str, NDArray[np.generic]] = {k: v for k, v in layers.items() if v is not None}
        arrays["calibrated"] = self.calibrated.astype(np.uint8)
        return arrays

    @staticmethod
    def shapes(kind: LensKind, widths: tuple[int, ...], count: int) -> dict[str, tuple[int, ...]]:
        """What `tensors()` must hold for `count` lenses of this kind and these widths: name to shape."""
        calibration: dict[str, tuple[int, ...]] = {
            "platt_slope": (count,),
            "platt_offset": (count,),
            "calibrated": (count,),
        }
        if kind == "linear":
            return {"bias1": (count, 1), **calibration}
        h1, h2 = widths
        return {
            "bias1": (count, h1),
            "weight2": (count, h2, h1),
            "bias2": (count, h2),
            "weight3": (count, h2),
            "bias3": (count,),
            **calibration,
        }

    @classmethod
    def from_tensors(
        cls, arrays: Mapping[str, NDArray[np.generic]], kind: LensKind, widths: tuple[int, ...], count: int
    ) -> Self:
        """Heads out of the arrays of a `heads.safetensors`; raises PackFormatError where a name or shape is off."""
        expected = cls.shapes(kind, widths, count)
        found = {name: tuple(array.shape) for name, array in arrays.items()}
        if found != expected:
            odd = sorted(
                name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)
            )
            raise PackFormatError(
                f"heads of {count} {kind} lenses: {odd[0]} has shape {found.get(odd[0], 'none')}, "
                f"expected {expected.get(odd[0], 'none')}; the pack contradicts its config.json, fetch it again"
            )
        floats = {
            name: np.array(arrays[name], dtype=np.float32, order="C") if name in arrays else None
            for name in ("bias1", "weight2", "bias2", "weight3", "bias3", "platt_slope", "platt_offset")
        }
        return cls(**floats, calibrated=np.array(arrays["calibrated"], dtype=np.bool_))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Lens:
    """One lens with its weights widened to fp32: the reference that every fast path must equal."""

    concept: Concept
    weight1: torch.Tensor
    """[h1, D] fp32"""
    heads: Heads
    """The heads of this lens alone (N = 1)."""

    @classmethod
    def of(cls, concept: Concept, first_layer: torch.Tensor, heads: Heads, index: int) -> Self:
        """Lens `index` of `heads`, its first layer `[h1, D]` in any float dtype."""
        own = {name: array[index : index + 1] for name, array in heads.tensors().items()}
        widths = () if heads.weight2 is None else (heads.bias1.shape[1], heads.weight2.shape[1])
        return cls(concept, first_layer.to(torch.float32), Heads.from_tensors(own, heads.kind, widths, 1))

    def logit(self, state_D: torch.Tensor) -> float:
        """The logit of one input state `[D]`, in fp32."""
        heads = self.heads
        hidden = self.weight1 @ state_D.to(torch.float32) + torch.from_numpy(heads.bias1[0])
        if heads.weight2 is None or heads.bias2 is None or heads.weight3 is None or heads.bias3 is None:
            return float(hidden[0])
        hidden = torch.relu(hidden)
        hidden = torch.relu(torch.from_numpy(heads.weight2[0]) @ hidden + torch.from_numpy(heads.bias2[0]))
        return float(torch.from_numpy(heads.weight3[0]) @ hidden) + float(heads.bias3[0])

    def probability(self, state_D: torch.Tensor) -> float:
        """The calibrated probability of one input state `[D]`, at a class prior of 1/2."""
        logit = np.array([self.logit(state_D)], np.float32)
        return float(probability(logit, self.heads.platt_slope, self.heads.platt_offset)[0])
