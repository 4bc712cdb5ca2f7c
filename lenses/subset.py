"""A smaller pack out of a pack: some concepts with everything below them, and what is above them.

Lenses are copied as they are stored; what is known of them (calibration, metrics, thresholds) is known of the copy.
What was said of the pack as a whole (a budget of alarms, a recall) is not, and stays in the provenance of the old one.
Families are read one after another.

Shapes: N concepts of the old pack, M of the new one.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch

from lenses.concept import Hierarchy
from lenses.files import PathLike
from lenses.lens import SHARED, Heads
from lenses.pack import SHARD_BYTES, LensPack


def kept_concepts(hierarchy: Hierarchy, ids: Iterable[str]) -> list[int]:
    """The indices of these concepts (ids or aliases), of all below them and all above them, in order.

    Raises ConceptNotFound.
    """
    wanted = np.zeros(len(hierarchy), np.bool_)
    above = np.zeros(len(hierarchy), np.bool_)
    for id in ids:
        *path, index = hierarchy.path(hierarchy.index(id))
        wanted[index] = True
        above[path] = True
    for family in hierarchy.families[1:]:  # a parent's family comes before its children's
        if wanted[family.parent]:
            wanted[family.first : family.first + family.rows] = True
    return [int(index) for index in np.flatnonzero(wanted | above)]


def write_subset(
    pack: LensPack,
    ids: Iterable[str],
    out: PathLike,
    *,
    progress: Callable[[int], None] = lambda families: None,
) -> LensPack:
    """Writes the concepts `ids`, whole branches and what is above them, as the pack `out`.

    Raises ConceptNotFound, and as `LensPack.create` and `read_family`.
    """
    names = list(ids)
    kept = kept_concepts(pack.hierarchy, names)
    old = [pack.hierarchy.concepts[index] for index in kept]
    built = Hierarchy.build((concept.id, concept.name, concept.parent) for concept in old)
    known = {concept.id: concept for concept in old}
    hierarchy = Hierarchy(
        replace(known[concept.id], level=concept.level, family=concept.family, row=concept.row)
        for concept in built
    )
    from_M = [pack.hierarchy.index(concept.id) for concept in hierarchy]
    config = pack.config
    return LensPack.create(
        out,
        host=config.host,
        site=config.site,
        input=config.input,
        lens=config.lens,
        base_levels=[level for level in config.base_levels if level < hierarchy.depth],
        hierarchy=hierarchy,
        first_layers=_Rows(pack, hierarchy, from_M),
        heads=_heads_of(pack.heads, np.array(from_M)),
        top_k=config.top_k,
        load_threshold=config.load_threshold,
        calibration_prior=config.calibration_prior,
        provenance={"subset_of": pack.identity, "concepts": names, "provenance": dict(config.provenance)},
        licence=config.licence,
        host_dir=pack.host_dir,
        max_shard_bytes=SHARD_BYTES,
        progress=progress,
    )


def _heads_of(heads: Heads, from_M: np.ndarray[Any, Any]) -> Heads:
    own = {
        item.name: array[from_M]
        for item in fields(heads)
        if item.name not in SHARED and (array := getattr(heads, item.name)) is not None
    }
    return replace(heads, **own)


class _Rows(Sequence[torch.Tensor]):
    """First layers of the new families, as stored, each picked out of an old one when it is asked for."""

    def __init__(self, pack: LensPack, hierarchy: Hierarchy, from_M: Sequence[int]) -> None:
        self._pack, self._hierarchy, self._from_M = pack, hierarchy, from_M

    def __len__(self) -> int:
        return len(self._hierarchy.families)

    def __getitem__(self, family: int) -> torch.Tensor:  # type: ignore[override]  # nobody slices it
        at, h1 = self._hierarchy.families[family], self._pack.config.lens.h1
        olds = [self._pack.hierarchy.concepts[self._from_M[at.first + row]] for row in range(at.rows)]
        layer = self._pack.read_family(olds[0].family)  # siblings are of one family, as they were
        return layer.view(-1, h1, layer.shape[1])[[old.row for old in olds]].reshape(-1, layer.shape[1])
