"""What an import found that was not as expected, and what it did about it: so that nothing is guessed silently."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lenses.text import one_line

_MOST_KEPT = 10_000
"""Names of one kind that a pack's provenance keeps; all are counted."""


@dataclass(frozen=True, slots=True)
class Odd:
    """One kind of oddity and what it was found in."""

    what: str
    """What was found."""
    done: str
    """What the import did."""
    names: tuple[str, ...]
    """The concepts or files, each one line, with what is particular to it."""

    def to_json(self) -> Mapping[str, Any]:
        """For a pack's provenance."""
        return {
            "what": self.what,
            "done": self.done,
            "count": len(self.names),
            "names": list(self.names[:_MOST_KEPT]),
        }


class Oddities:
    """Oddities as they are found, by kind, in the order in which kinds were met."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, str], list[str]] = {}

    def add(self, what: str, done: str, name: object) -> None:
        """Note one."""
        self._names.setdefault((what, done), []).append(one_line(name))

    def __iter__(self) -> Iterator[Odd]:
        return (Odd(what, done, tuple(names)) for (what, done), names in self._names.items())
