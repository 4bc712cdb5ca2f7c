"""A small world in which concepts are easy to find."""

import numpy as np
import pytest

from lenses.concept import Hierarchy
from lenses.training import Samples

HIDDEN = 24


@pytest.fixture(scope="module")
def hierarchy() -> Hierarchy:
    nodes = [("a", "a", None), ("b", "b", None)]
    nodes += [(f"{top}.{i}", f"{top}.{i}", top) for top in "ab" for i in range(3)]
    return Hierarchy.build(nodes)


@pytest.fixture(scope="module")
def samples(hierarchy: Hierarchy) -> Samples:
    """Texts of one leaf each; a state is a direction of the leaf and one of its parent, and noise."""
    rng = np.random.default_rng(0)
    leaves = [n for n, concept in enumerate(hierarchy) if concept.level == 1]
    directions = rng.normal(size=(len(hierarchy), HIDDEN))
    # One leaf is rare, as concepts are.
    leaf_X = rng.choice(leaves, size=600, p=[0.02, 0.198, 0.196, 0.196, 0.196, 0.194])
    positive_XN = np.zeros((600, len(hierarchy)), bool)
    for x, leaf in enumerate(leaf_X):
        positive_XN[x, list(hierarchy.path(leaf))] = True
    text_S = rng.integers(600, size=1800).astype(np.int32)
    states = positive_XN[text_S] @ directions * 2 + rng.normal(size=(1800, HIDDEN)) + 5
    return Samples(states.astype(np.float32), text_S, positive_XN)
