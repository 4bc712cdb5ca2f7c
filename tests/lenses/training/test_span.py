"""The coordinates of training: what they keep, and the way back."""

from dataclasses import replace

import numpy as np
import torch

from lenses.training import Samples
from lenses.training.span import Span


def test_folded_weights_say_of_plain_states_what_they_said_of_coordinates(samples: Samples) -> None:
    for size in (5, 24):
        span = Span.of(samples, size, 0)
        weight_MK = torch.randn(7, size, generator=torch.Generator().manual_seed(0))
        folded, at_mean = span.fold(weight_MK)
        expected = span.coordinates(samples) @ weight_MK.T
        found = torch.from_numpy(samples.states_SD) @ folded.T - at_mean
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_states_of_few_numbers_are_standardised(samples: Samples) -> None:
    found = Span.of(samples, 24, 0).coordinates(samples).numpy()
    states = samples.states_SD
    np.testing.assert_allclose(found, (states - states.mean(axis=0)) / states.std(axis=0), atol=1e-4)


def test_a_smaller_span_keeps_the_widest_directions_of_standardised_states(samples: Samples) -> None:
    # One number a thousand times as wide as the others is one direction among them, and does not take the place of all.
    states = samples.states_SD * np.array([1000.0] + [1.0] * 23, np.float32)
    found = Span.of(replace(samples, states_SD=states), 6, 0).coordinates(
        samples=replace(samples, states_SD=states)
    )
    standard = (states - states.mean(axis=0)) / states.std(axis=0)
    values = np.linalg.svd(standard, compute_uv=False)
    kept = np.linalg.svd(found.numpy(), compute_uv=False)
    np.testing.assert_allclose(kept / kept[0], values[:6] / values[0], rtol=1e-3)
    assert abs(float(found.square().mean()) - 1) < 1e-3
