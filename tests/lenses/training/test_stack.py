"""The stack equals one lens at a time, and its gradients those of autograd."""

import pytest
import torch

from lenses.training.stack import Stack

N, B, K = 3, 8, 6
KINDS = [((5, 4), None), ((), None), ((5, 4), 2)]


def make(widths: tuple[int, ...], rank: int | None) -> Stack:
    rng = torch.Generator().manual_seed(0)
    stack = Stack(N, K, widths, rank, rng, "cpu")
    for weight in stack.weights.values():
        weight.copy_(torch.randn(weight.shape, generator=rng))
    return stack


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def plain_scores(of: dict[str, torch.Tensor], states_NBK: torch.Tensor) -> torch.Tensor:
    """[N, B] logits, one lens and one state at a time."""
    rows, samples = [], states_NBK.shape[1]
    for n in range(N):
        for state in states_NBK[n]:
            read = of["projection"] @ state if "projection" in of else state
            hidden = of["weight1"][n] @ read + of["bias1"][n]
            if "weight2" not in of:
                rows.append(hidden[0])
                continue
            hidden = torch.relu(of["weight2"][n] @ torch.relu(hidden) + of["bias2"][n])
            rows.append(of["weight3"][n] @ hidden + of["bias3"][n])
    return torch.stack(rows).view(N, samples)


@pytest.mark.parametrize("parts", [[(N, B, K)], [(B, K)], [(4, K), (N, B, K)]])
@pytest.mark.parametrize(("widths", "rank"), KINDS)
def test_scores_and_gradients_are_those_of_autograd(
    widths: tuple[int, ...], rank: int | None, parts: list[tuple[int, ...]]
) -> None:
    stack, states = make(widths, rank), [draw(*shape) for shape in parts]
    states_NBK = torch.cat([some.expand(N, *some.shape[-2:]) for some in states], dim=1)
    slope_NB = draw(N, states_NBK.shape[1])
    leaves = {name: weight.clone().requires_grad_() for name, weight in stack.weights.items()}
    expected = plain_scores(leaves, states_NBK)
    (expected * slope_NB).sum().backward()
    for _ in range(2):  # what the first call left must not show in the second
        torch.testing.assert_close(stack.score(*states), expected.detach(), rtol=1e-4, atol=1e-5)
        stack.backward(slope_NB)
    for name, leaf in leaves.items():
        torch.testing.assert_close(stack.weights[name].grad, leaf.grad, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("widths", [(5, 4), ()])
def test_it_begins_with_the_linear_lenses_it_is_given(widths: tuple[int, ...]) -> None:
    rng = torch.Generator().manual_seed(2)
    stack = Stack(N, K, widths, None, rng, "cpu")
    states_NBK = torch.randn(N, B, K, generator=rng)
    weight_NK, bias_N = torch.randn(N, K, generator=rng), torch.randn(N, generator=rng)
    stack.begin_with(weight_NK, bias_N)
    expected = torch.einsum("nbk,nk->nb", states_NBK, weight_NK) + bias_N[:, None]
    torch.testing.assert_close(stack.score(states_NBK), expected, rtol=1e-4, atol=1e-5)


def test_compact_and_very_narrow_lenses_cannot_begin_linear() -> None:
    assert make((5, 4), None).can_begin_linear
    assert make((), None).can_begin_linear
    assert not make((5, 1), None).can_begin_linear
    assert not make((5, 4), 2).can_begin_linear
