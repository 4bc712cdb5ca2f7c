"""One lens, and its slow, obvious score.

A lens maps an input state `[D]` to one logit for one concept. This file says what that function is, one lens at a
time, with the stored weights widened to fp32; `bank` computes the same for many at once and is tested against it.
It knows nothing about files, tiers or models.

    mlp      logit = w3 · relu(W2 relu(W1 x + b1) + b2) + b3
    linear   logit = W1 x + b1                                  (h1 = 1, no later layers)
    compact  an mlp of P x, where the projection P is one for the whole pack

A first layer that is stored as int8 is widened by its scales: W1 = scale1 q, row by row.

Shapes: D input state, N lenses of the pack, h1 and h2 the widths of the two hidden layers, R rows of the projection, C
columns of a first layer (R of compact, D otherwise).
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from lenses.calibration import probability
from lenses.concept import Concept
from lenses.config import LensConfig
from lenses.errors import PackFormatError
from lenses.quantise import dequantise_rows

Floats = NDArray[np.float32]

SHARED = ("projection", "alarm_curve")
"""The arrays of `Heads` that are of the pack and not of a lens."""


@dataclass(frozen=True, slots=True)
class Heads:
    """All of every lens but its first layer, and its calibration, over the pack's N lenses in concept order.

    These are a few per cent of a pack's bytes and stay resident. A linear lens has no later layers.
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
    scale1: Floats | None = None
    """[N, h1], what each row of an int8 first layer is times; None where first layers are bf16 or fp32."""
    projection: Floats | None = None
    """[R, D], shared by all lenses; None but for compact."""
    alarm_curve: Floats | None = None
    """[C, 3], shared by all lenses: how often one alarms on null texts, see `lenses.alarms`; None: unmeasured."""

    @property
    def count(self) -> int:
        """N, the number of lenses."""
        return int(self.bias1.shape[0])

    def tensors(self) -> dict[str, NDArray[np.generic]]:
        """The arrays by their names in `heads.safetensors`; `calibrated` is stored as one byte a lens."""
        arrays = {item.name: getattr(self, item.name) for item in fields(self)}
        arrays["calibrated"] = self.calibrated.astype(np.uint8)
        return {name: array for name, array in arrays.items() if array is not None}

    @staticmethod
    def shapes(lens: LensConfig, hidden_size: int, count: int) -> dict[str, tuple[int, ...]]:
        """What `tensors()` must hold for `count` such lenses of states of this size: name to shape."""
        shapes: dict[str, tuple[int, ...]] = {"bias1": (count, lens.h1)}
        if lens.kind != "linear":
            h1, h2 = lens.widths[-2:]
            shapes |= {
                "weight2": (count, h2, h1),
                "bias2": (count, h2),
                "weight3": (count, h2),
                "bias3": (count,),
            }
        shapes |= {"platt_slope": (count,), "platt_offset": (count,), "calibrated": (count,)}
        if lens.dtype == "int8":
            shapes["scale1"] = (count, lens.h1)
        if lens.kind == "compact":
            shapes["projection"] = (lens.columns(hidden_size), hidden_size)
        return shapes

    @staticmethod
    def optional_shapes(found: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        """What arrays that need not be there must be, of those found: an alarm curve is as long as its null corpus
        made it."""
        shape = found.get("alarm_curve")
        return {} if shape is None else {"alarm_curve": (max(1, shape[0]) if shape else 1, 3)}

    def only(self, index: int) -> Self:
        """The heads of one lens (N = 1): views, and what all lenses share as it is."""
        own = {
            item.name: array[index : index + 1]
            for item in fields(self)
            if item.name not in SHARED and (array := getattr(self, item.name)) is not None
        }
        return replace(self, **own)

    @classmethod
    def from_tensors(
        cls, arrays: Mapping[str, NDArray[np.generic]], lens: LensConfig, hidden_size: int, count: int
    ) -> Self:
        """Heads out of the arrays of a `heads.safetensors`; raises PackFormatError where a name or shape is off."""
        found = {name: tuple(array.shape) for name, array in arrays.items()}
        expected = cls.shapes(lens, hidden_size, count) | cls.optional_shapes(found)
        if found != expected:
            odd = sorted(
                name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)
            )
            raise PackFormatError(
                f"heads of {count} {lens.kind} lenses: {odd[0]} has shape {found.get(odd[0], 'none')}, "
                f"expected {expected.get(odd[0], 'none')}; the pack contradicts its config.json, fetch it again"
            )
        # Not copied where it is so already: of a pack of thousands this is a quarter of a gigabyte.
        floats = {
            item.name: np.ascontiguousarray(arrays[item.name], dtype=np.float32)
            if item.name in arrays
            else None
            for item in fields(cls)
            if item.name != "calibrated"
        }
        return cls(**floats, calibrated=np.asarray(arrays["calibrated"]).astype(np.bool_))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Lens:
    """One lens with its weights widened to fp32: the reference that every fast path must equal."""

    concept: Concept
    weight1: torch.Tensor
    """[h1, C] fp32"""
    heads: Heads
    """The heads of this lens alone (N = 1)."""

    @classmethod
    def of(cls, concept: Concept, first_layer: torch.Tensor, heads: Heads, index: int) -> Self:
        """Lens `index` of `heads`, its first layer `[h1, C]` in any float dtype, or int8 where heads have scales."""
        assert first_layer.is_floating_point() == (heads.scale1 is None), "int8 and scales come together"
        if heads.scale1 is None:
            weight1 = first_layer.to(torch.float32)
        else:
            weight1 = dequantise_rows(first_layer, torch.from_numpy(heads.scale1[index]))
        return cls(concept, weight1, heads.only(index))

    def logit(self, state_D: torch.Tensor) -> float:
        """The logit of one input state `[D]`, in fp32."""
        heads = self.heads
        state = state_D.to(torch.float32)
        if heads.projection is not None:
            state = torch.from_numpy(heads.projection) @ state
        hidden = self.weight1 @ state + torch.from_numpy(heads.bias1[0])
        if heads.weight2 is None or heads.bias2 is None or heads.weight3 is None or heads.bias3 is None:
            return float(hidden[0])
        hidden = torch.relu(hidden)
        hidden = torch.relu(torch.from_numpy(heads.weight2[0]) @ hidden + torch.from_numpy(heads.bias2[0]))
        return float(torch.from_numpy(heads.weight3[0]) @ hidden) + float(heads.bias3[0])

    def probability(self, state_D: torch.Tensor) -> float:
        """The calibrated probability of one input state `[D]`, at a class prior of 1/2."""
        logit = np.array([self.logit(state_D)], np.float32)
        return float(probability(logit, self.heads.platt_slope, self.heads.platt_offset)[0])
