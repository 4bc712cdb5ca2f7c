"""The per-lens files of a pack: one `torch.save` a lens, as such systems have them, read with `weights_only=True`.

Stored in fp32, 1.3 MB a lens at 2560-128-64-1, as the system that was measured first had them; so a lens here has twice
the bytes of one in a bf16 pack. A pack of thousands would take many gigabytes: give the families that the states will
open (`families_scored`), the base is always there.

Shapes: P positions, D hidden size.
"""

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from baseline.module import LensModule, check_kind, empty_module, weights_of
from lenses.errors import PackMismatch, PackNotFound
from lenses.files import write_atomically
from lenses.lens import Floats, Lens
from lenses.pack import LensPack
from lenses.text import one_line
from runtime.config import MonitorConfig
from runtime.engine import Engine

_IDENTITY = "pack.json"


def export_baseline(pack: LensPack, directory: Path, *, families: Iterable[int] | None = None) -> int:
    """Write a file for each lens of these families (None: of all); returns the bytes written.

    Files that are there already stay. Raises PackMismatch where `directory` holds the lenses of another pack.
    """
    check_kind(pack)
    directory.mkdir(parents=True, exist_ok=True)
    if (directory / _IDENTITY).exists():
        check_directory(pack, directory)
    else:
        write_atomically(directory / _IDENTITY, json.dumps({"pack": pack.identity}) + "\n")
    h1 = pack.config.lens.h1
    written = 0
    for index in sorted(range(len(pack.hierarchy.families)) if families is None else set(families)):
        family = pack.hierarchy.families[index]
        missing = [row for row in range(family.rows) if not lens_path(directory, family.first + row).exists()]
        if not missing:
            continue
        first_layers = pack.read_family(index)
        for row in missing:
            at = family.first + row
            lens = Lens.of(
                pack.hierarchy.concepts[at], first_layers[row * h1 : (row + 1) * h1], pack.heads, at
            )
            path = lens_path(directory, at)
            aside = path.with_suffix(".tmp")
            torch.save(weights_of(lens), aside)
            os.replace(aside, path)
            written += path.stat().st_size
    return written


def check_directory(pack: LensPack, directory: Path) -> None:
    """Raise PackNotFound or PackMismatch unless `directory` holds lenses of this pack."""
    try:
        found = json.loads((directory / _IDENTITY).read_text())["pack"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PackNotFound(
            f"{one_line(directory)} holds no per-lens files; export the pack there first"
        ) from error
    if found != pack.identity:
        raise PackMismatch(
            f"{one_line(directory)} holds the lenses of pack {one_line(found)[:12]}, expected {pack.identity[:12]}; "
            "export into a directory of its own"
        )


def families_scored(pack: LensPack, config: MonitorConfig, states_PD: Floats) -> tuple[int, ...]:
    """The families that scoring these states meets, the base included: the subset worth exporting."""
    with Engine(pack, config) as engine:
        concepts = {
            int(n) for scores in engine.score(states_PD, "prompt") for some in scores.concepts for n in some
        }
    return tuple(sorted({pack.hierarchy.concepts[index].family for index in concepts}))


def lens_path(directory: Path, index: int) -> Path:
    """The file of the lens of a concept, by its index: an id may hold what a file name may not."""
    return directory / f"lens-{index:06d}.pt"


def lenses_there(pack: LensPack, directory: Path) -> Sequence[int]:
    """The lenses that have a file, in order."""
    return [index for index in range(len(pack.hierarchy)) if lens_path(directory, index).exists()]


def load_module(pack: LensPack, directory: Path, index: int) -> LensModule:
    """Read one lens from its file; raises PackNotFound where it has none."""
    path = lens_path(directory, index)
    module = empty_module(pack)
    try:
        weights = torch.load(path, weights_only=True)
    except FileNotFoundError as error:
        concept = pack.hierarchy.concepts[index]
        raise PackNotFound(
            f"{path.name}: no file for the lens of {concept.id}; export family {concept.family}, too"
        ) from error
    module.load_state_dict(weights, assign=True)
    return module
