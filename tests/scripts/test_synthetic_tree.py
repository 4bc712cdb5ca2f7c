"""The tree of a synthetic pack: as many concepts a level as asked for, in families of the reference's sizes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic.tree import REFERENCE_LEVELS, family_sizes, parse_levels, synthetic_tree

from lenses.errors import ConfigError


def test_the_reference_tree_has_the_references_figures() -> None:
    hierarchy = synthetic_tree(REFERENCE_LEVELS, seed=0)
    assert len(hierarchy) == 7947
    assert tuple(np.bincount(hierarchy.levels).tolist()) == (5, 23, 241, 1283, 2603, 2687, 1105)
    children = np.array([family.rows for family in hierarchy.families[1:]])
    assert len(children) == 1239
    assert children.mean() == pytest.approx(6.4, abs=0.05)
    median, p90, p99 = np.quantile(children, [0.5, 0.9, 0.99])
    assert median == 5
    assert p90 == pytest.approx(12, abs=1)
    assert p99 == pytest.approx(24, abs=1)
    assert (children.min(), children.max()) == (1, 31)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=5), st.integers(0, 9))
def test_every_level_has_as_many_concepts_as_asked_for(levels: list[int], seed: int) -> None:
    hierarchy = synthetic_tree(levels, seed)
    assert np.bincount(hierarchy.levels).tolist() == levels
    assert hierarchy.to_jsonl() == synthetic_tree(levels, seed).to_jsonl()


@settings(deadline=None)
@given(st.integers(1, 80), st.integers(0, 2000), st.integers(0, 9))
def test_families_have_members_and_make_the_sum(families: int, more: int, seed: int) -> None:
    sizes = family_sizes(families, families + more, np.random.default_rng(seed))
    assert len(sizes) == families
    assert sizes.sum() == families + more
    assert sizes.min() >= 1
    assert sizes.max() <= max(31, -(-(families + more) // families))


def test_another_seed_hangs_families_elsewhere() -> None:
    assert synthetic_tree((5, 23, 241), 0).to_jsonl() != synthetic_tree((5, 23, 241), 1).to_jsonl()


@pytest.mark.parametrize("text", ["", "5,,3", "five", "5,0,3", "-1"])
def test_levels_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="such as 5,23,241"):
        parse_levels(text)
