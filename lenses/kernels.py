"""The CPU kernels that score lenses: stored weights in, logits out, one pass over the bytes.

A step of one state is bound by memory bandwidth: eight stored rows are read side by side, widened as they are loaded,
and multiplied into eight sums, so that no sum waits for itself. With several states a block of rows is widened once,
into memory that stays near, and twelve sums (four rows, three states) share every load.

All of these add in the same order (see `vectors`), so a logit has the same bits whatever batch it was computed in; and
a lens is never split between threads, so also however many shared the work.

Families are scored where they lie: a call takes the addresses of their first layers, and for each family the positions
it is wanted at. Nothing is copied or gathered. Knows arrays and addresses only.

Shapes: F families of the call, L lenses of them, K (family, position) pairs, N lenses of the pack, h1 and h2 their
widths, C columns of the first layer, R rows, P states, B of them that a family is wanted at.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numba import carray, cfunc, literal_unroll, njit
from numba.core.errors import NumbaError as CompileError
from numpy.typing import NDArray

from lenses.team import PIECE
from lenses.vectors import (
    FLOAT_BYTES,
    LANES,
    LINE_BYTES,
    address_of,
    fma,
    load,
    load_one,
    pointer,
    prefetch,
    size_of,
    store,
    store_one,
    store_totals,
    total,
    zero,
)

__all__ = [
    "ADDRESS",
    "CONCEPT",
    "OUT",
    "PAIR",
    "PAIRS",
    "ROWS",
    "STRIDE",
    "CompileError",
    "heads_of",
    "project",
    "score_linear",
    "score_mlp",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Run = Callable[[int, Ints], None]
"""Has the function at an address do a call, all of it, in pieces or in one; see `team`."""

_ROWS = 8
"""Rows that are read side by side."""
_SHORT_BYTES = 4096
"""Rows up to a page long are fetched ahead: there it was faster, for longer ones it made no clear difference."""
_TILE_ROWS, _TILE_STATES = 4, 3
_NEAR_BYTES = 1 << 18
"""States that are worked on together take this much: half of a small second-level cache."""
_FP32 = np.empty(0, np.float32)

_compiled = njit(nogil=True, cache=True)


@_compiled  # type: ignore[untyped-decorator]
def _dot(like: Any, row: Any, state: Any, columns: Any) -> Any:
    """One row at the address `row` with the state at the address `state`, whole vectors of it."""
    s = zero()
    for c in range(0, columns - LANES + 1, LANES):
        s = fma(load(like, row + size_of(like) * c), load(_FP32, state + FLOAT_BYTES * c), s)
    return total(s)


@_compiled  # type: ignore[untyped-decorator]
def _dot_8x1(like: Any, row: Any, stride: Any, state: Any, columns: Any, out: Any) -> None:
    """Eight rows, `stride` bytes apart, with one state: as `_dot`, eight times.

    The eight after them are fetched meanwhile if rows are short.
    """
    s0, s1, s2, s3, s4, s5, s6, s7 = zero(), zero(), zero(), zero(), zero(), zero(), zero(), zero()
    for c in range(0, columns - LANES + 1, LANES):
        x = load(_FP32, state + FLOAT_BYTES * c)
        at = row + size_of(like) * c
        ahead = row + _ROWS * (stride + size_of(like) * c)
        if stride <= _SHORT_BYTES:
            for line in range(0, _ROWS * size_of(like) * LANES, LINE_BYTES):
                prefetch(ahead + line)
        s0 = fma(load(like, at), x, s0)
        s1 = fma(load(like, at + stride), x, s1)
        s2 = fma(load(like, at + 2 * stride), x, s2)
        s3 = fma(load(like, at + 3 * stride), x, s3)
        s4 = fma(load(like, at + 4 * stride), x, s4)
        s5 = fma(load(like, at + 5 * stride), x, s5)
        s6 = fma(load(like, at + 6 * stride), x, s6)
        s7 = fma(load(like, at + 7 * stride), x, s7)
    store_totals(out, (s0, s1, s2, s3, s4, s5, s6, s7))


@_compiled  # type: ignore[untyped-decorator]
def _dot_4x3(row: Any, stride: Any, states_B: Any, columns: Any, out: Any, out_stride: Any) -> None:
    """Four fp32 rows, `stride` bytes apart, with the first three of some states: as `_dot`, twelve times."""
    x, y, z = states_B[0], states_B[1], states_B[2]
    x0, x1, x2, x3 = zero(), zero(), zero(), zero()
    y0, y1, y2, y3 = zero(), zero(), zero(), zero()
    z0, z1, z2, z3 = zero(), zero(), zero(), zero()
    for byte in range(0, FLOAT_BYTES * (columns - LANES + 1), FLOAT_BYTES * LANES):
        at = row + byte
        a, b, c = load(_FP32, x + byte), load(_FP32, y + byte), load(_FP32, z + byte)
        w = load(_FP32, at)
        x0, y0, z0 = fma(w, a, x0), fma(w, b, y0), fma(w, c, z0)
        w = load(_FP32, at + stride)
        x1, y1, z1 = fma(w, a, x1), fma(w, b, y1), fma(w, c, z1)
        w = load(_FP32, at + 2 * stride)
        x2, y2, z2 = fma(w, a, x2), fma(w, b, y2), fma(w, c, z2)
        w = load(_FP32, at + 3 * stride)
        x3, y3, z3 = fma(w, a, x3), fma(w, b, y3), fma(w, c, z3)
    for state, (s0, s1, s2, s3) in enumerate(((x0, x1, x2, x3), (y0, y1, y2, y3), (z0, z1, z2, z3))):
        into = out + state * out_stride
        store_one(into, total(s0))
        store_one(into + FLOAT_BYTES, total(s1))
        store_one(into + 2 * FLOAT_BYTES, total(s2))
        store_one(into + 3 * FLOAT_BYTES, total(s3))


@_compiled  # type: ignore[untyped-decorator]
def _widen(like: Any, row: Any, stride: Any, rows: Any, columns: Any, wide: Any) -> None:
    """Copy stored rows as fp32 into the array `wide`, whole vectors of them, `columns` apart."""
    target = address_of(wide)
    for r in range(rows):
        for c in range(0, columns - LANES + 1, LANES):
            store(target + FLOAT_BYTES * (r * columns + c), load(like, row + r * stride + size_of(like) * c))


@_compiled  # type: ignore[untyped-decorator]
def _dot_block(
    like: Any, row: Any, stride: Any, rows: Any, states_B: Any, columns: Any, out: Any, out_stride: Any
) -> None:
    """Up to eight rows with some states, one state at a time."""
    for b in range(states_B.shape[0]):
        into = out + b * out_stride
        if rows == _ROWS:
            _dot_8x1(like, row, stride, states_B[b], columns, into)
        else:
            for r in range(rows):
                store_one(into + FLOAT_BYTES * r, _dot(like, row + r * stride, states_B[b], columns))


@_compiled  # type: ignore[untyped-decorator]
def _dot_tiled(
    row: Any, stride: Any, rows: Any, states_B: Any, columns: Any, out: Any, out_stride: Any
) -> None:
    """Up to eight fp32 rows with some states, in tiles as far as they go."""
    tiled_rows = rows - rows % _TILE_ROWS
    tiled_states = states_B.shape[0] - states_B.shape[0] % _TILE_STATES
    for b in range(0, tiled_states, _TILE_STATES):
        into = out + b * out_stride
        for r in range(0, tiled_rows, _TILE_ROWS):
            _dot_4x3(row + r * stride, stride, states_B[b:], columns, into + FLOAT_BYTES * r, out_stride)
        for r in range(tiled_rows, rows):
            for k in range(_TILE_STATES):
                dot = _dot(_FP32, row + r * stride, states_B[b + k], columns)
                store_one(into + k * out_stride + FLOAT_BYTES * r, dot)
    rest = out + tiled_states * out_stride
    _dot_block(_FP32, row, stride, rows, states_B[tiled_states:], columns, rest, out_stride)


@_compiled  # type: ignore[untyped-decorator]
def _dots(
    like: Any,
    row: Any,
    stride: Any,
    rows: Any,
    states_B: Any,
    columns: Any,
    wide: Any,
    out: Any,
    out_stride: Any,
) -> None:
    """Every row with every state: `rows` stored ones from the address `row` on, states by address.

    Those of state b go to the address `out` + b * `out_stride`, as fp32. `wide` is an array of `_ROWS` *
    columns fp32 numbers at the least, to work in.
    """
    states = states_B.shape[0]
    if states < _TILE_STATES:
        for r in range(0, rows, _ROWS):
            block = min(_ROWS, rows - r)
            into = out + FLOAT_BYTES * r
            _dot_block(like, row + r * stride, stride, block, states_B, columns, into, out_stride)
    else:
        near = _NEAR_BYTES // (FLOAT_BYTES * columns) // _TILE_STATES * _TILE_STATES
        together = max(near, _TILE_STATES)
        for b in range(0, states, together):
            near_B = states_B[b : b + together]
            for r in range(0, rows, _ROWS):
                block = min(_ROWS, rows - r)
                into = out + b * out_stride + FLOAT_BYTES * r
                _widen(like, row + r * stride, stride, block, columns, wide)
                _dot_tiled(address_of(wide), FLOAT_BYTES * columns, block, near_B, columns, into, out_stride)
    for c in range(columns - columns % LANES, columns):  # what no whole vector holds
        for r in range(rows):
            w = load_one(like, row + r * stride + size_of(like) * c)
            for b in range(states):
                at = out + b * out_stride + FLOAT_BYTES * r
                store_one(at, load_one(_FP32, at) + w * load_one(_FP32, states_B[b] + FLOAT_BYTES * c))


@_compiled  # type: ignore[untyped-decorator]
def _wanted(states_PD: Any, position_K: Any, states_B: Any) -> None:
    """The addresses of a family's states."""
    first, stride = address_of(states_PD), FLOAT_BYTES * states_PD.shape[1]
    for k in range(position_K.shape[0]):
        states_B[k] = first + stride * position_K[k]


ADDRESS, CONCEPT, ROWS, PAIR, PAIRS, OUT, STRIDE = range(7)
"""Columns of the table of a call's families; see `score_mlp`."""


def score_mlp(
    run: Run,
    stored: np.dtype[Any],
    table_F7: Ints,
    position_K: Ints,
    states_PC: Floats,
    heads: Ints,
    out: Floats,
) -> None:
    """Logits of mlp lenses, where they belong in the flat `out`; a piece is some of the call's lenses.

    A family has a row of the table: the address of its first layer, of numbers of the type `stored`; its first
    concept; how many lenses it has; which of `position_K` is its first, and of how many positions it is wanted at. The
    logit of its lens i at the k-th of these goes to `out[OUT + k * STRIDE + i]`. All arrays lie in one piece.
    """
    run(_score_piece(True, stored).address, _call(table_F7, position_K, states_PC, heads, out))


def score_linear(
    run: Run,
    stored: np.dtype[Any],
    table_F7: Ints,
    position_K: Ints,
    states_PC: Floats,
    heads: Ints,
    out: Floats,
) -> None:
    """Logits of linear lenses; see `score_mlp`."""
    run(_score_piece(False, stored).address, _call(table_F7, position_K, states_PC, heads, out))


def project(run: Run, projection_RD: Floats, states_PD: Floats, out_PR: Floats) -> None:
    """The projection times every state, into `out_PR`; a piece is some of its rows."""
    run(_project_piece().address, _call(projection_RD, states_PD, out_PR))


def heads_of(arrays: Sequence[Floats | None]) -> Ints:
    """Heads of N lenses as a call takes them, by address: the caller holds the arrays, each in one piece.

    They are `scale1` (None for weights that are stored as they are) and `bias1`, `[N, h1]`, `weight2` `[N, h2, h1]`,
    `bias2` and `weight3` `[N, h2]`, and `bias3` `[N]`: the last four None for linear lenses.
    """
    assert all(array is None or array.flags.c_contiguous for array in arrays), "heads lie in one piece"
    _, bias1, weight2, *_ = arrays
    assert bias1 is not None, "all lenses have a first bias"
    h2 = 0 if weight2 is None else weight2.shape[1]
    addresses = [0 if array is None else array.ctypes.data for array in arrays]
    return np.array([*bias1.shape, h2, *addresses], np.int64)


def _call(*arrays: NDArray[Any]) -> Ints:
    """A call: of each array, in the order in which it is taken apart below, the length, the width and the address."""
    assert all(array.flags.c_contiguous for array in arrays), "a call is of arrays that lie in one piece"
    words: Ints = _words(arrays)
    return words


@_compiled  # type: ignore[untyped-decorator]
def _words(arrays: Any) -> Any:
    """Compiled because asking numpy for five addresses takes ten times as long."""
    words, at = np.empty(3 * len(arrays), np.int64), 0
    for array in literal_unroll(arrays):
        words[at], words[at + 1], words[at + 2] = array.shape[0], array.shape[-1], address_of(array)
        at += 3
    return words


@lru_cache
def _score_piece(is_mlp: bool, stored: np.dtype[Any]) -> Any:
    like = np.empty(0, stored)

    @cfunc(PIECE, cache=True)  # type: ignore[untyped-decorator]
    def piece(call: Any, start: Any, stop: Any) -> None:
        if is_mlp:  # known when it is compiled: the other is left out
            _score_mlp(like, call, start, stop)
        else:
            _score_linear(like, call, start, stop)

    return piece


@lru_cache
def _project_piece() -> Any:
    return cfunc(PIECE, cache=True)(_project)


@_compiled  # type: ignore[untyped-decorator]
def _taken_apart(call: Any) -> Any:
    """The arrays of a call to score."""
    w = carray(pointer(call), 15, np.int64)
    return (
        carray(pointer(w[2]), (w[0], w[1]), np.int64),
        carray(pointer(w[5]), w[3], np.int64),
        carray(pointer(w[8]), (w[6], w[7]), np.float32),
        carray(pointer(w[11]), w[9], np.int64),
        carray(pointer(w[14]), w[12], np.float32),
    )


@_compiled  # type: ignore[untyped-decorator]
def _first_heads(heads: Any) -> Any:
    """`scale1`, empty where there is none, and `bias1`."""
    lenses, h1 = heads[0], heads[1]
    scaled = lenses if heads[3] else 0
    return (
        carray(pointer(heads[3]), (scaled, h1), np.float32),
        carray(pointer(heads[4]), (lenses, h1), np.float32),
    )


@_compiled  # type: ignore[untyped-decorator]
def _further_heads(heads: Any) -> Any:
    """`weight2` to `bias3`."""
    lenses, h1, h2 = heads[0], heads[1], heads[2]
    return (
        carray(pointer(heads[5]), (lenses, h2, h1), np.float32),
        carray(pointer(heads[6]), (lenses, h2), np.float32),
        carray(pointer(heads[7]), (lenses, h2), np.float32),
        carray(pointer(heads[8]), lenses, np.float32),
    )


@_compiled  # type: ignore[untyped-decorator]
def _score_mlp(like: Any, call: Any, start: Any, stop: Any) -> None:
    """Lenses start..stop of a call of `score_mlp`."""
    table_F7, position_K, states_PC, heads, out = _taken_apart(call)
    scale1, bias1 = _first_heads(heads)
    weight2, bias2, weight3, bias3 = _further_heads(heads)
    columns = states_PC.shape[1]
    h1, h2 = weight2.shape[2], weight2.shape[1]
    stride1, stride2 = size_of(like) * columns, FLOAT_BYTES * h1
    wide = np.empty(_ROWS * max(columns, h1), np.float32)
    end = 0
    for f in range(table_F7.shape[0]):
        family = table_F7[f]
        begin, end = end, end + family[ROWS]
        if end <= start or begin >= stop:
            continue
        states = family[PAIRS]
        states_B, hidden_B = np.empty(states, np.int64), np.empty(states, np.int64)
        _wanted(states_PC, position_K[family[PAIR] : family[PAIR] + states], states_B)
        hidden, second = np.empty((states, h1), np.float32), np.empty((states, h2), np.float32)
        into1, into2 = address_of(hidden), address_of(second)
        for b in range(states):
            hidden_B[b] = into1 + b * stride2
        for row in range(max(start, begin) - begin, min(stop, end) - begin):
            n = family[CONCEPT] + row
            first = family[ADDRESS] + row * h1 * stride1
            _dots(like, first, stride1, h1, states_B, columns, wide, into1, stride2)
            for b in range(states):
                for unit in range(h1):
                    dot = hidden[b, unit]
                    if scale1.size:
                        dot *= scale1[n, unit]
                    hidden[b, unit] = max(dot + bias1[n, unit], np.float32(0))
            second_layer = address_of(weight2) + n * h2 * stride2
            _dots(_FP32, second_layer, stride2, h2, hidden_B, h1, wide, into2, FLOAT_BYTES * h2)
            for b in range(states):
                logit = bias3[n]
                for unit in range(h2):
                    logit += weight3[n, unit] * max(second[b, unit] + bias2[n, unit], np.float32(0))
                out[family[OUT] + b * family[STRIDE] + row] = logit


@_compiled  # type: ignore[untyped-decorator]
def _score_linear(like: Any, call: Any, start: Any, stop: Any) -> None:
    """Lenses start..stop of a call of `score_linear`."""
    table_F7, position_K, states_PC, heads, out = _taken_apart(call)
    scale1, bias1 = _first_heads(heads)
    columns = states_PC.shape[1]
    stride = size_of(like) * columns
    wide = np.empty(_ROWS * columns, np.float32)
    end = 0
    for f in range(table_F7.shape[0]):
        family = table_F7[f]
        begin, end = end, end + family[ROWS]
        first, last = max(start, begin) - begin, min(stop, end) - begin
        if first >= last:
            continue
        states, rows = family[PAIRS], last - first
        states_B, dots_BR = np.empty(states, np.int64), np.empty((states, rows), np.float32)
        _wanted(states_PC, position_K[family[PAIR] : family[PAIR] + states], states_B)
        row, into = family[ADDRESS] + first * stride, address_of(dots_BR)
        _dots(like, row, stride, rows, states_B, columns, wide, into, FLOAT_BYTES * rows)
        for b in range(states):
            for i in range(first, last):
                n = family[CONCEPT] + i
                dot = dots_BR[b, i - first]
                if scale1.size:
                    dot *= scale1[n, 0]
                out[family[OUT] + b * family[STRIDE] + i] = dot + bias1[n, 0]


def _project(call: Any, start: Any, stop: Any) -> None:
    """Rows start..stop of a call of `project`."""
    w = carray(pointer(call), 9, np.int64)
    rows, columns = w[0], w[1]
    states_PD = carray(pointer(w[5]), (w[3], columns), np.float32)
    stride = FLOAT_BYTES * columns
    wide = np.empty(_ROWS * columns, np.float32)
    states_B = np.empty(states_PD.shape[0], np.int64)
    _wanted(states_PD, np.arange(states_PD.shape[0]), states_B)
    row, into = w[2] + start * stride, w[8] + FLOAT_BYTES * start
    _dots(_FP32, row, stride, stop - start, states_B, columns, wide, into, FLOAT_BYTES * rows)
