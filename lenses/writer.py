"""Writing the files of a pack. The only user of safetensors.

It fills a directory that is not yet seen under its name, and knows nothing of how it gets there. safetensors
sorts by dtype and then name: family names have leading zeros, so that families lie in depth-first order.

Shapes: N concepts, h1 the width of the first layer, C columns of a first layer (D, or R of compact).
"""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from lenses.concept import Hierarchy
from lenses.config import CARD, CONCEPTS, CONFIG, FAMILIES, HEADS, HOST, LensConfig
from lenses.contents import tensor_name, title
from lenses.errors import ConfigError, PackFormatError, PackIntegrityError, WriteError
from lenses.lens import Heads
from lenses.memory import give_back
from lenses.quantise import are_scales, quantise_rows
from lenses.store import save_tensors, sha256_of
from lenses.text import canonical_json, one_line, quoted

TORCH_DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32, "int8": torch.int8}
_LARGE_BYTES = 1 << 20
"""Of a family from which on what its making took is worth handing back."""
_MAX_FAMILIES_A_SHARD = 50_000  # a header entry takes about 100 bytes, and headers are at most 8 MB


def write_files(
    directory: Path,
    *,
    hierarchy: Hierarchy,
    first_layers: Sequence[torch.Tensor],
    heads: Heads,
    lens: LensConfig,
    hidden_size: int,
    max_shard_bytes: int,
    progress: Callable[[int], None],
) -> LensConfig:
    """Writes lens files, families.json, heads and concepts into `directory`; returns `lens`, shards counted.

    Of `first_layers` each item is taken once, in order, and let go when its file is written. For int8, `heads` without
    scales get those of the rows that are quantised here. Raises PackFormatError or PackIntegrityError for a first layer
    that does not fit, WriteError, OSError.
    """
    if len(first_layers) != len(hierarchy.families):
        raise PackFormatError(
            f"{len(first_layers)} first layers for {len(hierarchy.families)} families; give one tensor a "
            "family"
        )
    columns = lens.columns(hidden_size)
    row_bytes = lens.h1 * columns * TORCH_DTYPES[lens.dtype].itemsize
    shards = _split([family.rows * row_bytes for family in hierarchy.families], max_shard_bytes)
    lens = replace(lens, shards=len(shards))
    entries: list[bytes] = []
    scales: list[torch.Tensor] = []
    for file, indices in zip(lens.shard_names, shards, strict=True):
        tensors: dict[str, torch.Tensor] = {}
        for index in indices:
            rows = hierarchy.families[index].rows
            shape, name = (rows * lens.h1, columns), title(hierarchy, index)
            if lens.dtype == "int8" and heads.scale1 is None:
                layer, scale_R = _quantised(first_layers[index], shape, name)
                scales.append(scale_R)
            else:
                layer = _as_stored(first_layers[index], shape, lens, name)
            tensors[tensor_name(index)] = layer
            digest = sha256_of(layer.view(-1).view(torch.uint8))
            entry = {"file": file, "tensor": tensor_name(index), "rows": rows, "sha256": digest}
            entries.append(canonical_json(entry))
            if layer.nbytes >= _LARGE_BYTES:
                give_back()
            progress(len(entries))
        save_tensors(tensors, directory / file)
        del tensors, layer  # before the next file's are made, not after
    if scales:
        heads = replace(heads, scale1=torch.cat(scales).view(-1, lens.h1).numpy())
    # Copies of what is read-only, because torch has no tensors over such memory.
    arrays = heads.tensors().items()
    save_tensors({k: torch.from_numpy(np.require(v, None, ["C", "W"])) for k, v in arrays}, directory / HEADS)
    (directory / CONCEPTS).write_bytes(hierarchy.to_jsonl())
    (directory / FAMILIES).write_bytes(b"[\n" + b",\n".join(entries) + b"\n]\n")
    return lens


def _split(sizes: Sequence[int], max_bytes: int) -> list[list[int]]:
    """Families in order, cut into runs of at most `max_bytes`.

    A family that is larger has a run of its own.
    """
    runs: list[list[int]] = []
    room = 0
    for index, size in enumerate(sizes):
        if not runs or size > room or len(runs[-1]) == _MAX_FAMILIES_A_SHARD:
            runs.append([])
            room = max_bytes
        runs[-1].append(index)
        room -= size
    return runs


def _as_stored(layer: torch.Tensor, shape: tuple[int, int], lens: LensConfig, title: str) -> torch.Tensor:
    _check(layer, shape, lens.dtype == "int8", title)
    stored = layer.detach().to("cpu", TORCH_DTYPES[lens.dtype]).contiguous()
    if stored.untyped_storage().nbytes() != stored.nbytes:
        stored = stored.clone()  # safetensors refuses tensors that share memory, as slices of one stack do
    if not bool(torch.isfinite(stored).all()):
        raise PackIntegrityError(f"{title} holds weights that are not finite in {lens.dtype}; train it again")
    return stored


def _quantised(layer: torch.Tensor, shape: tuple[int, int], title: str) -> tuple[torch.Tensor, torch.Tensor]:
    _check(layer, shape, False, title)
    stored, scale_R = quantise_rows(layer.detach().to("cpu"))
    if not are_scales(scale_R.numpy()).all():
        raise PackIntegrityError(f"{title} holds weights that are not finite in int8; train it again")
    return stored.contiguous(), scale_R


def _check(layer: torch.Tensor, shape: tuple[int, int], has_scales: bool, title: str) -> None:
    """Raises PackFormatError unless the layer has this shape, and is int8 where the heads hold its scales."""
    if tuple(layer.shape) != shape:
        raise PackFormatError(
            f"{title}: the first layer is {list(layer.shape)}, expected {list(shape)}: rows * h1 by D (by R of "
            "compact); give it whole"
        )
    if layer.dtype != torch.int8 if has_scales else not layer.is_floating_point():
        found = str(layer.dtype).removeprefix("torch.")
        raise PackFormatError(
            f"{title}: the first layer is {found}, expected {'int8' if has_scales else 'floats'} with heads that hold "
            f"{'scale1' if has_scales else 'no scale1'}; give int8 and its scales, or floats alone"
        )


def host_names(directory: Path) -> list[str]:
    """The names of a host's files below `directory`.

    Hidden ones (`.cache`, `.DS_Store`) are no part of a host.
    """
    names = [path.relative_to(directory) for path in directory.rglob("*") if path.is_file()]
    return sorted(name.as_posix() for name in names if not any(part.startswith(".") for part in name.parts))


def copy_host(source: Path, target: Path) -> None:
    """Copies the files of a host's directory; raises ConfigError where there is no model, OSError."""
    names = host_names(source)
    if "config.json" not in names:
        raise ConfigError(
            f"{one_line(source)} holds no host: it has no config.json; give the directory of a model"
        )
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)


def refuse_to_replace(target: Path) -> None:
    """Raises WriteError where `target` holds anything that is no part of a pack.

    It would be removed with the old one.
    """
    if not target.is_dir():
        return
    known = {CONFIG, CARD, CONCEPTS, FAMILIES, HEADS, HOST}
    for name in sorted(os.listdir(target)):
        if name not in known and not (name.startswith("lenses-") and name.endswith(".safetensors")):
            raise WriteError(
                f"cannot write {one_line(target)}: it holds {quoted(name)}, which is no part of a lens pack "
                "and would be lost; choose an empty directory"
            )
