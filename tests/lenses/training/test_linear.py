"""Linear lenses in closed form: equal to solving for them one at a time, and able to tell concepts apart."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lenses.concept import Hierarchy
from lenses.lens import Lens
from lenses.training import Samples, fit_linear


@pytest.mark.parametrize(("shrinkage", "sibling_weight"), [(0.3, 4.0), (0.01, 1.0)])
def test_it_equals_solving_for_one_lens_at_a_time(
    hierarchy: Hierarchy, samples: Samples, shrinkage: float, sibling_weight: float
) -> None:
    trained = fit_linear(samples, hierarchy, shrinkage=shrinkage, sibling_weight=sibling_weight)
    states = samples.states_SD.astype(np.float64)
    covariance = np.cov(states.T, bias=True)
    covariance = (1 - shrinkage) * covariance + shrinkage * np.diag(np.diag(covariance))
    positive_SN = samples.positive(slice(None))
    for n, concept in enumerate(hierarchy):
        positive = positive_SN[:, n]
        weight = np.ones(len(states))
        if concept.parent is not None:
            weight[positive_SN[:, hierarchy.index(concept.parent)]] = sibling_weight
        mean = states[positive].mean(axis=0)
        other = np.average(states[~positive], axis=0, weights=weight[~positive])
        expected = np.linalg.solve(covariance, mean - other)
        offset = -expected @ (mean + other) / 2
        found = trained.first_layers[concept.family][concept.row].numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
        logit = Lens.of(concept, torch.from_numpy(found)[None], trained.heads, n).logit
        for state in states[:5]:
            assert logit(torch.from_numpy(state)) == pytest.approx(state @ expected + offset, abs=2e-3)


def test_chunks_do_not_show(hierarchy: Hierarchy, samples: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fit_linear(samples, hierarchy)
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr("lenses.training.samples.CHUNK", 500)
    pieces = fit_linear(samples, hierarchy, progress=lambda done, of: seen.append((done, of)))
    assert seen == [(500, 1800), (1000, 1800), (1500, 1800), (1800, 1800)]
    for one, other in zip(whole.first_layers, pieces.first_layers, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_concept_without_texts_has_a_lens_that_says_nothing(hierarchy: Hierarchy, samples: Samples) -> None:
    rare = hierarchy.concepts[hierarchy.index("b.2")]
    without = samples.positive_XN.copy()
    without[:, hierarchy.index("b.2")] = False
    trained = fit_linear(replace(samples, positive_XN=without), hierarchy)
    assert not trained.first_layers[rare.family][rare.row].any()
    assert trained.heads.bias1[hierarchy.index("b.2")] == 0
    assert all(torch.isfinite(layer).all() for layer in trained.first_layers)
