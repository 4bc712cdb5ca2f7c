"""Ridge regression from sums, against the textbook's formula."""

import torch
from judging.ridge import Moments


def test_sums_gathered_in_pieces_give_the_textbooks_weights() -> None:
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(60, 5, generator=rng) + 3
    labels = torch.rand(60, 2, generator=rng) < 0.3
    moments = Moments(5, 2)
    moments.add(features[:17], labels[:17])
    moments.add(features[17:], labels[17:])
    centred = (features - features.mean(dim=0)).double()
    target = (labels.double() - labels.double().mean(dim=0)).double()
    gram = centred.T @ centred
    gram += 0.1 * gram.diagonal().mean() * torch.eye(5)
    torch.testing.assert_close(
        moments.solve(0.1).double(), torch.linalg.solve(gram, centred.T @ target), atol=1e-4, rtol=1e-3
    )


def test_a_feature_that_never_varies_does_no_harm() -> None:
    moments = Moments(2, 1)
    moments.add(torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]]), torch.tensor([[False], [False], [True]]))
    weights = moments.solve(1e-3)
    assert weights[0, 0] > 0
    assert weights[1, 0] == 0
