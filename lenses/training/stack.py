"""N lenses side by side, each on samples of its own: scores, and gradients by hand.

Autograd would do the same. It gives every gradient new memory, hundreds of megabytes a step that the system has to
clear first, which takes longer than the arithmetic; here all large arrays are made once. `tests` hold it against
autograd.

Samples come in parts. A part that all lenses see is `[B, K]` and costs one matrix product for all of them together,
which a processor does many times faster than as many samples of each lens's own, `[N, B, K]`.

    mlp      l = w3 · relu(W2 relu(W1 z + b1) + b2) + b3
    linear   l = W1 z + b1
    compact  an mlp of P z

Shapes: N lenses, B samples that a lens sees, K coordinates, R rows of the projection, C columns of W1 (R or K), h1 and
h2 widths.
"""

import math
from dataclasses import dataclass

import torch


class Stack:
    """Weights of N lenses and the arrays that training them needs."""

    def __init__(
        self,
        lenses: int,
        coordinates: int,
        widths: tuple[int, ...],
        rank: int | None,
        rng: torch.Generator,
        device: torch.device | str,
    ) -> None:
        def normal(*shape: int, fan_in: int) -> torch.Tensor:
            return torch.randn(*shape, generator=rng).to(device) * math.sqrt(2 / fan_in)

        def zeros(*shape: int) -> torch.Tensor:
            return torch.zeros(*shape, device=device)

        columns = coordinates if rank is None else rank
        h1 = widths[0] if widths else 1
        self.weights: dict[str, torch.Tensor] = {}
        """By their names in `Heads`, and `weight1` `[N, h1, C]`; each has its gradient in `.grad` after `backward`."""
        if rank is not None:
            self.weights["projection"] = normal(rank, coordinates, fan_in=2 * coordinates)
        self.weights["weight1"] = (
            normal(lenses, h1, columns, fan_in=columns) if widths else zeros(lenses, 1, columns)
        )
        self.weights["bias1"] = zeros(lenses, h1)
        if widths:
            h2 = widths[1]
            self.weights["weight2"] = normal(lenses, h2, h1, fan_in=h1)
            self.weights["bias2"] = zeros(lenses, h2)
            self.weights["weight3"] = normal(lenses, h2, fan_in=h2)
            self.weights["bias3"] = zeros(lenses)
        self._gradients = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}
        for name, weight in self.weights.items():
            weight.grad = self._gradients[name]
        self._arrays: dict[tuple[str, int], torch.Tensor] = {}
        self._seen: list[_Seen] = []

    def begin_with(self, weight_NK: torch.Tensor, bias_N: torch.Tensor) -> None:
        """Have every lens compute `weight · z + bias` before it is trained, where it can."""
        carry_linear(self.weights, weight_NK, bias_N)

    @property
    def can_begin_linear(self) -> bool:
        """Whether `begin_with` can hold: no shared projection, and two units in each hidden layer."""
        narrowest = 2 if self.is_linear else min(self.weights["weight2"].shape[1:])
        return "projection" not in self.weights and narrowest >= 2

    @property
    def is_linear(self) -> bool:
        """Whether there is one layer only."""
        return "weight2" not in self.weights

    def score(self, *parts: torch.Tensor) -> torch.Tensor:
        """[N, B] logits of all parts, each `[B, K]` or `[N, B, K]`; what they came from is kept for `backward`."""
        self._seen = [self._see(states) for states in parts]
        if self.is_linear:
            return torch.cat([seen.hidden1_NHB[:, 0] for seen in self._seen], dim=1)
        weight3, bias3 = self.weights["weight3"][:, None], self.weights["bias3"][:, None]
        return torch.cat([torch.bmm(weight3, seen.hidden2_NHB)[:, 0] for seen in self._seen], dim=1) + bias3

    def backward(self, slope_NB: torch.Tensor) -> None:
        """Gradients of a loss whose slope by the last logits is `slope_NB`; they replace those there were."""
        counts = [seen.states.shape[-2] for seen in self._seen]
        for at, (seen, slope) in enumerate(
            zip(self._seen, torch.split(slope_NB, counts, dim=1), strict=True)
        ):
            self._go_back(seen, slope.contiguous(), kept=min(at, 1))

    def _see(self, states: torch.Tensor) -> "_Seen":
        of = self.weights
        read = states @ of["projection"].T if "projection" in of else states
        hidden1_NHB = self._array("hidden1", of["bias1"], states)
        if read.ndim == 2:
            bias, weight = of["bias1"].flatten(), of["weight1"].flatten(0, 1)
            torch.addmm(bias[:, None], weight, read.T, out=hidden1_NHB.flatten(0, 1))
        else:
            torch.baddbmm(of["bias1"][:, :, None], of["weight1"], read.transpose(1, 2), out=hidden1_NHB)
        if self.is_linear:
            return _Seen(states, read, hidden1_NHB, torch.empty(0))
        hidden1_NHB.relu_()
        hidden2_NHB = self._array("hidden2", of["bias2"], states)
        torch.baddbmm(of["bias2"][:, :, None], of["weight2"], hidden1_NHB, out=hidden2_NHB)
        return _Seen(states, read, hidden1_NHB, hidden2_NHB.relu_())

    def _go_back(self, seen: "_Seen", slope_NB: torch.Tensor, kept: int) -> None:
        """Gradients of one part; with `kept` 1 they are added to those there are, with 0 they replace them."""
        of, to = self.weights, self._gradients

        def add(name: str, value: torch.Tensor) -> None:
            to[name].mul_(kept).add_(value)

        if self.is_linear:
            back1_NHB = slope_NB[:, None]
        else:
            add("weight3", torch.bmm(seen.hidden2_NHB, slope_NB[:, :, None])[:, :, 0])
            add("bias3", slope_NB.sum(dim=1))
            back2_NHB = self._array("back2", of["bias2"], seen.states)
            torch.mul(slope_NB[:, None], of["weight3"][:, :, None], out=back2_NHB)
            _through_relu(back2_NHB, seen.hidden2_NHB)
            to["weight2"].baddbmm_(back2_NHB, seen.hidden1_NHB.transpose(1, 2), beta=kept)
            add("bias2", back2_NHB.sum(dim=2))
            back1_NHB = self._array("back1", of["bias1"], seen.states)
            torch.bmm(of["weight2"].transpose(1, 2), back2_NHB, out=back1_NHB)
            _through_relu(back1_NHB, seen.hidden1_NHB)
        add("bias1", back1_NHB.sum(dim=2))
        if seen.read.ndim == 2:
            to["weight1"].flatten(0, 1).addmm_(back1_NHB.flatten(0, 1), seen.read, beta=kept)
        else:
            to["weight1"].baddbmm_(back1_NHB, seen.read, beta=kept)
        if "projection" not in of:
            return
        if seen.read.ndim == 2:
            back0_RB = of["weight1"].flatten(0, 1).T @ back1_NHB.flatten(0, 1)
            to["projection"].addmm_(back0_RB, seen.states, beta=kept)
        else:
            back0_NBR = torch.bmm(back1_NHB.transpose(1, 2), of["weight1"])
            to["projection"].addmm_(back0_NBR.flatten(0, 1).T, seen.states.flatten(0, 1), beta=kept)

    def _array(self, name: str, bias_NH: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        """[N, H, B] memory for the units of a layer, used again for as many samples."""
        key = name, states.shape[-2]
        if key not in self._arrays:
            self._arrays[key] = bias_NH.new_empty(*bias_NH.shape, states.shape[-2])
        return self._arrays[key]


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one part of the samples gave on its way through the lenses; H units of a layer."""

    states: torch.Tensor
    read: torch.Tensor
    """What first layers read: the states, or their projections."""
    hidden1_NHB: torch.Tensor
    hidden2_NHB: torch.Tensor


def _through_relu(back: torch.Tensor, hidden: torch.Tensor) -> None:
    """Nothing goes back through a unit that gave 0; in place, in one pass."""
    torch.ops.aten.threshold_backward.grad_input(back, hidden, 0, grad_input=back)


def carry_linear(weights: dict[str, torch.Tensor], weight_NC: torch.Tensor, bias_N: torch.Tensor) -> None:
    """Set weights of N lenses, by name, so that each computes `weight · x + bias`.

    Of an mlp two units carry the value, one where it is positive and one where it is negative, each through its own
    unit of the second layer. All others are left as they are, ready to learn, and add nothing.
    """
    if "weight2" not in weights:
        weights["weight1"][:, 0], weights["bias1"][:, 0] = weight_NC, bias_N
        return
    length_N = weight_NC.norm(dim=1).clamp(min=1e-6)
    for unit, sign in ((0, 1.0), (1, -1.0)):
        weights["weight1"][:, unit] = sign * weight_NC / length_N[:, None]
        weights["bias1"][:, unit] = sign * bias_N / length_N
        weights["weight2"][:, unit] = 0.0
        weights["weight2"][:, unit, unit] = 1.0
        weights["bias2"][:, unit] = 0.0
    weights["weight3"].zero_()
    weights["weight3"][:, 0], weights["weight3"][:, 1] = length_N, -length_N
    weights["bias3"].zero_()
