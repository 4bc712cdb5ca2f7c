"""The forest of imported lenses, out of a `hierarchy.json` that may say anything.

    {"parent_to_children": {"Name:level": ["Name:level", ...], ...}}

`child_to_parent` and `root_concepts`, where they are there, settle which of several parents a concept has and which
concepts are at the top. A lens hangs under the nearest concept above it that has a lens. Whatever is not a forest is
made one, and noted. It knows names and no tensors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lenses.errors import PackFormatError, SourceError
from lenses.importers.lens_files import LensFile
from lenses.importers.odd import Oddities
from lenses.text import one_line, quoted, read_json

_MOST_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Edges:
    """What a hierarchy says, by keys: `Name:level`."""

    parent_of: Mapping[str, str]
    """Without cycles."""
    keys: frozenset[str]
    """All that are named."""
    roots: frozenset[str]
    """Those said to have no parent."""


def read_json_file(path: Path) -> Any:
    """The value of a JSON file, None where there is no file; raises SourceError."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise SourceError(
                f"{one_line(path)}: more than {_MOST_BYTES} bytes long; give the directory of a pack"
            )
        return read_json(path.read_bytes(), one_line(path))
    except FileNotFoundError:
        return None
    except (OSError, PackFormatError) as error:
        raise SourceError(one_line(error)) from error


def read_edges(directory: Path, odd: Oddities) -> Edges:
    """What `hierarchy.json` says; notes what it may not. Raises SourceError where it is no hierarchy."""
    path = directory / "hierarchy.json"
    value = read_json_file(path)
    if value is None:
        odd.add("no hierarchy.json", "all concepts are at the top", directory.name)
        return Edges({}, frozenset(), frozenset())
    children_of = value.get("parent_to_children") if isinstance(value, dict) else None
    if not isinstance(children_of, dict) or not all(isinstance(some, list) for some in children_of.values()):
        raise SourceError(
            f"{one_line(path)} holds no parent_to_children, an object of lists of 'Name:level'; mend it, or remove it "
            "to have all concepts at the top"
        )
    told = value.get("child_to_parent")
    told = told if isinstance(told, dict) else {}
    roots = value.get("root_concepts")
    parents: dict[str, list[str]] = {}
    for parent, children in children_of.items():
        for child in children:
            bad = next((key for key in (parent, child) if not _is_key(key)), None)
            if bad is not None:
                odd.add("a key of hierarchy.json that is not 'Name:level'", "not looked at", quoted(bad))
            elif parent not in parents.setdefault(child, []):
                parents[child].append(parent)
    parent_of: dict[str, str] = {}
    for child, some in parents.items():
        parent_of[child] = told[child] if told.get(child) in some else some[0]
        if len(some) > 1:
            others = ", ".join(parent for parent in some if parent != parent_of[child])
            odd.add("several parents", "kept under one", f"{child} under {parent_of[child]}, not {others}")
    for child, parent in told.items():
        if _is_key(child) and parent not in parents.get(child, ()):
            odd.add("a parent in child_to_parent alone", "not looked at", f"{child} under {parent}")
    keys = frozenset(parent_of) | frozenset(parent_of.values())
    _cut_cycles(parent_of, odd)
    named = [key for key in roots if _is_key(key)] if isinstance(roots, list) else []
    return Edges(parent_of, keys | frozenset(named), frozenset(named))


def parents_among(files: Sequence[LensFile], edges: Edges, odd: Oddities) -> dict[str, str | None]:
    """The parent of each lens by key: the nearest concept above it that has a lens, None for the top; notes detours."""
    there = {file.key for file in files}
    nearest: dict[str, str | None] = {}
    found: dict[str, str | None] = {}
    for file in files:
        above = edges.parent_of.get(file.key)
        found[file.key] = parent = _nearest(above, there, edges.parent_of, nearest)
        if above is None and file.layer > 0 and file.key not in edges.roots and edges.keys:
            odd.add("no parent in hierarchy.json", "placed at the top", file.key)
        elif above != parent:
            place = "at the top" if parent is None else f"under {parent}"
            odd.add(
                "a parent without a lens",
                "placed under the next above that has one, or at the top",
                f"{file.key}: {above} has none, {place}",
            )
    for key in sorted(edges.keys - there):
        odd.add("in hierarchy.json, without a lens", "left out", key)
    depth: dict[str, int] = {}
    for file in files:
        chain = [file.key]
        while chain[-1] not in depth and (up := found[chain[-1]]) is not None:
            chain.append(up)
        base = depth.setdefault(chain[-1], 0)
        for step, key in enumerate(reversed(chain)):
            depth[key] = base + step
        if depth[file.key] != file.layer:
            odd.add(
                "a level that is not its directory's number",
                "its level is its depth in the hierarchy",
                f"{file.key} is at level {depth[file.key]}",
            )
    return found


def _nearest(
    key: str | None, there: set[str], parent_of: Mapping[str, str], nearest: dict[str, str | None]
) -> str | None:
    """The first of `key` and what is above it that is `there`; `nearest` remembers, since chains may be long."""
    chain: list[str] = []
    while key is not None and key not in there and key not in nearest:
        chain.append(key)
        key = parent_of.get(key)
    found = nearest[key] if key is not None and key not in there else key
    nearest.update(dict.fromkeys(chain, found))
    return found


def _cut_cycles(parent_of: dict[str, str], odd: Oddities) -> None:
    """Takes its parent from one concept of each cycle, the first by level and name."""
    done: set[str] = set()
    for start in list(parent_of):
        chain: dict[str, None] = {}
        key: str | None = start
        while key is not None and key not in done and key not in chain:
            chain[key] = None
            key = parent_of.get(key)
        if key is not None and key in chain:
            members = list(chain)[list(chain).index(key) :]
            freed = min(members, key=_order)
            odd.add(
                "a cycle",
                "one of it is placed at the top",
                f"{freed}, of {' under '.join([*members, members[0]])}",
            )
            del parent_of[freed]
        done.update(chain)


def _is_key(key: object) -> bool:
    if not isinstance(key, str):
        return False
    name, _, level = key.rpartition(":")
    return bool(name) and level.isascii() and level.isdigit() and str(int(level[:9])) == level


def _order(key: str) -> tuple[int, str]:
    name, _, level = key.rpartition(":")
    return int(level), name
