"""What a lens can see: concepts, and the hierarchy that their families form.

It knows nothing about lenses, tensors or models. The canonical order of concepts, which every array over a
pack's N concepts follows, is depth-first over families: family 0 (the concepts of level 0), then for each of
its children in row order the family that child opens and everything below it. So the children of one concept
are neighbours, and so are the families of a whole branch.

Shapes: N concepts, F families.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lenses.errors import ConceptNotFound, ConfigError, HierarchyError, PackFormatError
from lenses.text import canonical_json, is_plain, one_line, quoted, read_json

_DEEPEST = 32_000  # levels are int16
_LARGEST = 1e300  # compared, not converted: an integer in JSON may be beyond every float


@dataclass(frozen=True, slots=True)
class Concept:
    """A named idea and its place: row `row` of family `family`, at `level`, under `parent`."""

    id: str
    """The concept's one spelling, such as `animal.n.01`."""
    name: str
    """For display only."""
    level: int
    """Depth in the hierarchy, 0 at the top."""
    parent: str | None
    """The parent's id; None at level 0."""
    family: int
    """Index of the family that the concept is a member of."""
    row: int
    """Place in that family."""
    metrics: Mapping[str, float] = field(default_factory=dict, hash=False)
    """What was measured about its lens, such as `auroc`; empty before."""
    threshold: float | None = None
    """Calibrated probability from which the concept counts as present, once measured."""
    aliases: tuple[str, ...] = ()
    """Other spellings that find the concept wherever its id does, as it was called where it came from."""

    def __post_init__(self) -> None:
        if not isinstance(self.aliases, list | tuple):
            raise HierarchyError(
                f"concept {quoted(self.id)}: aliases is {quoted(self.aliases)}, expected a list of names; correct it "
                "where the hierarchy is made"
            )
        object.__setattr__(self, "aliases", tuple(self.aliases))
        for text in (self.id, self.name, *self.aliases):
            if not isinstance(text, str) or not text.strip() or not is_plain(text):
                raise HierarchyError(
                    f"concept {quoted(self.id)}: {quoted(text)} is no id or name, expected one line of text; "
                    "correct it where the hierarchy is made"
                )
        for name in ("level", "family", "row"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 0:
                raise HierarchyError(
                    f"concept {quoted(self.id)}: {name} is {quoted(getattr(self, name))}, expected 0, 1, 2 "
                    "...; correct it where the hierarchy is made"
                )
        numbers = (
            dict(self.metrics) if self.threshold is None else {**self.metrics, "threshold": self.threshold}
        )
        for name, number in numbers.items():
            if type(number) not in (int, float) or not -_LARGEST < number < _LARGEST or not is_plain(name):
                raise HierarchyError(
                    f"concept {quoted(self.id)}: {one_line(name)} is {quoted(number)}, expected a finite "
                    "number; leave out what was not measured"
                )


@dataclass(frozen=True, slots=True)
class Family:
    """The children of one parent: what is stored, moved between tiers and scored together."""

    index: int
    parent: int | None
    """Concept index of the parent; None for family 0."""
    first: int
    """Concept index of row 0; the family holds `first` to `first + rows - 1`."""
    rows: int
    level: int
    """The level of its members."""


class Hierarchy:
    """A forest of concepts in canonical order, checked when made; immutable.

    `Hierarchy(concepts)` takes them in canonical order, as they are stored; `Hierarchy.build` arranges them.
    Raises HierarchyError naming the concept: a duplicate id or alias, an orphan, a cycle, a wrong level, family,
    row or place.
    """

    def __init__(self, concepts: Iterable[Concept]) -> None:
        self.concepts: tuple[Concept, ...] = tuple(concepts)
        """All concepts; a concept's place here is its index."""
        nodes = [(concept.id, concept.parent) for concept in self.concepts]
        places, families = _arrange(nodes)
        for position, (concept, place) in enumerate(zip(self.concepts, places, strict=True)):
            found = (concept.level, concept.family, concept.row)
            if found[0] != place.level:
                raise HierarchyError(
                    f"concept {quoted(concept.id)} has level {concept.level}, expected {place.level}: one "
                    "more than its parent's; correct it where the hierarchy is made"
                )
            if (*found, position) != (place.level, place.family, place.row, place.index):
                raise HierarchyError(
                    f"concept {quoted(concept.id)} stands at place {position} as row {concept.row} of family "
                    f"{concept.family}, expected place {place.index} as row {place.row} of family "
                    f"{place.family}: families are stored whole and depth-first; Hierarchy.build arranges "
                    "them"
                )
        self.families: tuple[Family, ...] = families
        """All families in depth-first order; a family's place here is its index."""
        self._index = _spellings(self.concepts)
        count = len(self.concepts)
        self.levels: NDArray[np.int16] = np.fromiter((c.level for c in self.concepts), np.int16, count)
        """[N] the level of each concept."""
        self.parents: NDArray[np.int32] = np.full(count, -1, np.int32)
        """[N] the index of each concept's parent; -1 at level 0."""
        self.opens: NDArray[np.int32] = np.full(count, -1, np.int32)
        """[N] the family that each concept opens; -1 for a leaf."""
        for family in families[1:]:
            assert family.parent is not None
            self.opens[family.parent] = family.index
            self.parents[family.first : family.first + family.rows] = family.parent
        self.id_rank: NDArray[np.int32] = np.empty(count, np.int32)
        """[N] the place of each concept in the order of ids: what breaks ties."""
        self.id_rank[sorted(range(count), key=lambda index: self.concepts[index].id)] = np.arange(count)
        for array in (self.levels, self.parents, self.opens, self.id_rank):
            array.flags.writeable = False

    @classmethod
    def build(
        cls,
        nodes: Iterable[tuple[str, str, str | None]],
        *,
        aliases: Mapping[str, Sequence[str]] | None = None,
    ) -> Self:
        """A hierarchy out of `(id, name, parent id or None)`, in any order; children keep the order given.

        `aliases` are the other spellings of ids that have some.
        """
        given = list(nodes)
        places, _ = _arrange([(id, parent) for id, _, parent in given])
        ordered: list[Concept | None] = [None] * len(given)
        for (id, name, parent), place in zip(given, places, strict=True):
            ordered[place.index] = Concept(
                id,
                name,
                place.level,
                parent,
                place.family,
                place.row,
                aliases=tuple((aliases or {}).get(id, ())),
            )
        return cls(concept for concept in ordered if concept is not None)

    @property
    def depth(self) -> int:
        """The number of levels."""
        return int(self.levels.max()) + 1

    def __len__(self) -> int:
        return len(self.concepts)

    def __iter__(self) -> Iterator[Concept]:
        return iter(self.concepts)

    def __repr__(self) -> str:
        return f"Hierarchy({len(self)} concepts, {len(self.families)} families, {self.depth} levels)"

    def index(self, id: str) -> int:
        """The index of the concept of this id or alias; raises ConceptNotFound with the spellings that come close."""
        try:
            return self._index[id]
        except KeyError:
            close = difflib.get_close_matches(id, self._index, n=3, cutoff=0.6)
            hint = f"did you mean {', '.join(close)}?" if close else "ids look like " + self.concepts[0].id
            raise ConceptNotFound(
                f"no concept {quoted(id)} among the {len(self)} of this pack; {hint}"
            ) from None

    def path(self, index: int) -> tuple[int, ...]:
        """The concept indices from level 0 down to `index`, both included."""
        path = [index]
        while (parent := int(self.parents[path[-1]])) >= 0:
            path.append(parent)
        return tuple(reversed(path))

    def base_families(self, levels: Sequence[int]) -> tuple[int, ...]:
        """The families of these levels, in order.

        Raises ConfigError unless the levels are 0, 1, ... n of the pack's.
        """
        if not levels or list(levels) != list(range(len(levels))) or len(levels) > self.depth:
            raise ConfigError(
                f"base levels {one_line(','.join(map(str, levels))) or 'are empty'}: expected 0, or 0,1, and "
                f"so on without a gap up to {self.depth - 1}, the deepest level; name every level from 0"
            )
        return tuple(family.index for family in self.families if family.level < len(levels))

    def to_jsonl(self) -> bytes:
        """The bytes of `concepts.jsonl`.

        One concept a line, in canonical order; unmeasured fields are left out.
        """
        return b"".join(canonical_json(_to_json(concept)) + b"\n" for concept in self.concepts)

    @classmethod
    def from_jsonl(cls, raw: bytes, source: str) -> Self:
        """The hierarchy that `to_jsonl` wrote.

        Raises PackFormatError or HierarchyError beginning with `source`.
        """
        lines = raw.split(b"\n")
        if lines.pop():
            raise PackFormatError(
                f"{source}: the last line has no end, it is truncated; fetch the pack again"
            )
        try:
            return cls(_from_json(line, f"{source}: line {n}") for n, line in enumerate(lines, start=1))
        except HierarchyError as error:
            raise HierarchyError(f"{source}: {error}") from error


_REQUIRED = {"id", "name", "level", "parent", "family", "row"}
_FIELDS = _REQUIRED | {"metrics", "threshold", "aliases"}


def _to_json(concept: Concept) -> dict[str, Any]:
    value: dict[str, Any] = {name: getattr(concept, name) for name in _REQUIRED}
    if concept.metrics:
        value["metrics"] = dict(concept.metrics)
    if concept.threshold is not None:
        value["threshold"] = concept.threshold
    if concept.aliases:
        value["aliases"] = list(concept.aliases)
    return value


def _from_json(line: bytes, source: str) -> Concept:
    value = read_json(line, source)
    if not isinstance(value, dict) or not value.keys() >= _REQUIRED or not value.keys() <= _FIELDS:
        found = ", ".join(sorted(value)) if isinstance(value, dict) else type(value).__name__
        raise PackFormatError(
            f"{source}: found {one_line(found)}, expected the fields {', '.join(sorted(_REQUIRED))} and at "
            "most metrics, threshold, aliases; fetch the pack again"
        )
    if not isinstance(value["parent"], str | None) or not isinstance(value.get("metrics", {}), dict):
        raise PackFormatError(
            f"{source}: parent must be an id or null and metrics an object; fetch the pack again"
        )
    return Concept(**value)


def _spellings(concepts: Sequence[Concept]) -> dict[str, int]:
    """The index of each concept by its id and its aliases, none of which may mean two concepts."""
    found = {concept.id: index for index, concept in enumerate(concepts)}
    for index, concept in enumerate(concepts):
        for alias in concept.aliases:
            if found.setdefault(alias, index) != index or alias == concept.id:
                raise HierarchyError(
                    f"concept {quoted(concept.id)}: its alias {quoted(alias)} is another spelling of "
                    f"{quoted(concepts[found[alias]].id)}; give each alias one concept"
                )
    return found


@dataclass(frozen=True, slots=True)
class _Place:
    index: int
    level: int
    family: int
    row: int


def _arrange(nodes: Sequence[tuple[str, str | None]]) -> tuple[list[_Place], tuple[Family, ...]]:
    """The canonical place of each `(id, parent id)`, and the families, children in the order given.

    One stack instead of recursion: a chain of concepts may be deeper than Python's stack.
    """
    positions: dict[str, int] = {}
    for position, (id, _) in enumerate(nodes):
        if positions.setdefault(id, position) != position:
            raise HierarchyError(
                f"concept {quoted(id)} stands twice in the hierarchy; give each id one concept"
            )
    children: dict[str | None, list[int]] = {}
    for position, (id, parent) in enumerate(nodes):
        if parent is not None and parent not in positions:
            raise HierarchyError(
                f"concept {quoted(id)} is an orphan: its parent {quoted(parent)} is not in the hierarchy; "
                "add the parent or leave the concept out"
            )
        children.setdefault(parent, []).append(position)
    places: list[_Place | None] = [None] * len(nodes)
    families: list[Family] = []
    count = 0
    waiting: list[tuple[int | None, int]] = [(None, 0)] if None in children else []
    while waiting:
        opener, level = waiting.pop()
        members = children[None if opener is None else nodes[opener][0]]
        above = None if opener is None else places[opener]
        opened_by = None if above is None else above.index
        families.append(Family(len(families), opened_by, count, len(members), level))
        for row, member in enumerate(members):
            places[member] = _Place(count + row, level, len(families) - 1, row)
        count += len(members)
        if level > _DEEPEST:
            raise HierarchyError(
                f"the hierarchy has more than {_DEEPEST} levels; a chain that long is a mistake"
            )
        waiting += [(member, level + 1) for member in reversed(members) if nodes[member][0] in children]
    if count != len(nodes):
        raise HierarchyError(_cycle(nodes, positions, places))
    if not nodes:
        raise HierarchyError("the hierarchy has no concepts; expected at least one")
    return [place for place in places if place is not None], tuple(families)


def _cycle(
    nodes: Sequence[tuple[str, str | None]], positions: Mapping[str, int], places: Sequence[_Place | None]
) -> str:
    """A message that names one cycle; every concept that was not reached from the top leads into one."""
    at = next(position for position, place in enumerate(places) if place is None)
    seen: dict[int, int] = {}
    walk: list[str] = []
    while at not in seen:
        seen[at] = len(walk)
        id, parent = nodes[at]
        walk.append(id)
        assert parent is not None, "a concept without a parent is always reached"
        at = positions[parent]
    cycle = [*walk[seen[at] :], nodes[at][0]]
    return f"the hierarchy has a cycle: {one_line(' under '.join(cycle))}; give one of them another parent"
