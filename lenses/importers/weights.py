"""The weights of one imported lens, out of the tensors of its state dict.

    net.0 Linear(D, h1), net.3 Linear(h1, h2), net.6 Linear(h2, 1), ReLU between
    with a LayerNorm of its own in front: net.0 LayerNorm(D), net.1, net.4, net.7, folded as `lenses.fold` says

The prefix `net.` may be missing. Any widths. Knows nothing of files or concepts.

Shapes: D hidden size, h1 and h2 the widths.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from lenses.fold import Floats, fold_layer_norm

_PREFIX = "net."
_PLAIN, _NORMED = ("0", "3", "6"), ("1", "4", "7")


class WrongShape(Exception):
    """Tensors that are no lens: what was found, and what was expected."""


@dataclass(frozen=True, slots=True)
class LensShape:
    """What all lenses of one pack have in common."""

    own_norm: bool
    """Whether the lens has a LayerNorm of its own."""
    hidden_size: int
    h1: int
    h2: int

    def __str__(self) -> str:
        return f"{self.hidden_size}-{self.h1}-{self.h2}-1{' with LayerNorm' if self.own_norm else ''}"


@dataclass(frozen=True, slots=True)
class LensWeights:
    """One lens in fp32, its LayerNorm folded."""

    shape: LensShape
    is_bf16: bool
    """Whether its first layer, LayerNorm folded, loses nothing in bf16."""
    weight1: Floats
    """[h1, D]"""
    bias1: Floats
    weight2: Floats
    """[h2, h1]"""
    bias2: Floats
    weight3: Floats
    """[h2]"""
    bias3: Floats
    """[1]"""


def weights_of(tensors: Mapping[str, torch.Tensor]) -> LensWeights:
    """The lens that these tensors are; raises WrongShape."""
    named = {
        key.removeprefix(_PREFIX) if all(key.startswith(_PREFIX) for key in tensors) else key: tensor
        for key, tensor in tensors.items()
    }
    layers = next((found for found in (_PLAIN, _NORMED) if named.keys() == _keys(found)), None)
    if layers is None:
        raise WrongShape(
            f"has the keys {', '.join(sorted(tensors)) or 'of nothing'}, expected net.0, net.3, net.6 or net.0, "
            "net.1, net.4, net.7, each with weight and bias"
        )
    # In memory of its own and writable: folding changes it in place.
    arrays = {name: tensor.to(torch.float32).numpy().copy() for name, tensor in named.items()}
    weight1, weight2, weight3 = (arrays[f"{layer}.weight"] for layer in layers)
    bias1, bias2, bias3 = (arrays[f"{layer}.bias"] for layer in layers)
    if weight1.ndim != 2 or weight2.ndim != 2 or 0 in (*weight1.shape, *weight2.shape):
        raise WrongShape(
            f"has layers {list(weight1.shape)} and {list(weight2.shape)}, expected [h1, D] and [h2, h1]"
        )
    own_norm = layers is _NORMED
    shape = LensShape(own_norm, weight1.shape[1], weight1.shape[0], weight2.shape[0])
    _check(arrays, layers, shape)
    odd = next((name for name, array in arrays.items() if not np.isfinite(array).all()), None)
    if odd is not None:
        raise WrongShape(f"{odd} holds numbers that are not finite")
    if own_norm:
        folded = fold_layer_norm(
            *(array[None] for array in (weight1, bias1, arrays["0.weight"], arrays["0.bias"]))
        )
        weight1, bias1 = (array[0] for array in folded)
        if not (np.isfinite(weight1).all() and np.isfinite(bias1).all()):
            raise WrongShape("is not finite with its LayerNorm folded in")
    is_bf16 = not np.bitwise_and(weight1.view(np.uint32), np.uint32(0xFFFF)).any()
    return LensWeights(shape, bool(is_bf16), weight1, bias1, weight2, bias2, weight3[0], bias3)


def _keys(layers: tuple[str, ...]) -> set[str]:
    norm = {"0"} if layers is _NORMED else set()
    return {f"{layer}.{part}" for layer in {*layers, *norm} for part in ("weight", "bias")}


def _check(arrays: Mapping[str, Floats], layers: tuple[str, ...], shape: LensShape) -> None:
    """Raises WrongShape unless every array fits the first two."""
    first, second, third = layers
    expected: dict[str, tuple[int, ...]] = {
        f"{first}.bias": (shape.h1,),
        f"{second}.weight": (shape.h2, shape.h1),
        f"{second}.bias": (shape.h2,),
        f"{third}.weight": (1, shape.h2),
        f"{third}.bias": (1,),
    }
    if shape.own_norm:
        expected |= {"0.weight": (shape.hidden_size,), "0.bias": (shape.hidden_size,)}
    for name, wanted in expected.items():
        if arrays[name].shape != wanted:
            raise WrongShape(f"{name} is {list(arrays[name].shape)}, expected {list(wanted)}")
