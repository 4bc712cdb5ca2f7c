"""Finding the files of lenses in a directory: `layer0/NAME.pt` or `layer0/NAME_classifier.pt`, one a concept.

It knows names and no contents. What a name means is decided here: the key of a lens is `NAME:layer`, as hierarchies
write it; its id is `NAME`, where no other lens of the directory has that name, and its key otherwise.

A name ends in `_classifier` only if the hierarchy has it so; else the ending is the file's.
"""

import os
import re
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

from lenses.errors import SourceError
from lenses.importers.odd import Oddities
from lenses.text import is_plain, one_line

_LAYER = re.compile(r"layer(0|[1-9]\d{0,3})")
_ENDING, _SUFFIX = ".pt", "_classifier"
_KNOWN = {"pack_info.json", "hierarchy.json"}


@dataclass(frozen=True, slots=True)
class LensFile:
    """Where one lens is, and what it is called."""

    path: Path
    name: str
    layer: int

    @property
    def key(self) -> str:
        """The name as hierarchies write it."""
        return f"{self.name}:{self.layer}"


def find_lens_files(directory: Path, keys: Container[str], odd: Oddities) -> list[LensFile]:
    """The lenses of a directory by layer and name, no two of one key; raises SourceError where there is none.

    `keys` are those of the hierarchy. Notes what is no lens, and what cannot be one.
    """
    found: dict[str, list[LensFile]] = {}
    for entry in _listed(directory):
        match = _LAYER.fullmatch(entry)
        if match is None or not (directory / entry).is_dir():
            if entry not in _KNOWN:
                odd.add("no directory of lenses", "left alone", entry)
            continue
        for name in _listed(directory / entry):
            if not name.endswith(_ENDING) or name == _ENDING:
                odd.add("a file that is no lens", "left alone", f"{entry}/{name}")
                continue
            file = _file(directory / entry / name, int(match[1]), keys)
            if not is_plain(file.name) or not file.name.strip():
                odd.add("a name that no concept can have", "left out; rename the file", f"{entry}/{name}")
                continue
            found.setdefault(file.key, []).append(file)
    for key, files in found.items():
        if len(files) > 1:
            names = " and ".join(file.path.name for file in files)
            odd.add("two files of one concept", "both left out; remove one", f"{key}: {names}")
    lenses = [files[0] for files in found.values() if len(files) == 1]
    if not lenses:
        raise SourceError(
            f"{one_line(directory)} holds no lenses: there is no layer0/NAME.pt, layer1/NAME.pt and so on; give "
            "the directory that holds layer0"
        )
    _note_case(lenses, odd)
    return sorted(lenses, key=lambda file: (file.layer, file.name))


def ids_of(files: Sequence[LensFile]) -> dict[str, str]:
    """The id of each key: the name alone where it is one lens's and no other lens's key."""
    names, keys = Counter(file.name for file in files), {file.key for file in files}
    return {
        file.key: file.name if names[file.name] == 1 and file.name not in keys else file.key for file in files
    }


def _file(path: Path, layer: int, keys: Container[str]) -> LensFile:
    stem = path.name.removesuffix(_ENDING)
    if f"{stem}:{layer}" not in keys:
        stem = stem.removesuffix(_SUFFIX) or stem
    return LensFile(path, stem, layer)


def _note_case(lenses: Sequence[LensFile], odd: Oddities) -> None:
    spelled: dict[str, set[str]] = {}
    for file in lenses:
        spelled.setdefault(file.name.casefold(), set()).add(file.name)
    for names in spelled.values():
        if len(names) > 1:
            odd.add("names that differ in case alone", "kept as two concepts", ", ".join(sorted(names)))


def _listed(directory: Path) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError as error:
        raise SourceError(
            f"{one_line(directory)} cannot be listed ({one_line(error.strerror or error)}); give a directory that "
            "holds layer0/NAME.pt and so on"
        ) from error
