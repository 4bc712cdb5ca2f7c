"""What the files of a pack say, read and checked against each other, as a pack is opened.

It reads all but the bytes of first layers, of which it finds out where they are. The order is from what
describes to what is described: configuration, concepts, heads, the list of families, and the headers of the
lens files.
"""

import math
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenses.concept import Hierarchy
from lenses.config import CONCEPTS, CONFIG, FAMILIES, HEADS, PackConfig, check_file_name
from lenses.errors import ConfigError, PackFormatError, PackIntegrityError
from lenses.header import read_header
from lenses.lens import SHARED, Heads
from lenses.quantise import are_scales
from lenses.store import PackDirectory
from lenses.text import quoted, read_json

_STORED_DTYPES = {"bf16": "BF16", "fp32": "F32", "int8": "I8"}
_MAX_CONFIG_BYTES = 8_000_000


@dataclass(frozen=True, slots=True)
class StoredFamily:
    """Where the first layers of one family are: a span of an open file."""

    descriptor: int
    file: str
    start: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Contents:
    """An opened pack's parts; `opened` closes the descriptors that `stored` names."""

    config: PackConfig
    hierarchy: Hierarchy
    heads: Heads
    stored: tuple[StoredFamily, ...]
    opened: ExitStack


def read_contents(directory: PackDirectory) -> Contents:
    """Reads and checks a pack.

    Raises PackFormatError, PackIntegrityError or HierarchyError naming the file.
    """
    raw = directory.read(CONFIG, most=_MAX_CONFIG_BYTES)
    config = PackConfig.from_bytes(raw, directory.source(CONFIG))
    hierarchy = Hierarchy.from_jsonl(
        directory.read(CONCEPTS, sha256=config.sha256[CONCEPTS]), directory.source(CONCEPTS)
    )
    _check_counts(config, hierarchy, directory.source(CONFIG))
    heads = _read_heads(directory, config, hierarchy)
    entries = _read_entries(directory, config, hierarchy)
    for name in config.host_files:
        os.close(directory.open(name))
    with ExitStack() as opened:
        stored: list[StoredFamily] = []
        for name in config.lens.shard_names:
            descriptor = directory.open(name)
            opened.callback(os.close, descriptor)
            own = [entry for entry in entries if entry["file"] == name]
            stored += _match_shard(directory, name, descriptor, own, config)
        return Contents(config, hierarchy, heads, tuple(stored), opened.pop_all())


def _check_counts(config: PackConfig, hierarchy: Hierarchy, source: str) -> None:
    for name, said, found in (
        ("concepts", config.concepts, len(hierarchy)),
        ("families", config.families, len(hierarchy.families)),
    ):
        if said != found:
            raise PackFormatError(
                f"{source}: {name} is {said}, but {CONCEPTS} has {found}; fetch the pack again"
            )
    try:
        hierarchy.base_families(config.base_levels)
    except ConfigError as error:
        raise PackFormatError(f"{source}: {error}") from error


def _read_heads(directory: PackDirectory, config: PackConfig, hierarchy: Hierarchy) -> Heads:
    source = directory.source(HEADS)
    sizes = (config.lens, config.host.hidden_size, config.concepts)
    shapes = Heads.shapes(*sizes)
    with directory.opened(HEADS) as descriptor:
        spans = read_header(descriptor, source)
    shapes |= Heads.optional_shapes({span.name: span.shape for span in spans})
    for span in spans:
        dtype = "U8" if span.name == "calibrated" else "F32"
        if shapes.get(span.name) != span.shape or span.dtype != dtype:
            raise PackFormatError(
                f"{source}: {span.name} is {span.dtype} {list(span.shape)}, expected {dtype} "
                f"{list(shapes.get(span.name, ()))} by config.json; fetch the pack again"
            )
    raw = directory.read_array(HEADS, sha256=config.sha256[HEADS])
    arrays: dict[str, NDArray[np.generic]] = {}
    for span in spans:
        kind = np.dtype(np.uint8 if span.dtype == "U8" else np.float32)
        array = np.frombuffer(raw, kind, math.prod(span.shape), span.start).reshape(span.shape)
        # Aligned, as torch.from_numpy wants it; views of what was read, since heads may be a quarter of a gigabyte.
        arrays[span.name] = np.require(array, None, ["A"])
    try:
        heads = Heads.from_tensors(arrays, *sizes)
    except PackFormatError as error:
        raise PackFormatError(f"{source}: {error}") from error
    if arrays["calibrated"].max() > 1:
        raise PackFormatError(f"{source}: calibrated holds other values than 0 and 1; fetch the pack again")
    check_heads(arrays, hierarchy, source)
    return heads


def check_heads(arrays: Mapping[str, NDArray[np.generic]], hierarchy: Hierarchy, source: str) -> None:
    """Raises PackIntegrityError at the first number of the heads that is not finite, or is no scale among scales."""
    for name, array in arrays.items():
        good = are_scales(array) if name == "scale1" else np.isfinite(array)
        if good.all():
            continue
        where = tuple(np.argwhere(~good)[0])
        shared = name in SHARED
        lens = "" if shared else f" of concept {quoted(hierarchy.concepts[int(where[0])].id)}"
        what = (
            f"is {array[where]:g}, expected a finite scale above 0" if name == "scale1" else "is not finite"
        )
        raise PackIntegrityError(
            f"{source}: {name}{lens} {what}; train {'the pack' if shared else 'that lens'} again or fetch the pack "
            "again"
        )


def _read_entries(directory: PackDirectory, config: PackConfig, hierarchy: Hierarchy) -> list[dict[str, Any]]:
    """The records of families.json, `{file, tensor, rows, sha256}`, checked against the hierarchy."""
    source = directory.source(FAMILIES)
    entries = read_json(directory.read(FAMILIES, sha256=config.sha256[FAMILIES]), source)
    if not isinstance(entries, list) or len(entries) != config.families:
        raise PackFormatError(
            f"{source}: expected a list of {config.families} families; fetch the pack again"
        )
    for family, entry in zip(hierarchy.families, entries, strict=True):
        name = f"{source}: family {family.index}"
        if not isinstance(entry, dict) or entry.keys() != {"file", "tensor", "rows", "sha256"}:
            raise PackFormatError(f"{name}: expected file, tensor, rows and sha256; fetch the pack again")
        try:
            check_file_name("file", entry["file"])
        except ConfigError as error:
            raise PackFormatError(f"{name}: {error}") from error
        expected = {"tensor": tensor_name(family.index), "rows": family.rows}
        for key, value in expected.items():
            if type(entry[key]) is not type(value) or entry[key] != value:
                raise PackFormatError(
                    f"{name}: {key} is {quoted(entry[key])}, expected {quoted(value)}; fetch the pack again"
                )
    files = [entry["file"] for entry in entries]
    if files != sorted(files) or set(files) != set(config.lens.shard_names):
        raise PackFormatError(
            f"{source}: the files are not {config.lens.shard_names[0]} and on, in order; fetch the pack again"
        )
    return entries


def _match_shard(
    directory: PackDirectory,
    name: str,
    descriptor: int,
    entries: Sequence[dict[str, Any]],
    config: PackConfig,
) -> list[StoredFamily]:
    """The places of families in one open lens file, whose header must hold them in order and no more."""
    source = directory.source(name)
    spans = read_header(descriptor, source)
    found, expected = [span.name for span in spans], [entry["tensor"] for entry in entries]
    if found != expected:
        odd = next((a or b for a, b in zip_longest(found, expected) if a != b), "")
        raise PackFormatError(
            f"{source}: tensor {odd} is missing, out of order, or not in {FAMILIES}; fetch the pack again"
        )
    stored = []
    for span, entry in zip(spans, entries, strict=True):
        shape = (entry["rows"] * config.lens.h1, config.lens.columns(config.host.hidden_size))
        dtype = _STORED_DTYPES[config.lens.dtype]
        if span.shape != shape or span.dtype != dtype:
            raise PackFormatError(
                f"{source}: tensor {span.name} is {span.dtype} {list(span.shape)}, expected {dtype} "
                f"{list(shape)} by config.json; fetch the pack again"
            )
        stored.append(
            StoredFamily(descriptor, name, span.start, span.stop - span.start, str(entry["sha256"]))
        )
    return stored


def tensor_name(family: int) -> str:
    """The name of a family's tensor; leading zeros make the order of names the order of families."""
    return f"family.{family:06d}"


def title(hierarchy: Hierarchy, family: int) -> str:
    """How messages call a family."""
    parent = hierarchy.families[family].parent
    members = (
        "the top level" if parent is None else f"the children of {quoted(hierarchy.concepts[parent].id)}"
    )
    return f"family {family} ({members})"
