"""What lenses are trained on, and what training gives.

It knows states and labels, nothing about texts, hosts or files.

Shapes: S samples, D hidden size, X texts, N lenses, h1 width of the first layer.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lenses.concept import Hierarchy
from lenses.errors import HierarchyError
from lenses.lens import Floats, Heads
from lenses.text import quoted

CHUNK = 8192
"""Rows that are read at a time."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Input states and whose they are."""

    states_SD: Floats
    """May be a memory map: training reads it once or twice from front to back, a chunk at a time."""
    text_S: NDArray[np.int32]
    """[S] row of `positive_XN` that each sample's text has."""
    positive_XN: NDArray[np.bool_]
    """[X, N] whether a text is of the concept or of one below it."""

    def positive(self, samples: NDArray[np.int_] | slice) -> NDArray[np.bool_]:
        """[S', N] the labels of some samples."""
        return self.positive_XN[self.text_S[samples]]

    def chunks(self) -> Iterator[tuple[slice, torch.Tensor]]:
        """All states from front to back: where, and `[chunk, D]` in fp32."""
        for start in range(0, len(self.text_S), CHUNK):
            some = slice(start, start + CHUNK)
            yield some, torch.from_numpy(np.array(self.states_SD[some], np.float32))

    def check(self, hierarchy: Hierarchy) -> None:
        """Raises HierarchyError unless there is a label for every concept, and a child's texts are its parent's."""
        found = self.positive_XN.shape[1]
        if found != len(hierarchy):
            raise HierarchyError(
                f"the samples have labels for {found} concepts, expected the {len(hierarchy)} of the hierarchy; "
                "label them for the same concepts"
            )
        children = np.flatnonzero(hierarchy.parents >= 0)
        parents = hierarchy.parents[children]
        for start in range(0, len(self.positive_XN), CHUNK):
            positive = self.positive_XN[start : start + CHUNK]
            orphans = (positive[:, children] & ~positive[:, parents]).any(axis=0)
            if orphans.any():
                child = hierarchy.concepts[children[int(orphans.argmax())]]
                raise HierarchyError(
                    f"a text of {quoted(child.id)} is not labelled with {quoted(child.parent)}, its parent; "
                    "label every text with all concepts above its own"
                )


@dataclass(frozen=True, slots=True)
class TrainedLenses:
    """What training gives: first layers by family, and uncalibrated heads."""

    first_layers: list[torch.Tensor]
    """Per family `[rows * h1, D]` fp32."""
    heads: Heads


def by_family(weight1: torch.Tensor, hierarchy: Hierarchy, h1: int) -> list[torch.Tensor]:
    """The first layers `[N * h1, D]` of all lenses as one view for each family."""
    return [weight1[family.first * h1 : (family.first + family.rows) * h1] for family in hierarchy.families]
