"""Vectors of fp32 lanes as a numba type, so that a kernel says itself in which order it adds.

A compiler that vectorises a sum chooses how many partial sums to keep, and chooses differently in every loop: a logit
would have other bits in a batch than alone. Here a kernel loads, multiplies and adds whole vectors by name; lane i of a
sum takes every `LANES`-th product, in order, and `total` adds the lanes in one fixed tree.

Stored weights are widened as they are loaded: bf16 (seen as uint16) and int8 become fp32 without loss. Knows nothing
about lenses. Addresses are bytes of memory as int64, and nothing checks them.

numba keeps what it compiled of `kernels` and `team` and does not look at this file: after a change here remove
`lenses/__pycache__/*.nb*`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

_features = llvm.get_host_cpu_features()

LANES = 16 if _features.get("avx512f", False) else 8
"""fp32 numbers in a vector: one register of AVX-512, of AVX2, or two of narrower kinds."""

FLOAT_BYTES = 4
LINE_BYTES = 64
"""What a processor fetches at once."""

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


def size_of(like: Any) -> Any:
    """The bytes of one number of the array `like`, as a constant: with a variable in its place, loops over a row
    took 1.5 to 2.4 times as long."""
    raise AssertionError("compiled only")


@overload(size_of, inline="always", strict=False)  # type: ignore[untyped-decorator]
def _size_of(like: Any) -> Any:
    size_bytes = like.dtype.bitwidth // 8
    return lambda like: size_bytes


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
def store_one(typing: Any, address: Any, number: Any) -> Any:
    """Write one fp32 number to an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[1], builder.inttoptr(arguments[0], ir.FloatType().as_pointer())).align = 1
        return context.get_dummy_value()

    return types.none(types.int64, types.float32), generate


@intrinsic  # type: ignore[untyped-decorator]
def prefetch(typing: Any, address: Any) -> Any:
    """Have the line at an address fetched, which need not be anybody's memory; waits for nothing."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        read, everywhere, data = (ir.Constant(number, value) for value in (0, 2, 1))
        builder.call(function, [builder.inttoptr(arguments[0], byte), read, everywhere, data])
        return context.get_dummy_value()

    return types.none(types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def zero(typing: Any) -> Any:
    """A vector of zeros."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(_FLOATS, [0.0] * LANES)

    return _vector(), generate


@intrinsic  # type: ignore[untyped-decorator]
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, lane by lane, with one rounding; with two, everywhere, where the processor has no such instruction."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(_FLOATS, [_FLOATS] * 3)
        if not _features.get("fma", True):  # of processors that do not say, all have it
            return builder.fadd(builder.fmul(arguments[0], arguments[1]), arguments[2])
        # Not `fmuladd`: that leaves it to the compiler whether to round once or twice.
        name = f"llvm.fma.v{LANES}f32"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)

    return _vector(_vector, _vector, _vector), generate


@intrinsic  # type: ignore[untyped-decorator]
def total(typing: Any, vector: Any) -> Any:
    """The sum of a vector's lanes, as float32: halves onto halves."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes, sums = LANES, arguments[0]
        while lanes > 1:
            lanes //= 2
            sums = _fold(builder, sums, sums, range(lanes), lanes)
        return builder.extract_element(sums, ir.Constant(ir.IntType(32), 0))

    return types.float32(_vector), generate


@intrinsic  # type: ignore[untyped-decorator]
def store_totals(typing: Any, address: Any, vectors: Any) -> Any:
    """Write the `total` of each of eight vectors to an address, one after another: with the same bits, in fewer steps.

    Two vectors become one that has halves of both, each half the sum of the halves of one of them; and again.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        sums = [builder.extract_value(arguments[1], i) for i in range(len(vectors))]
        held = [[i] for i in range(len(sums))]  # whose parts a vector holds, in order
        lanes = LANES
        while len(sums) > 1:
            lanes //= 2
            low = [at for part in range(0, LANES, 2 * lanes) for at in _both(range(part, part + lanes))]
            pairs = list(zip(sums[::2], sums[1::2], strict=True))
            sums = [_fold(builder, a, b, low, lanes) for a, b in pairs]
            held = [
                [i for pair in zip(a, b, strict=True) for i in pair]
                for a, b in zip(held[::2], held[1::2], strict=True)
            ]
        (found,), (order,) = sums, held
        while lanes > 1:  # a vector has more lanes than there are vectors
            parts = range(0, lanes * len(order), lanes)
            lanes //= 2
            low = [part + i for part in parts for i in range(lanes)]
            found = _fold(builder, found, found, low, lanes)
        found = _shuffle(builder, found, found, [order.index(i) for i in range(len(order))])
        pointer = builder.inttoptr(arguments[0], found.type.as_pointer())
        builder.store(found, pointer).align = 1
        return context.get_dummy_value()

    assert len(vectors) == 8 <= LANES
    return types.none(types.int64, vectors), generate


def _both(lanes: range) -> list[int]:
    """Some lanes of the first of two vectors, and the same of the second."""
    return [*lanes, *(LANES + lane for lane in lanes)]


def _fold(builder: Any, a: Any, b: Any, low: Sequence[int], lanes: int) -> Any:
    """The lanes `low` of two vectors, counted through both, each plus the lane so many after it."""
    return builder.fadd(_shuffle(builder, a, b, low), _shuffle(builder, a, b, [at + lanes for at in low]))


def _shuffle(builder: Any, a: Any, b: Any, lanes: Sequence[int]) -> Any:
    """A vector of the lanes that are named, counted through both vectors."""
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), list(lanes)))


@intrinsic  # type: ignore[untyped-decorator]
def pointer(typing: Any, address: Any) -> Any:
    """An address as a pointer that `numba.carray` takes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), generate


@njit(inline="always")  # type: ignore[untyped-decorator]
def address_of(array: Any) -> Any:
    """The address of an array's first number, as int64.

    An address keeps nothing alive: whoever uses it must hold the array in a variable that is used again afterwards, or
    in an argument, since numba frees an array after the last line that names it.
    """
    return np.int64(array.ctypes.data)
