"""Vectors of fp32 lanes as a numba type, so that a kernel says itself in which order it adds.

A compiler that vectorises a sum chooses how many partial sums to keep, and chooses differently in every loop: a logit
would have other bits in a batch than alone. Here a kernel loads, multiplies and adds whole vectors by name; lane i of a
sum takes every `LANES`-th product, in order, and `total` adds the lanes in one fixed tree.

Stored weights are widened as they are loaded: bf16 (seen as uint16) and int8 become fp32 without loss. The only user of
llvmlite; knows nothing about lenses. Addresses are bytes of memory as int64, and nothing checks them.
"""

from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

LANES = 16 if llvm.get_host_cpu_features().get("avx512f", False) else 8
"""fp32 numbers in a vector: one register of AVX-512, of AVX2, or two of narrower kinds."""

FLOAT_BYTES = 4

_FLOATS = ir.VectorType(ir.FloatType(), LANES)


class _VectorType(types.Type):  # type: ignore[misc]
    """`LANES` fp32 numbers, as numba knows them."""

    def __init__(self) -> None:
        super().__init__(name=f"Vector({LANES} x float32)")


_vector = _VectorType()


@register_model(_VectorType)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _FLOATS)


def _loader(stored: ir.Type, widen: Callable[[Any, Any, ir.Type, ir.Type], Any], lanes: int) -> Any:
    """An intrinsic that loads one stored number, or a vector of them, from an address and widens it to fp32."""
    loads, floats, ints = (
        kind if lanes == 1 else ir.VectorType(kind, lanes)
        for kind in (stored, ir.FloatType(), ir.IntType(32))
    )

    @intrinsic  # type: ignore[untyped-decorator]
    def load(typing: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            loaded = builder.load(builder.inttoptr(arguments[0], loads.as_pointer()))
            loaded.align = 1  # a row begins wherever the one before it ended
            return widen(builder, loaded, floats, ints)

        return (types.float32 if lanes == 1 else _vector)(types.int64), generate

    return load


def _from_bf16(builder: Any, loaded: Any, floats: ir.Type, ints: ir.Type) -> Any:
    sixteen = ir.Constant(ints, 16 if isinstance(ints, ir.IntType) else [16] * LANES)
    return builder.bitcast(builder.shl(builder.zext(loaded, ints), sixteen), floats)


def _from_int8(builder: Any, loaded: Any, floats: ir.Type, ints: ir.Type) -> Any:
    return builder.sitofp(builder.sext(loaded, ints), floats)


def _loaders(lanes: int) -> dict[Any, Any]:
    return {
        types.float32: _loader(ir.FloatType(), lambda builder, loaded, floats, ints: loaded, lanes),
        types.uint16: _loader(ir.IntType(16), _from_bf16, lanes),
        types.int8: _loader(ir.IntType(8), _from_int8, lanes),
    }


_VECTOR_LOADERS, _NUMBER_LOADERS = _loaders(LANES), _loaders(1)


def load(like: Any, address: Any) -> Any:
    """The vector at an address, of numbers stored like those of the array `like`, which is looked at for its type."""
    raise AssertionError("compiled only")


@overload(load, inline="always", strict=False)  # type: ignore[untyped-decorator]
def _load(like: Any, address: Any) -> Any:
    loader = _VECTOR_LOADERS[like.dtype]
    return lambda like, address: loader(address)


def load_one(like: Any, address: Any) -> Any:
    """The one number at an address, of those stored like the array `like`, as float32."""
    raise AssertionError("compiled only")


@overload(load_one, inline="always", strict=False)  # type: ignore[untyped-decorator]
def _load_one(like: Any, address: Any) -> Any:
    loader = _NUMBER_LOADERS[like.dtype]
    return lambda like, address: loader(address)


@intrinsic  # type: ignore[untyped-decorator]
def store(typing: Any, address: Any, vector: Any) -> Any:
    """Write a vector to an address, as fp32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], _FLOATS.as_pointer())
        builder.store(arguments[1], pointer).align = 1
        return context.get_dummy_value()

    return types.none(types.int64, _vector), generate


@intrinsic  # type: ignore[untyped-decorator]
def zero(typing: Any) -> Any:
    """A vector of zeros."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(_FLOATS, [0.0] * LANES)

    return _vector(), generate


@intrinsic  # type: ignore[untyped-decorator]
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, lane by lane; one rounding where the processor can."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(_FLOATS, [_FLOATS] * 3)
        name = f"llvm.fmuladd.v{LANES}f32"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)

    return _vector(_vector, _vector, _vector), generate


@intrinsic  # type: ignore[untyped-decorator]
def total(typing: Any, vector: Any) -> Any:
    """The sum of a vector's lanes, as float32: halves onto halves."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        parts = [builder.extract_element(arguments[0], ir.Constant(ir.IntType(32), i)) for i in range(LANES)]
        while len(parts) > 1:
            half = len(parts) // 2
            parts = [builder.fadd(parts[i], parts[i + half]) for i in range(half)]
        return parts[0]

    return types.float32(_vector), generate


@njit(inline="always")  # type: ignore[untyped-decorator]
def address_of(array: Any) -> Any:
    """The address of an array's first number, as int64.

    An address keeps nothing alive: whoever uses it must hold the array in a variable that is used again afterwards, or
    in an argument, since numba frees an array after the last line that names it.
    """
    return np.int64(array.ctypes.data)
