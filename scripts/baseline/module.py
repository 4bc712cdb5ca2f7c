"""One lens as a `torch.nn.Module`, all in fp32. Knows nothing about files or hierarchies.

Shapes: D hidden size, h1 and h2 the widths, B states.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from lenses.errors import ConfigError
from lenses.lens import Lens
from lenses.pack import LensPack


class LensModule(nn.Module):
    """D-h1-h2-1 with ReLU between, or D-1 where there are no widths."""

    def __init__(self, hidden_size: int, widths: Sequence[int]) -> None:
        super().__init__()
        sizes = [hidden_size, *widths, 1]
        layers: list[nn.Module] = []
        for wide, narrow in pairwise(sizes):
            layers += [nn.Linear(wide, narrow), nn.ReLU()]
        self.net = nn.Sequential(*layers[:-1])

    def forward(self, states_BD: torch.Tensor) -> torch.Tensor:
        """Logits `[B, 1]`."""
        logits_B1: torch.Tensor = self.net(states_BD)
        return logits_B1


def check_kind(pack: LensPack) -> None:
    """Raise ConfigError for a kind of lens that is no module of its own."""
    kind = pack.config.lens.kind
    if kind not in ("mlp", "linear"):
        raise ConfigError(
            f"the baseline has modules for mlp and linear lenses, this pack holds {kind} ones; give another"
        )


def empty_module(pack: LensPack) -> LensModule:
    """A module of the pack's shape without weights: they are put in place as they are read, not copied."""
    with torch.device("meta"):
        return LensModule(pack.config.host.hidden_size, pack.config.lens.widths).eval()


def weights_of(lens: Lens) -> dict[str, torch.Tensor]:
    """The state of a lens's module, in memory of its own."""
    heads = lens.heads
    arrays = [torch.from_numpy(heads.bias1[0])]
    if heads.weight2 is not None and heads.bias2 is not None:
        assert heads.weight3 is not None
        assert heads.bias3 is not None
        later = (heads.weight2[0], heads.bias2[0], heads.weight3, heads.bias3)
        arrays += [torch.from_numpy(array) for array in later]
    tensors = [lens.weight1, *arrays]
    # A view would be saved with all the storage that it is a view of.
    return {
        f"net.{2 * (at // 2)}.{('weight', 'bias')[at % 2]}": tensor.to(torch.float32, copy=True).contiguous()
        for at, tensor in enumerate(tensors)
    }


def module_of(pack: LensPack, index: int) -> LensModule:
    """The module of one concept's lens, straight from the pack."""
    module = empty_module(pack)
    module.load_state_dict(weights_of(pack.lens(index)), assign=True)
    return module
