"""A row of int8 and its scale stand for the row to within half a scale, and a zero stays a zero."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from lenses.quantise import are_scales, dequantise_rows, quantise_rows

# Up to the largest weight that int8 can say: 127 scales of fp32's largest number / 128.
weights = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=2, max_side=6),
    elements=st.floats(-(2.0**127), 2.0**127, width=32),
)


@given(weights)
def test_a_weight_comes_back_to_within_half_a_scale(weights_RC: np.ndarray) -> None:
    stored_RC, scale_R = quantise_rows(torch.from_numpy(weights_RC))
    assert (stored_RC.dtype, scale_R.dtype) == (torch.int8, torch.float32)
    assert int(stored_RC.min()) >= -127
    assert are_scales(scale_R.numpy()).all()
    back_RC = dequantise_rows(stored_RC, scale_R).double()
    error_RC = (back_RC - torch.from_numpy(weights_RC).double()).abs()
    # What is beyond the half is the rounding of a quotient of up to 127 in fp32.
    assert (error_RC <= scale_R.double()[:, None] * (0.5 + 128 * 2**-23)).all()


@given(weights)
def test_the_largest_weight_of_a_row_takes_the_whole_range(weights_RC: np.ndarray) -> None:
    stored_RC, _ = quantise_rows(torch.from_numpy(weights_RC))
    peak_R = np.abs(weights_RC).max(axis=1)
    normal = peak_R > 127 * float(np.finfo(np.float32).tiny)
    assert (stored_RC.numpy().astype(int).__abs__().max(axis=1)[normal] == 127).all()


@given(weights)
def test_the_other_sign_is_stored_with_the_other_sign(weights_RC: np.ndarray) -> None:
    stored_RC, scale_R = quantise_rows(torch.from_numpy(weights_RC))
    mirrored_RC, mirrored_R = quantise_rows(torch.from_numpy(-weights_RC))
    assert torch.equal(mirrored_RC, -stored_RC)
    assert torch.equal(mirrored_R, scale_R)


@given(weights)
def test_what_was_stored_is_stored_again_as_it_is(weights_RC: np.ndarray) -> None:
    stored_RC, scale_R = quantise_rows(torch.from_numpy(weights_RC))
    again_RC, _ = quantise_rows(dequantise_rows(stored_RC, scale_R))
    normal = scale_R > torch.finfo(torch.float32).tiny
    assert torch.equal(again_RC[normal], stored_RC[normal])


def test_a_row_of_zeros_has_scale_one_and_halves_round_to_even() -> None:
    stored_RC, scale_R = quantise_rows(torch.tensor([[0.0, 0.0, -0.0], [127.0, 0.5, -1.5]]))
    assert scale_R.tolist() == [1.0, 1.0]
    assert stored_RC.tolist() == [[0, 0, 0], [127, 0, -2]]


def test_each_row_has_its_own_scale() -> None:
    _, scale_R = quantise_rows(torch.tensor([[127.0, 1.0], [-254.0, 3.0]]))
    assert scale_R.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), torch.finfo(torch.float32).max])
def test_a_weight_that_int8_cannot_say_gives_a_scale_that_is_none(value: float) -> None:
    _, scale_R = quantise_rows(torch.tensor([[1.0, value], [1.0, 2.0]]))
    assert are_scales(scale_R.numpy()).tolist() == [False, True]


def test_a_scale_is_above_zero_and_finite_times_every_int8() -> None:
    largest = np.finfo(np.float32).max / 128
    numbers = np.array([1e-45, 1.0, largest, largest * 1.001, 0.0, -1.0, np.nan, np.inf], np.float32)
    assert are_scales(numbers).tolist() == [True, True, True, False, False, False, False, False]
    assert np.isfinite(numbers[:3] * np.float32(-128)).all()
