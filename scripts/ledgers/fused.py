"""A host whose attention computes queries, keys and values in one product, as long as a `with` lasts.

Every attention calls its three projections one after another on the same input. The first is replaced by one Linear of
all three's rows, which hands out its own part and keeps the others for the calls that follow. Attention itself stays as
it is, so this knows no class of host, only the names `q_proj`, `k_proj`, `v_proj`.

The same sums are made, but a wider product may add them up in another order: the host then differs in its last bits.

Shapes: D hidden size, Q, K and V the widths of the three.
"""

from typing import Any, Self

import torch
from torch import nn

from lenses.errors import HostError

_NAMES = ("q_proj", "k_proj", "v_proj")


class FusedQKV:
    """Fuses a host on entering and gives it back as it was; holds one copy of what it fused."""

    def __init__(self, model: Any) -> None:
        """Make the fused weights; the host is not touched yet. Raises HostError where there is nothing to fuse."""
        self._attentions = [
            (module, _modules(module, tuple(getattr(module, name) for name in _NAMES)))
            for module in model.modules()
            if all(isinstance(getattr(module, name, None), nn.Linear) for name in _NAMES)
        ]
        if not self._attentions:
            raise HostError(
                f"{type(model).__name__} has no attention with {', '.join(_NAMES)}; fuse a host that has"
            )
        self._before: list[dict[str, nn.Module]] = []

    def __enter__(self) -> Self:
        self._before = [
            {name: getattr(attention, name) for name in _NAMES} for attention, _ in self._attentions
        ]
        for attention, fused in self._attentions:
            for name, module in zip(_NAMES, fused, strict=True):
                setattr(attention, name, module)
        return self

    def __exit__(self, *_: object) -> None:
        for (attention, _fused), before in zip(self._attentions, self._before, strict=True):
            for name, module in before.items():
                setattr(attention, name, module)


class _First(nn.Module):
    """All three projections, called as the first of them."""

    def __init__(self, projections: tuple[nn.Linear, ...]) -> None:
        super().__init__()
        # [Q + K + V, D]
        self.weight = torch.cat([projection.weight.detach() for projection in projections])
        biases = [projection.bias for projection in projections]
        self.bias = None if biases[0] is None else torch.cat([bias.detach() for bias in biases])
        self._widths = [projection.out_features for projection in projections]
        self.rest: list[torch.Tensor] = []
        """What was computed for the calls that follow."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        fused = nn.functional.linear(inputs, self.weight, self.bias)
        first, *self.rest = torch.split(fused, self._widths, dim=-1)
        return first


class _Next(nn.Module):
    """One of the projections that follow: hands out what the first has computed."""

    def __init__(self, first: _First) -> None:
        super().__init__()
        self._first = (first,)  # in a tuple, or it would be a part of this module, too

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self._first[0].rest.pop(0)


def _modules(attention: nn.Module, projections: tuple[nn.Linear, ...]) -> tuple[nn.Module, ...]:
    if len({projection.bias is None for projection in projections}) > 1:
        raise HostError(
            f"{type(attention).__name__} has a bias in some of {', '.join(_NAMES)} and not in others; fuse a "
            "host that has it in all or none"
        )
    first = _First(projections)
    return first, _Next(first), _Next(first)
