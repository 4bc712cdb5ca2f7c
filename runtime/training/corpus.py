"""Texts, the concepts that they are of, and the part of the corpus that each belongs to.

An item is one thing that is told, in one text or several; what is of a concept is of every concept above it. Texts that
have a key in common stay together: the same fact is never both learned from and judged by. Knows nothing about hosts.

Shapes: X items, T texts, N concepts.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from lenses.concept import Hierarchy

T = TypeVar("T")
Part = Literal["train", "validation", "held-out"]

PART_RULE = (
    "held-out: sha256(key) as a big-endian number, modulo 10, is 0; validation: of the rest, the same of "
    "'validation:' + key, modulo 5, is 0; train: all others"
)
"""The rule of `part_of`, in words, for the record beside whatever was trained."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that is told."""

    key: str
    """Items of one key are in one part."""
    concepts: frozenset[str]
    """Ids of the concepts that it is of; those above them follow."""
    texts: tuple[str, ...]
    """Ways of telling it, at least one."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Items in a fixed order."""

    items: tuple[Item, ...]

    def __len__(self) -> int:
        return len(self.items)

    def part(self, name: Part) -> "Corpus":
        """The items of one part."""
        return Corpus(tuple(item for item in self.items if part_of(item.key) == name))

    def sample(self, count: int) -> "Corpus":
        """So many items, evenly spaced; all where there are no more."""
        return Corpus(tuple(evenly(self.items, count)))

    def told_once(self) -> "Corpus":
        """The same items, each in the first of its ways."""
        return Corpus(tuple(Item(item.key, item.concepts, item.texts[:1]) for item in self.items))

    def joined(self) -> "Corpus":
        """The same items, all ways of telling one after another as one text."""
        return Corpus(tuple(Item(item.key, item.concepts, (" ".join(item.texts),)) for item in self.items))

    @property
    def texts(self) -> list[str]:
        """All texts, item by item."""
        return [text for item in self.items for text in item.texts]

    @property
    def item_T(self) -> NDArray[np.int32]:
        """[T] the item that each text is of."""
        return np.repeat(np.arange(len(self.items), dtype=np.int32), [len(item.texts) for item in self.items])

    def labels(self, hierarchy: Hierarchy) -> NDArray[np.bool_]:
        """[X, N] whether an item is of a concept, or of one below it; ids that the hierarchy lacks are passed over."""
        index = {concept.id: n for n, concept in enumerate(hierarchy)}
        positive_XN = np.zeros((len(self.items), len(hierarchy)), np.bool_)
        for x, item in enumerate(self.items):
            positive_XN[x, [index[one] for one in item.concepts if one in index]] = True
        return with_parents(positive_XN, hierarchy)


def with_parents(positive_XN: NDArray[np.bool_], hierarchy: Hierarchy) -> NDArray[np.bool_]:
    """The same labels, in place, with every concept's parent where the concept is."""
    for n in range(len(hierarchy) - 1, -1, -1):  # a parent stands before its children
        if (parent := hierarchy.parents[n]) >= 0:
            positive_XN[:, parent] |= positive_XN[:, n]
    return positive_XN


def evenly(things: Sequence[T], count: int) -> Sequence[T]:
    """So many of them, evenly spaced, the first and the last among them; all where there are no more."""
    if count >= len(things):
        return things
    return [things[at] for at in np.linspace(0, len(things) - 1, count).astype(int)]


def part_of(key: str) -> Part:
    """The part that a key falls into, by `PART_RULE`: about 72, 18 and 10 in a hundred."""
    if _digest(key) % 10 == 0:
        return "held-out"
    return "train" if _digest(f"validation:{key}") % 5 else "validation"


def count_by_part(items: Iterable[Item]) -> dict[str, int]:
    """How many items each part has."""
    parts: Sequence[Part] = ("train", "validation", "held-out")
    found = [part_of(item.key) for item in items]
    return {part: found.count(part) for part in parts}


def _digest(key: str) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest(), "big")
