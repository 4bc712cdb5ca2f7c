"""Sums of many vectors have the bits of the sum of one, and products are rounded alike in every lane."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from lenses.vectors import LANES, address_of, fma, load, size_of, store, store_totals, total, zero

FP32 = np.empty(0, np.float32)


@njit
def vector(numbers, i):
    return load(FP32, address_of(numbers) + 4 * LANES * i)


@njit
def totals(numbers, one_by_one, together):
    a, b, c, d = vector(numbers, 0), vector(numbers, 1), vector(numbers, 2), vector(numbers, 3)
    e, f, g, h = vector(numbers, 4), vector(numbers, 5), vector(numbers, 6), vector(numbers, 7)
    for i, one in enumerate((a, b, c, d, e, f, g, h)):
        one_by_one[i] = total(one)
    store_totals(address_of(together), (a, b, c, d, e, f, g, h))
    return numbers.size + together.size  # both are named to the end, so that their memory lives


@njit
def products(a, b, c, out):
    store(
        address_of(out), fma(load(FP32, address_of(a)), load(FP32, address_of(b)), load(FP32, address_of(c)))
    )
    return a.size + b.size + c.size + out.size


@njit
def sizes(a, b, c):
    return size_of(a), size_of(b), size_of(c), total(zero())


@settings(deadline=None)  # the first call compiles
@given(st.integers(0, 2**32 - 1))
def test_totals_together_are_totals_one_by_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    numbers = (rng.normal(size=8 * LANES) * 10.0 ** rng.integers(-6, 6, 8 * LANES)).astype(np.float32)
    one_by_one, together = np.zeros(8, np.float32), np.zeros(8, np.float32)
    totals(numbers, one_by_one, together)
    assert one_by_one.tobytes() == together.tobytes()
    for sum_, part in zip(one_by_one, numbers.reshape(8, LANES), strict=True):
        while len(part) > 1:
            part = part[: len(part) // 2] + part[len(part) // 2 :]  # halves onto halves
        assert sum_ == part[0]


def test_products_are_rounded_alike_in_every_lane() -> None:
    rng = np.random.default_rng(0)
    a, b, c = (rng.normal(size=LANES).astype(np.float32) for _ in range(3))
    out = np.zeros(LANES, np.float32)
    products(a, b, c, out)
    once = (a.astype(np.float64) * b + c).astype(np.float32)
    assert out.tobytes() in (once.tobytes(), (a * b + c).tobytes())


def test_sizes_are_known() -> None:
    arrays = (np.empty(0, kind) for kind in (np.float32, np.uint16, np.int8))
    assert sizes(*arrays) == (4, 2, 1, 0.0)
