"""AUROC of many lenses at once, and which weights a lens keeps."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lenses.concept import Hierarchy
from lenses.training import Samples
from lenses.training.stack import Stack
from lenses.training.stopping import TOLERANCE, Best, areas


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 9), st.integers(1, 4))
def test_areas_are_shares_of_pairs_in_order(seed: int, positives: int, negatives: int, values: int) -> None:
    rng = np.random.default_rng(seed)
    scores = [
        rng.integers(-values, values + 1, size=(3, n)).astype(np.float32) for n in (positives, negatives)
    ]
    present = [rng.random((3, n)) < 0.7 for n in (positives, negatives)]
    found = areas(*map(torch.from_numpy, (*scores, *present)))
    for n in range(3):
        of = [score[n][there[n]] for score, there in zip(scores, present, strict=True)]
        pairs = [(p > q) + (p == q) / 2 for p in of[0] for q in of[1]]
        expected = float(np.mean(pairs)) if pairs else float("nan")
        assert float(found[n]) == pytest.approx(expected, abs=1e-6, nan_ok=True)


def aim(stack: Stack, states: torch.Tensor, labels: torch.Tensor, worse: float) -> None:
    """Have every lens read the difference of its classes' means, some lenses the other way round."""
    for n in range(len(stack.weights["bias1"])):
        of_class = [states[labels[:, n] == value].mean(dim=0) for value in (True, False)]
        stack.weights["weight1"][n, 0] = (of_class[0] - of_class[1]) * (worse if n % 2 else 1)


def test_each_lens_goes_back_to_its_own_best(hierarchy: Hierarchy, samples: Samples) -> None:
    count, states = len(hierarchy), torch.from_numpy(samples.states_SD)
    labels = torch.from_numpy(samples.positive(slice(None)))
    stack = Stack(count, states.shape[1], (), None, torch.Generator().manual_seed(0), "cpu")
    best = Best(samples, hierarchy, states, stack, 2, np.random.default_rng(0))

    def gather(of: torch.Tensor, index_NB: torch.Tensor) -> torch.Tensor:
        return of[index_NB]

    aim(stack, states, labels, worse=1.0)
    assert best.look(gather)
    good = stack.weights["weight1"].clone()
    aim(stack, states, labels, worse=-1.0)
    stack.weights["weight1"] *= 2  # the same order: as good as before, and later
    assert best.look(gather)
    best.restore()
    kept = stack.weights["weight1"]
    assert torch.equal(kept[1::2], good[1::2])
    assert torch.equal(kept[::2], 2 * good[::2])
    stack.weights["weight1"].neg_()
    assert best.look(gather)
    assert not best.look(gather), "nothing was good for two looks"
    assert TOLERANCE < 0.05
