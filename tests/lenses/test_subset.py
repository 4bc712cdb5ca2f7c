"""A subset holds whole branches and what is above them, and its lenses are the lenses they were."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lenses.errors import ConceptNotFound
from lenses.subset import kept_concepts, write_subset
from tests.packs import make_pack


@pytest.mark.parametrize(
    ("kind", "dtype"), [("mlp", "bf16"), ("mlp", "int8"), ("linear", "fp32"), ("compact", "int8")]
)
def test_lenses_and_what_is_known_of_them_are_kept(tmp_path: Path, kind: str, dtype: str) -> None:
    pack = make_pack(tmp_path / "a", branching=(3, 2, 2, 1), kind=kind, dtype=dtype)
    made = write_subset(pack, ["c1-0", "c2-1-1"], tmp_path / "b")
    assert {concept.id for concept in made.hierarchy} == {
        *("c1", "c1-0", "c1-0-0", "c1-0-1", "c1-0-0-0", "c1-0-1-0"),
        *("c2", "c2-1", "c2-1-1", "c2-1-1-0"),
    }
    state_D = torch.randn(16, generator=torch.Generator().manual_seed(1))
    for index, concept in enumerate(made.hierarchy):
        old = pack.hierarchy.index(concept.id)
        was = pack.hierarchy.concepts[old]
        assert (concept.name, concept.parent, concept.level) == (was.name, was.parent, was.level)
        assert (concept.metrics, concept.threshold) == (was.metrics, was.threshold)
        assert torch.equal(made.lens(index).weight1, pack.lens(old).weight1)
        # In the last bit a product depends on where its operands lie.
        expected = pack.lens(old).probability(state_D)
        assert made.lens(index).probability(state_D) == pytest.approx(expected, rel=1e-5)
        assert made.heads.calibrated[index] == pack.heads.calibrated[old]
    assert made.config.provenance["subset_of"] == pack.identity
    made.verify()


def test_a_whole_pack_is_a_subset_of_itself(tmp_path: Path) -> None:
    pack = make_pack(tmp_path / "a")
    made = write_subset(pack, ["c0", "c1", "c2"], tmp_path / "b")
    assert made.hierarchy.concepts == pack.hierarchy.concepts
    for family in range(len(pack.hierarchy.families)):
        assert torch.equal(made.read_family(family), pack.read_family(family))


def test_a_shallower_subset_has_fewer_base_levels(tmp_path: Path) -> None:
    pack = make_pack(tmp_path / "a", nodes=[("a", "a", None), ("b", "b", None), ("c", "c", "a")])
    assert pack.config.base_levels == (0, 1)
    assert write_subset(pack, ["b"], tmp_path / "b").config.base_levels == (0,)


def test_an_unknown_concept_is_named(tmp_path: Path) -> None:
    pack = make_pack(tmp_path / "a")
    with pytest.raises(ConceptNotFound, match="c9"):
        write_subset(pack, ["c9"], tmp_path / "b")
    assert list(np.array(kept_concepts(pack.hierarchy, []))) == []
