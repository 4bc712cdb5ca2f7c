"""What two packs say differently: their configuration, their concepts, their weights, calibration and metrics.

Concepts are matched by id. Weights are compared as they are computed on, widened to fp32: two dtypes may hold the same
numbers. Families whose bytes have the same hash are not read; the others are read one pair after another.

Shapes: h1 the width of a first layer, C its columns.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

from lenses.concept import Concept, Family
from lenses.lens import SHARED
from lenses.pack import FirstLayers, LensPack
from lenses.text import one_line

Shared = Mapping[str, tuple[int, int]]
"""The indices in the first and in the second pack of the concepts that both have, by id."""

_NONE = ""
_CALIBRATION = ("platt_slope", "platt_offset", "calibrated")
_NOT_LATER = (*_CALIBRATION, "scale1", *SHARED)


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in which two packs differ."""

    part: str
    """`configuration`, `concepts`, `weights`, `calibration` or `metrics`."""
    where: str
    """The setting, the concept, or the family by its parent."""
    a: str
    b: str


def diff(a: LensPack, b: LensPack) -> Iterator[Difference]:
    """Every difference of two packs, part by part; nothing where they are the same.

    Raises PackIntegrityError for a family that cannot be read.
    """
    if a.identity == b.identity:
        return
    left, right = (
        {concept.id: index for index, concept in enumerate(pack.hierarchy.concepts)} for pack in (a, b)
    )
    shared = {id: (index, right[id]) for id, index in left.items() if id in right}
    yield from _configuration(a, b)
    for id in (id for id in left if id not in right):
        yield Difference("concepts", id, _place(a.hierarchy.concepts[left[id]]), _NONE)
    for id in (id for id in right if id not in left):
        yield Difference("concepts", id, _NONE, _place(b.hierarchy.concepts[right[id]]))
    yield from _concepts(a, b, shared)
    yield from _weights(a, b, shared)
    yield from _calibration(a, b, shared)
    yield from _metrics(a, b, shared)


def _configuration(a: LensPack, b: LensPack) -> Iterator[Difference]:
    left, right = _settings(a), _settings(b)
    for name in left | right:
        if left.get(name) != right.get(name):
            yield Difference(
                "configuration", name, *(one_line(some.get(name, _NONE)) for some in (left, right))
            )
    if a.config.provenance != b.config.provenance:
        yield Difference("configuration", "provenance", "differs", "differs")
    files = {
        name for name in a.config.host_files if a.config.sha256[name] != b.config.sha256.get(name)
    } | set(b.config.host_files).difference(a.config.host_files)
    for name in sorted(files):
        yield Difference(
            "configuration", name, *(pack.config.sha256.get(name, _NONE)[:12] for pack in (a, b))
        )


def _settings(pack: LensPack) -> dict[str, Any]:
    """Settings by name, `host.id` and so on, but what follows from the rest."""
    whole = dataclasses.asdict(pack.config)
    for name in ("sha256", "provenance", "concepts", "families"):
        del whole[name]
    flat: dict[str, Any] = {}
    for name, value in whole.items():
        flat |= (
            {f"{name}.{key}": one for key, one in value.items()}
            if isinstance(value, Mapping)
            else {name: value}
        )
    return flat


def _concepts(a: LensPack, b: LensPack, shared: Shared) -> Iterator[Difference]:
    for id, (left, right) in shared.items():
        one, other = a.hierarchy.concepts[left], b.hierarchy.concepts[right]
        if one.parent != other.parent:
            yield Difference("concepts", id, _place(one), _place(other))
        if one.name != other.name:
            yield Difference("concepts", f"{id}: name", one_line(one.name), one_line(other.name))
        if one.aliases != other.aliases:
            said = (one_line(", ".join(concept.aliases)) for concept in (one, other))
            yield Difference("concepts", f"{id}: aliases", *said)


def _place(concept: Concept) -> str:
    return "at the top" if concept.parent is None else f"under {concept.parent}"


def _weights(a: LensPack, b: LensPack, shared: Shared) -> Iterator[Difference]:
    left, right = a.config.lens, b.config.lens
    sizes = [pack.config.host.hidden_size for pack in (a, b)]
    if (left.kind, left.widths, sizes[0]) != (right.kind, right.widths, sizes[1]):
        said = [config.describe(size) for config, size in zip((left, right), sizes, strict=True)]
        yield Difference("weights", "all lenses: not comparable", *said)
        return
    projections = [pack.heads.projection for pack in (a, b)]
    if projections[0] is not None and not np.array_equal(*projections):  # type: ignore[arg-type]
        yield Difference("weights", "the projection that all share", *map(_largest, projections))
    layers_a, layers_b = FirstLayers(a, dequantise=True), FirstLayers(b, dequantise=True)
    for family in a.hierarchy.families:
        members = a.hierarchy.concepts[family.first : family.first + family.rows]
        common = [shared[concept.id] for concept in members if concept.id in shared]
        changed = {pair: off for pair in common if (off := _later_off(a, b, *pair)) > 0}
        if not _same_bytes(a, b, family, common):
            first = layers_a[family.index].to(torch.float32)
            rows: dict[int, torch.Tensor] = {}
            for pair in common:
                concept = b.hierarchy.concepts[pair[1]]
                if concept.family not in rows:
                    rows = {concept.family: layers_b[concept.family].to(torch.float32)}
                off = _rows_off(
                    first, a.hierarchy.concepts[pair[0]].row, rows[concept.family], concept.row, left.h1
                )
                if off > 0:
                    changed[pair] = max(off, changed.get(pair, 0.0))
        if changed:
            lenses = f"{_title(a, family)}: {len(changed)} of {len(common)} lenses"
            yield Difference("weights", lenses, _NONE, f"off by {max(changed.values()):.3g} at the most")


def _same_bytes(a: LensPack, b: LensPack, family: Family, common: list[tuple[int, int]]) -> bool:
    """Whether the same lenses lie in the same rows of two families with the same hash and no scales of their own."""
    if len(common) != family.rows or a.heads.scale1 is not None or b.heads.scale1 is not None:
        return not common
    other = b.hierarchy.families[b.hierarchy.concepts[common[0][1]].family]
    in_order = [index for _, index in common] == list(range(other.first, other.first + other.rows))
    hashes = {a.stored_family(family.index).sha256, b.stored_family(other.index).sha256}
    return in_order and a.config.lens.dtype == b.config.lens.dtype and len(hashes) == 1


def _rows_off(first: torch.Tensor, row: int, second: torch.Tensor, other: int, h1: int) -> float:
    return float((first[row * h1 : (row + 1) * h1] - second[other * h1 : (other + 1) * h1]).abs().max())


def _later_off(a: LensPack, b: LensPack, left: int, right: int) -> float:
    """The largest |difference| of the later layers and biases of two lenses."""
    names = [item.name for item in fields(a.heads) if item.name not in _NOT_LATER]
    pairs = [(getattr(a.heads, name), getattr(b.heads, name)) for name in names]
    return max(float(np.abs(one[left] - other[right]).max()) for one, other in pairs if one is not None)


def _calibration(a: LensPack, b: LensPack, shared: Shared) -> Iterator[Difference]:
    for id, (left, right) in shared.items():
        said = _calibration_of(a, left), _calibration_of(b, right)
        if said[0] != said[1]:
            yield Difference("calibration", id, *said)


def _calibration_of(pack: LensPack, index: int) -> str:
    heads = pack.heads
    if not heads.calibrated[index]:
        return "not calibrated"
    return f"slope {heads.platt_slope[index]!s}, offset {heads.platt_offset[index]!s}"


def _metrics(a: LensPack, b: LensPack, shared: Shared) -> Iterator[Difference]:
    for id, (left, right) in shared.items():
        one, other = _measured(a.hierarchy.concepts[left]), _measured(b.hierarchy.concepts[right])
        for name in one | other:
            if one.get(name) != other.get(name):
                said = (str(some.get(name, "not measured")) for some in (one, other))
                yield Difference("metrics", f"{id}: {one_line(name)}", *said)


def _measured(concept: Concept) -> dict[str, float]:
    return {
        **concept.metrics,
        **({} if concept.threshold is None else {"threshold": concept.threshold}),
    }


def _title(pack: LensPack, family: Family) -> str:
    return "the top level" if family.parent is None else f"below {pack.hierarchy.concepts[family.parent].id}"


def _largest(array: Any) -> str:
    return _NONE if array is None else f"largest {np.abs(array).max():.3g}"
