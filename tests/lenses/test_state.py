"""Input states: normalised in fp32, pooled causally, the same bits one row at a time or all at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lenses.config import InputConfig
from lenses.state import Pool, input_states, normalise

NORMS = ["none", "rms", "layer"]
POOLINGS = ["token", "mean", "ema:0.8", "ewm:0.8"]


def rows(count: int, hidden: int = 24, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(1.0, 3.0, size=(count, hidden)).astype(np.float32)


def test_pools_are_what_their_formulas_say() -> None:
    h = rows(9).astype(np.float64)
    ema = [h[0]]
    for row in h[1:]:
        ema.append(0.8 * ema[-1] + 0.2 * row)
    means = [h[: t + 1].mean(axis=0) for t in range(len(h))]
    weighted = [np.average(h[: t + 1], axis=0, weights=0.8 ** np.arange(t, -1, -1)) for t in range(len(h))]
    by_hand = (("token", h), ("mean", means), ("ema:0.8", ema), ("ewm:0.8", weighted))
    for pooling, expected in by_hand:
        found = input_states(h.astype(np.float32), InputConfig(norm="none", pooling=pooling))
        assert found == pytest.approx(np.array(expected), rel=1e-5, abs=1e-5)


def test_norms_are_what_their_formulas_say() -> None:
    h = rows(5)
    assert normalise(h, InputConfig(norm="none")) is h
    rms = normalise(h, InputConfig(norm="rms", eps=1e-6))
    assert rms == pytest.approx(h / np.sqrt((h**2).mean(axis=1, keepdims=True)), rel=1e-5)
    layer = normalise(h, InputConfig(norm="layer", eps=1e-6))
    expected = (h - h.mean(axis=1, keepdims=True)) / h.std(axis=1, keepdims=True)
    assert layer == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("pooling", POOLINGS)
@given(length=st.integers(1, 40), hidden=st.sampled_from([1, 7, 16, 33, 640]), cut=st.integers(0, 40))
def test_a_state_does_not_depend_on_what_came_with_it_or_after_it(
    norm: str, pooling: str, length: int, hidden: int, cut: int
) -> None:
    config = InputConfig(norm=norm, pooling=pooling)  # type: ignore[arg-type]
    h = rows(length, hidden, seed=length)
    together = input_states(h, config)
    pool = Pool(config)
    one_by_one = np.stack([pool.push(normalise(h[t : t + 1], config)[0]) for t in range(length)])
    assert together.tobytes() == one_by_one.tobytes()
    start = max(1, min(cut, length))
    assert input_states(h[:start], config).tobytes() == together[:start].tobytes()


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_batch_in_step_gives_the_bits_of_each_sequence_alone(pooling: str) -> None:
    config = InputConfig(norm="layer", pooling=pooling)
    batch = rows(6 * 11).reshape(6, 11, -1)
    pool = Pool(config)
    together = np.stack([pool.push(normalise(batch[:, t], config)) for t in range(11)], axis=1)
    for b in range(6):
        assert together[b].tobytes() == input_states(batch[b], config).tobytes()


def test_the_mean_does_not_drift_over_many_rows() -> None:
    config = InputConfig(norm="none", pooling="mean")
    pool = Pool(config)
    h = np.full(4, 0.1, np.float32)
    for _ in range(20_000):
        state = pool.push(h)
    assert state == pytest.approx(h, rel=1e-6)


def test_states_are_fp32() -> None:
    for norm in NORMS:
        for pooling in POOLINGS:
            config = InputConfig(norm=norm, pooling=pooling)  # type: ignore[arg-type]
            assert input_states(rows(3), config).dtype == np.float32
