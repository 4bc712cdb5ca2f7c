"""Importing a directory of one `.pt` state dict a concept: read this first.

    DIR/layer0/NAME.pt ..        a lens each (`lens_files`, `weights`), layer its level
    DIR/hierarchy.json           who is under whom (`forest`)
    DIR/pack_info.json           `model`, the host's id; the rest is kept as provenance

1. find the files; 2. read each in a process of its own (`reading`), keeping all but first layers; 3. keep the lenses of
the commonest shape, arrange them; 4. write the pack, each family's first layers read again when it is its turn, so that
a pack of any size is written in little memory. What was odd is noted on the way. Files that ask to run code end the
import: all of them are named, and nothing is written.

Shapes: N concepts, D hidden size, h1 and h2 the widths.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lenses.concept import Hierarchy
from lenses.config import LensConfig, StoredDtype
from lenses.errors import ConfigError, SourceError
from lenses.files import PathLike, local_path
from lenses.importers.facts import Facts, Given
from lenses.importers.forest import Edges, parents_among, read_edges, read_json_file
from lenses.importers.imported import Imported, Progress, create_pack, uncalibrated
from lenses.importers.lens_files import LensFile, find_lens_files, ids_of
from lenses.importers.odd import Oddities
from lenses.importers.reading import Reader, Refused, Unreadable
from lenses.importers.weights import LensShape, LensWeights, WrongShape, weights_of
from lenses.lens import Heads
from lenses.text import canonical_json, one_line, quoted
from lenses.writer import refuse_to_replace

_LATER = ("bias1", "weight2", "bias2", "weight3", "bias3")
_HASH = "sha256"


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is kept of a lens between its two readings."""

    file: LensFile
    shape: LensShape
    is_bf16: bool
    later: Mapping[str, np.ndarray[Any, Any]]
    sha256: str


def import_state_dicts(
    directory: PathLike,
    out: PathLike,
    given: Given,
    *,
    reader: Reader,
    dtype: StoredDtype | None = None,
    progress: Progress = lambda what, done, total: None,
) -> Imported:
    """Writes the lenses of `directory` as the pack `out`, whole or not at all.

    First layers are stored as `dtype`, by default in the smallest that loses nothing: bf16 where they are, fp32
    otherwise. Raises SourceError where the directory is no such thing or a file asks to run code, ConfigError where a
    fact is missing or cannot hold, and as `LensPack.create`.
    """
    source, odd = local_path(directory), Oddities()
    refuse_to_replace(local_path(out))
    info = _pack_info(source, odd)
    facts = _facts(given, info, odd)
    facts.require(one_line(source / "pack_info.json"), "host_id", "site", "blocks", "host_dtype", "pooling")
    edges = read_edges(source, odd)
    files = find_lens_files(source, edges.keys, odd)
    _note_layers(info, files, odd)
    seen = _chosen(_read_all(files, reader, odd, progress), facts, odd)
    shape = seen[0].shape
    hierarchy, seen = _arranged(seen, ids_of(files), edges, odd)
    if dtype is None:
        dtype = "bf16" if all(one.is_bf16 for one in seen) else "fp32"
    return create_pack(
        out,
        facts,
        odd,
        lens=LensConfig("mlp", (shape.h1, shape.h2), dtype),
        hidden_size=shape.hidden_size,
        hierarchy=hierarchy,
        first_layers=_FirstLayers(hierarchy, [(one.file, one.sha256) for one in seen], reader),
        provenance={
            "source": source.resolve().name,
            "pack_info": info,
            "own_layer_norm": shape.own_norm,
            _HASH: _hash_of(seen),
        },
        heads=_heads(seen),
        progress=progress,
    )


def _pack_info(source: Path, odd: Oddities) -> dict[str, Any]:
    info = read_json_file(source / "pack_info.json")
    if info is None:
        odd.add("no pack_info.json", "all facts are as given", source.name)
        return {}
    if not isinstance(info, dict):
        raise SourceError(
            f"{one_line(source / 'pack_info.json')} is no JSON object; mend it, or remove it and give all facts"
        )
    return info


def _facts(given: Given, info: Mapping[str, Any], odd: Oddities) -> Facts:
    facts = Facts(given)
    model = info.get("model")
    if isinstance(model, str):
        if given.host_id not in (None, model):
            odd.add("another host than pack_info.json says", "the one that is given", model)
        facts.say("host_id", model, "pack_info.json")
    return facts


def _note_layers(info: Mapping[str, Any], files: Sequence[LensFile], odd: Oddities) -> None:
    told = info.get("trained_layers")
    there = sorted({file.layer for file in files})
    if isinstance(told, list) and told != there:
        odd.add(
            "other directories than pack_info.json says",
            "those that are there",
            f"says {quoted(told)}, there are {there}",
        )


def _read_all(files: Sequence[LensFile], reader: Reader, odd: Oddities, progress: Progress) -> list[_Seen]:
    """All but the first layers of the lenses that can be read; raises SourceError naming files that ask to run code."""
    seen: list[_Seen] = []
    refused: list[str] = []
    for done, file in enumerate(files, start=1):
        where = f"layer{file.layer}/{file.path.name}"
        try:
            weights, sha256 = _read(file, reader)
            later = {name: getattr(weights, name) for name in _LATER}
            seen.append(_Seen(file, weights.shape, weights.is_bf16, later, sha256))
        except Refused as error:
            refused.append(f"{one_line(where)} asks for {error}")
        except Unreadable as error:
            odd.add("a file that cannot be read as a state dict", "left out", f"{where}: {error}")
        except WrongShape as error:
            odd.add("tensors that are no such lens", "left out", f"{where} {error}")
        progress("lenses read", done, len(files))
    if refused:
        more = f" and {len(refused) - 8} more" if len(refused) > 8 else ""
        raise SourceError(
            f"a file of weights may not run code, and it did not: {'; '.join(refused[:8])}{more}; nothing was "
            "imported; do not trust this directory, or remove the file and import the others"
        )
    return seen


def _read(file: LensFile, reader: Reader) -> tuple[LensWeights, str]:
    found = reader.read(file.path)
    return weights_of(found.tensors), found.sha256


def _chosen(seen: Sequence[_Seen], facts: Facts, odd: Oddities) -> list[_Seen]:
    """The lenses of one shape, the commonest, that the norm allows; settles the norm.

    Raises SourceError where there is none or no commonest, and where lenses with and without a LayerNorm are there and
    nobody said which.
    """
    if not seen:
        first = next((f"{item.names[0]}" for item in odd if item.done == "left out"), "")
        raise SourceError(f"no lens could be imported; the first of what was wrong: {one_line(first)}")
    normed = sum(one.shape.own_norm for one in seen)
    if 0 < normed < len(seen) and facts["norm"] is None:
        raise SourceError(
            f"{normed} lenses have a LayerNorm of their own and {len(seen) - normed} have none, which read different "
            "states; one pack has one: give --norm layer to import the first, --norm none to import the others"
        )
    if normed:
        facts.say("norm", "layer", "the tensors: a LayerNorm, folded")
    facts.say("norm", "none", "the tensors: no LayerNorm")
    wants_own = facts["norm"] == "layer" and normed > 0
    if normed == len(seen) and not wants_own:
        raise ConfigError(
            f"norm {facts['norm']}: every lens has a LayerNorm of its own, so its states are normalised by it; leave "
            "--norm out"
        )
    counts = Counter(one.shape for one in seen if one.shape.own_norm == wants_own)
    (shape, most), *others = counts.most_common()
    if others and others[0][1] == most:
        raise SourceError(
            f"{most} lenses are {shape} and as many are {others[0][0]}; one pack has one shape: import them apart"
        )
    for one in seen:
        if one.shape != shape:
            odd.add(
                f"another shape than the {most} lenses of {shape}", "left out", f"{one.file.key}: {one.shape}"
            )
    return [one for one in seen if one.shape == shape]


def _arranged(
    seen: Sequence[_Seen], ids: Mapping[str, str], edges: Edges, odd: Oddities
) -> tuple[Hierarchy, list[_Seen]]:
    """The hierarchy of these lenses, and the lenses in its order."""
    parents = parents_among([one.file for one in seen], edges, odd)
    by_id = {ids[one.file.key]: one for one in seen}
    hierarchy = Hierarchy.build(
        (
            (id, one.file.name, None if (parent := parents[one.file.key]) is None else ids[parent])
            for id, one in by_id.items()
        ),
        aliases={id: [one.file.key] for id, one in by_id.items() if id != one.file.key},
    )
    return hierarchy, [by_id[concept.id] for concept in hierarchy]


def _heads(seen: Sequence[_Seen]) -> Heads:
    """Stacked in the order given; a field at a time, since they are a quarter of a gigabyte together."""
    stacked: dict[str, Any] = {name: np.stack([one.later[name] for one in seen]) for name in _LATER}
    stacked["bias3"] = stacked["bias3"][:, 0]
    return Heads(**stacked, **uncalibrated(len(seen)))


def _hash_of(seen: Sequence[_Seen]) -> str:
    """The hash of which files the lenses are and of their bytes."""
    return hashlib.sha256(canonical_json({one.file.key: one.sha256 for one in seen})).hexdigest()


class _FirstLayers(Sequence[torch.Tensor]):
    """First layers of families, `[rows * h1, D]` in fp32, each read when it is asked for."""

    def __init__(self, hierarchy: Hierarchy, files: Sequence[tuple[LensFile, str]], reader: Reader) -> None:
        self._hierarchy, self._files, self._reader = hierarchy, files, reader

    def __len__(self) -> int:
        return len(self._hierarchy.families)

    def __getitem__(self, family: int) -> torch.Tensor:  # type: ignore[override]  # nobody slices it
        at = self._hierarchy.families[family]
        some = [self._again(*self._files[index]) for index in range(at.first, at.first + at.rows)]
        return torch.from_numpy(np.concatenate([one.weight1 for one in some]))

    def _again(self, file: LensFile, sha256: str) -> LensWeights:
        try:
            weights, found = _read(file, self._reader)
        except (Refused, Unreadable, WrongShape):
            found = ""
        if found != sha256:
            raise SourceError(f"{one_line(file.path)} changed while it was imported; import it again")
        return weights
