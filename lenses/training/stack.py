"""N lenses side by side, each on samples of its own: scores, and gradients by hand.

Autograd would do the same. It gives every gradient new memory, hundreds of megabytes a step that the system has to
clear first, which takes longer than the arithmetic; here all large arrays are made once. `tests` hold it against
autograd.

    mlp      l = w3 · relu(W2 relu(W1 z + b1) + b2) + b3
    linear   l = W1 z + b1
    compact  an mlp of P z

Shapes: N lenses, B samples that a lens sees, K coordinates, R rows of the projection, C columns of W1 (R or K), h1 and
h2 widths.
"""

import math

import torch


class Stack:
    """Weights of N lenses and the arrays that training them needs, for B samples at a time."""

    def __init__(
        self,
        lenses: int,
        coordinates: int,
        widths: tuple[int, ...],
        rank: int | None,
        batch: int,
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
            self._hidden2 = zeros(lenses, batch, h2)
            self._back2 = zeros(lenses, batch, h2)
        self._gradients = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}
        for name, weight in self.weights.items():
            weight.grad = self._gradients[name]
        self._hidden1 = zeros(lenses, batch, h1)
        self._back1 = zeros(lenses, batch, h1)
        self._read = torch.empty(0)

    def begin_with(self, weight_NK: torch.Tensor, bias_N: torch.Tensor) -> None:
        """Have every lens compute `weight · z + bias` before it is trained, where it can."""
        carry_linear(self.weights, weight_NK, bias_N)

    @property
    def can_begin_linear(self) -> bool:
        """Whether `begin_with` can hold: no shared projection, and two units in each hidden layer."""
        narrowest = 2 if self.is_linear else min(self._hidden1.shape[2], self._hidden2.shape[2])
        return "projection" not in self.weights and narrowest >= 2

    @property
    def is_linear(self) -> bool:
        """Whether there is one layer only."""
        return "weight2" not in self.weights

    def score(self, states_NBK: torch.Tensor) -> torch.Tensor:
        """[N, B] logits; what they came from is kept for `backward`."""
        of = self.weights
        self._read = states_NBK @ of["projection"].T if "projection" in of else states_NBK
        hidden1 = torch.baddbmm(
            of["bias1"][:, None], self._read, of["weight1"].transpose(1, 2), out=self._hidden1
        )
        if self.is_linear:
            return hidden1[:, :, 0].clone()
        hidden1.relu_()
        hidden2 = torch.baddbmm(
            of["bias2"][:, None], hidden1, of["weight2"].transpose(1, 2), out=self._hidden2
        )
        hidden2.relu_()
        return torch.bmm(hidden2, of["weight3"][:, :, None])[:, :, 0] + of["bias3"][:, None]

    def backward(self, states_NBK: torch.Tensor, slope_NB: torch.Tensor) -> None:
        """Gradients of a loss whose slope by the last logits is `slope_NB`; they replace those there were."""
        of, to = self.weights, self._gradients
        if self.is_linear:
            back1 = slope_NB[:, :, None]
        else:
            torch.bmm(slope_NB[:, None], self._hidden2, out=to["weight3"][:, None])
            torch.sum(slope_NB, dim=1, out=to["bias3"])
            back2 = torch.mul(slope_NB[:, :, None], of["weight3"][:, None], out=self._back2)
            back2 *= self._hidden2 > 0
            torch.bmm(back2.transpose(1, 2), self._hidden1, out=to["weight2"])
            torch.sum(back2, dim=1, out=to["bias2"])
            back1 = torch.bmm(back2, of["weight2"], out=self._back1)
            back1 *= self._hidden1 > 0
        torch.bmm(back1.transpose(1, 2), self._read, out=to["weight1"])
        torch.sum(back1, dim=1, out=to["bias1"])
        if "projection" in of:
            back0 = torch.bmm(back1, of["weight1"])
            torch.mm(back0.flatten(0, 1).T, states_NBK.flatten(0, 1), out=to["projection"])


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
