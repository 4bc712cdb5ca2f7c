"""The list of variants, and the branches that they are tried on."""

from dataclasses import fields

import numpy as np
import pytest
from choosing import variants as lens_variants
from choosing.variants import branches, variants

from lenses.concept import Hierarchy
from lenses.training import TrainingConfig
from tests.packs import tree_nodes


def test_every_variant_changes_one_field_and_none_is_there_twice() -> None:
    default = TrainingConfig(steps=600)
    found = variants(default)
    assert (found[0].field, found[0].training) == (None, default)
    for variant in found[1:]:
        changed = [
            field.name
            for field in fields(TrainingConfig)
            if getattr(variant.training, field.name) != getattr(default, field.name)
        ]
        assert changed == [variant.field]
    assert len({variant.training for variant in found}) == len(found)
    assert len({variant.name for variant in found}) == len(found)
    assert {one.training.steps for one in found if one.field == "steps"} == {300, 1200}
    assert {one.training.seed for one in found} == {0, 1, 2}
    assert {one.name for one in found if one.field == "widths"} == {"widths 8-8", "widths 32-16"}


def test_one_line_adds_a_field(monkeypatch: pytest.MonkeyPatch) -> None:
    before = variants(TrainingConfig())
    monkeypatch.setattr(lens_variants, "VALUES", {**lens_variants.VALUES, "learning_rate": (1e-3, 3e-3)})
    added = [one for one in variants(TrainingConfig()) if one not in before]
    assert [(one.name, one.training.learning_rate) for one in added] == [("learning_rate 0.003", 3e-3)]


def test_branches_are_whole_and_about_the_share_and_always_the_same() -> None:
    hierarchy = Hierarchy.build(tree_nodes((8, 3, 2)))
    some = branches(hierarchy, 0.25)
    assert 0.2 * len(hierarchy) <= len(some) <= 0.25 * len(hierarchy)
    tops = {concept.id for concept in some if concept.level == 0}
    assert {one.id for one in some} == {
        one.id for n, one in enumerate(hierarchy) if hierarchy.concepts[hierarchy.path(n)[0]].id in tops
    }
    assert [one.id for one in branches(hierarchy, 0.25)] == [one.id for one in some]
    assert len(branches(hierarchy, 1.0)) == len(hierarchy)
    assert (branches(hierarchy, 0.001).levels == 0).sum() == 1, "one branch at the least"
    # Whatever else the hierarchy holds, a branch keeps its place in the order.
    fewer = Hierarchy.build(node for node in tree_nodes((8, 3, 2)) if node[0].split("-")[0] in tops)
    assert [one.id for one in branches(fewer, 1.0)] == [one.id for one in some]
    assert np.array_equal(some.levels, fewer.levels)
