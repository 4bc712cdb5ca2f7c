"""A hierarchy of nothing in particular, with as many concepts a level as are asked for, in families as real ones are.

Family sizes follow the reference ontology's (7,947 concepts, 1,239 parents): of its parents' numbers of children the
median is 5, nine tenths are at most 12, ninety-nine in a hundred at most 24, and the largest is 31. Which concepts of a
level are parents is drawn. Knows nothing about lenses.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lenses.concept import Hierarchy
from lenses.errors import ConfigError

REFERENCE_LEVELS = (5, 23, 241, 1283, 2603, 2687, 1105)
"""Concepts at each level of the reference ontology."""

_QUANTILES = (0.0, 0.5, 0.9, 0.99, 1.0)
_CHILDREN = (1.0, 5.0, 11.5, 23.0, 31.0)
"""Children of a parent at these quantiles, a little below the reference's: crowded levels bring them up."""
_MEAN_CHILDREN = 6.34
"""Below level 1, whose parents are crowded: 241 concepts under at most 23."""


def parse_levels(text: str) -> tuple[int, ...]:
    """Concepts at each level out of `5,23,241`; raises ConfigError."""
    try:
        levels = tuple(int(part) for part in text.split(","))
    except ValueError:
        levels = ()
    if not levels or min(levels) < 1:
        raise ConfigError(f"levels '{text}': expected the number of concepts at each level, such as 5,23,241")
    return levels


def synthetic_tree(levels: Sequence[int], seed: int) -> Hierarchy:
    """A hierarchy with `levels[n]` concepts at level n; ids are paths of rows, such as `c4.2.17`."""
    rng = np.random.Generator(np.random.SFC64([seed, len(levels), *levels]))
    above = [f"c{row}" for row in range(levels[0])]
    nodes: list[tuple[str, str, str | None]] = [(id, _name(id), None) for id in above]
    for level, children in enumerate(levels[1:], start=1):
        # Every concept of the top has children: a domain without any would be a domain of nothing.
        wanted = len(above) if level == 1 else round(children / _MEAN_CHILDREN)
        parents = min(max(1, wanted), len(above), children)
        chosen = sorted(rng.choice(len(above), parents, replace=False).tolist())
        families = zip(chosen, family_sizes(parents, children, rng).tolist(), strict=True)
        below = [(f"{above[at]}.{row}", above[at]) for at, rows in families for row in range(rows)]
        nodes += [(id, _name(id), parent) for id, parent in below]
        above = [id for id, _ in below]
    return Hierarchy.build(nodes)


def family_sizes(families: int, children: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """[families] sizes that sum to `children`, spread as the reference's are where their mean allows it."""
    largest = max(int(_CHILDREN[-1]), -(-children // families))
    places = (np.arange(families) + 0.5) / families
    spread = np.exp(np.interp(places, _QUANTILES, np.log(_CHILDREN)))
    sizes: NDArray[np.int64] = np.rint(spread * children / spread.sum()).astype(np.int64).clip(1, largest)
    while missing := children - int(sizes.sum()):
        able = np.flatnonzero(sizes < largest if missing > 0 else sizes > 1)
        changed = rng.choice(able, min(abs(missing), len(able)), replace=False)
        sizes[changed] += np.sign(missing)
    rng.shuffle(sizes)
    return sizes


def _name(id: str) -> str:
    return f"synthetic {id}"
