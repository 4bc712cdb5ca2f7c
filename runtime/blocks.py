"""Where the blocks of a host are, and whether a host can be watched at a site.

The block list is found by structure, not by name, so any transformers decoder will do, nested in a multimodal
model or not. Knows nothing about hooks or lenses.
"""

import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lenses.errors import HostError, PackMismatch
from runtime.plan import ids_of


def blocks_of(model: Any) -> nn.ModuleList:
    """The host's decoder blocks, in order; raises HostError where the model is no transformers decoder."""
    config = getattr(model, "config", None)
    known: bool = isinstance(model, nn.Module) and hasattr(model, "get_decoder")
    if config is None or not known:
        raise HostError(
            f"{type(model).__name__} is no transformers decoder; give a model as AutoModelForCausalLM loads"
        )
    if getattr(config, "is_encoder_decoder", False):
        raise HostError(f"{type(model).__name__} has an encoder and a decoder; only decoders can be watched")
    count = text_config(model).num_hidden_layers
    lists = [
        (name.count("."), module)
        for name, module in model.get_decoder().named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count
    ]
    if not lists:
        raise HostError(
            f"{type(model).__name__} has no list of its {count} blocks; only decoders can be watched"
        )
    # The outermost list, and of several there the heaviest: blocks may hold lists of their own (experts), and
    # a decoder may keep a small module per block beside them.
    outermost = min(depth for depth, _ in lists)
    return max((module for depth, module in lists if depth == outermost), key=_weight)


def _weight(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def text_config(model: Any) -> Any:
    """The configuration of the host's text decoder, which a multimodal host nests."""
    return model.config.get_text_config(decoder=True)


def block_index(site: str) -> int:
    """N of `resid_post.N`; raises HostError for any other spelling."""
    match = re.fullmatch(r"resid_post\.(0|[1-9][0-9]*)", site)
    if match is None:
        raise HostError(
            f"site {site!r} is unknown; expected resid_post.N, the output of block N, counted from 0"
        )
    return int(match.group(1))


def block_at(model: Any, site: str) -> nn.Module:
    """The block whose output the site names; raises HostError where there is none."""
    index = block_index(site)
    blocks = blocks_of(model)
    if index >= len(blocks):
        raise HostError(
            f"site {site} is not in this host: its {len(blocks)} blocks end at resid_post.{len(blocks) - 1}"
        )
    return blocks[index]


def check_watchable(model: Any) -> None:
    """Raise HostError for a model that drops hooks, or whose states overflow."""
    for module in model.modules():
        if "_orig_mod" in module._modules or getattr(module, "_compiled_call_impl", None) is not None:
            raise HostError(
                "the host is compiled by torch.compile, which may drop hooks; give the uncompiled model"
            )
    kind = text_config(model).model_type
    if kind.startswith("gemma3") and any(p.dtype == torch.float16 for p in model.parameters()):
        raise HostError(
            "the host is a Gemma-3 in float16, where its states overflow; load it in bfloat16 or float32"
        )


def check_fits(model: Any, site: str, hidden_size: int) -> None:
    """Raise PackMismatch unless the host has this site and states of this size."""
    index = block_index(site)
    blocks = len(blocks_of(model))
    if index >= blocks:
        raise PackMismatch(
            f"the pack is for site {site}, the host has {blocks} blocks; take the pack of this host"
        )
    found = text_config(model).hidden_size
    if found != hidden_size:
        raise PackMismatch(
            f"the pack is for states of {hidden_size}, the host's have {found}; take the pack of this host"
        )


def host_id(model: Any) -> str | None:
    """The id that the host's configuration gives it, or else where it was loaded from; None if neither."""
    config = model.config
    return getattr(config, "host_id", None) or getattr(config, "_name_or_path", None) or None


def hub_commit(path: Path | None) -> str | None:
    """The commit of the hub's repository that a host's directory is a snapshot of; None where it is none."""
    return path.name if path is not None and path.parent.name == "snapshots" else None


def is_same_host(found: str, wanted: str) -> bool:
    """Whether a host loaded as `found` can be the hub's `wanted`: by id, or as a local copy of its name."""
    if found == wanted:
        return True
    path = Path(found)
    return path.is_dir() and (
        path.name == wanted.rpartition("/")[2] or f"models--{wanted.replace('/', '--')}" in path.parts
    )


def eos_ids_of(model: Any) -> set[int]:
    """Ids that end a sequence when the model generates with its own settings."""
    return ids_of(getattr(getattr(model, "generation_config", None), "eos_token_id", None))
