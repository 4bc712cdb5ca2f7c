"""A directory of one `.pt` state dict a concept, as systems that keep such have it, with random lenses in it.

The modules are given back: plain PyTorch, which an imported pack must score like. Knows nothing of packs.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

MODEL = "owner/host"
"""What pack_info.json calls the host."""


def module(
    seed: int, *, size: int = 32, widths: tuple[int, int] = (8, 4), norm: bool = False
) -> nn.Sequential:
    """A lens as such systems train them, its LayerNorm far from 1 and 0."""
    generator = torch.Generator().manual_seed(seed)
    h1, h2 = widths
    layers: list[nn.Module] = [nn.LayerNorm(size)] if norm else []
    layers += [nn.Linear(size, h1), nn.ReLU(), nn.Dropout(), nn.Linear(h1, h2), nn.ReLU(), nn.Dropout()]
    net = nn.Sequential(*layers, nn.Linear(h2, 1)).eval()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            spread = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread)
            if norm and name == "0.weight":
                parameter.add_(1)
    return net


def save(net: nn.Module, path: Path, *, prefix: str = "net.", dtype: torch.dtype = torch.float32) -> None:
    """Write the state dict of a lens."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({f"{prefix}{name}": value.to(dtype) for name, value in net.state_dict().items()}, path)


def tree_keys(branching: Sequence[int]) -> dict[str, list[str]]:
    """`parent_to_children` of a full tree: `branching[n]` children under every concept of level n - 1."""
    level, found = [f"C{row}:0" for row in range(branching[0])], {}
    for depth, width in enumerate(branching[1:], start=1):
        below = []
        for parent in level:
            name = parent.rpartition(":")[0]
            found[parent] = [f"{name}-{row}:{depth}" for row in range(width)]
            below += found[parent]
        level = below
    return found


def write_directory(
    directory: Path,
    children: Mapping[str, Sequence[str]],
    *,
    norm: bool = False,
    dtype: torch.dtype = torch.float32,
    **sizes: Any,
) -> dict[str, nn.Sequential]:
    """A directory with a lens for every key of a hierarchy; the modules by key.

    Of every two files one is `NAME_classifier.pt`, and of every three one has keys without `net.`.
    """
    keys = dict.fromkeys(key for parent, some in children.items() for key in (parent, *some))
    modules = {}
    for index, key in enumerate(keys):
        name, _, layer = key.rpartition(":")
        modules[key] = module(index, norm=norm, **sizes)
        ending = "_classifier.pt" if index % 2 else ".pt"
        path = directory / f"layer{layer}" / f"{name}{ending}"
        save(modules[key], path, prefix="" if index % 3 == 2 else "net.", dtype=dtype)
        if dtype != torch.float32:
            modules[key].to(dtype).to(torch.float32)  # what was written, in the arithmetic of the reference
    levels = sorted({int(key.rpartition(":")[2]) for key in keys})
    write_hierarchy(directory, children)
    (directory / "pack_info.json").write_text(json.dumps({"model": MODEL, "trained_layers": levels}))
    return modules


def write_hierarchy(directory: Path, children: Mapping[str, Sequence[str]], **more: Any) -> None:
    """Write hierarchy.json."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "hierarchy.json").write_text(json.dumps({"parent_to_children": children, **more}))
