"""Concepts form a forest in one canonical order, and nothing else passes for one."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lenses.concept import Concept, Hierarchy
from lenses.errors import ConceptNotFound, ConfigError, HierarchyError, PackFormatError, PhoropterError
from tests.packs import tree_nodes, with_metrics

NODES = [
    ("animal", "Animal", None),
    ("artefact", "Artefact", None),
    ("dog", "Dog", "animal"),
    ("violin", "Violin", "artefact"),
    ("cat", "Cat", "animal"),
    ("puppy", "Puppy", "dog"),
]


@st.composite
def forests(draw):
    """The nodes of any forest of up to 40 concepts, in any order."""
    count = draw(st.integers(1, 40))
    parents = [draw(st.integers(-1, index - 1)) for index in range(count)]
    names = st.text(st.characters(exclude_categories=("C", "Zl", "Zp")), min_size=1).filter(str.strip)
    nodes = [
        (f"c{index}", draw(names), None if parent < 0 else f"c{parent}")
        for index, parent in enumerate(parents)
    ]
    return draw(st.permutations(nodes))


def ids(hierarchy: Hierarchy) -> list[str]:
    return [concept.id for concept in hierarchy.concepts]


def test_the_order_is_depth_first_over_families():
    hierarchy = Hierarchy.build(NODES)
    assert ids(hierarchy) == ["animal", "artefact", "dog", "cat", "puppy", "violin"]
    assert [(f.parent, f.first, f.rows, f.level) for f in hierarchy.families] == [
        (None, 0, 2, 0),
        (0, 2, 2, 1),
        (2, 4, 1, 2),
        (1, 5, 1, 1),
    ]
    assert [(c.level, c.family, c.row) for c in hierarchy.concepts] == [
        (0, 0, 0),
        (0, 0, 1),
        (1, 1, 0),
        (1, 1, 1),
        (2, 2, 0),
        (1, 3, 0),
    ]
    np.testing.assert_array_equal(hierarchy.opens, [1, 3, 2, -1, -1, -1])
    np.testing.assert_array_equal(hierarchy.parents, [-1, -1, 0, 0, 2, 1])
    np.testing.assert_array_equal(hierarchy.levels, [0, 0, 1, 1, 2, 1])
    assert hierarchy.depth == 3
    assert hierarchy.path(hierarchy.index("puppy")) == (0, 2, 4)
    assert hierarchy.base_families([0]) == (0,)
    assert hierarchy.base_families([0, 1]) == (0, 1, 3)


@given(forests())
def test_any_forest_is_arranged_and_survives_a_round_trip(nodes):
    hierarchy = Hierarchy.build(nodes)
    assert {c.id: (c.name, c.parent) for c in hierarchy} == {id: (name, parent) for id, name, parent in nodes}
    for index, concept in enumerate(hierarchy):
        family = hierarchy.families[concept.family]
        assert index == family.first + concept.row == hierarchy.index(concept.id)
        assert concept.parent == (None if family.parent is None else hierarchy.concepts[family.parent].id)
        path = hierarchy.path(index)
        assert [hierarchy.levels[step] for step in path] == list(range(concept.level + 1))
        assert path[-1] == index
    assert sum(family.rows for family in hierarchy.families) == len(hierarchy)
    for family in hierarchy.families[1:]:
        assert hierarchy.opens[family.parent] == family.index
    measured = with_metrics(hierarchy, np.random.default_rng(0))
    again = Hierarchy.from_jsonl(measured.to_jsonl(), "concepts.jsonl")
    assert again.concepts == measured.concepts
    assert again.families == hierarchy.families
    assert again.to_jsonl() == measured.to_jsonl()


@given(forests())
def test_the_families_of_a_branch_are_neighbours(nodes):
    hierarchy = Hierarchy.build(nodes)
    for index in range(len(hierarchy)):
        below = {
            f.index for f in hierarchy.families if f.parent is not None and index in hierarchy.path(f.parent)
        }
        assert not below or below == set(range(min(below), min(below) + len(below)))


def test_children_keep_the_order_given():
    nodes = [("b", "b", None), ("a", "a", None), ("z", "z", "a"), ("y", "y", "a")]
    assert ids(Hierarchy.build(nodes)) == ["b", "a", "z", "y"]


def test_a_chain_deeper_than_the_stack_is_built():
    nodes = [(f"c{n}", "x", f"c{n - 1}" if n else None) for n in range(3000)]
    assert Hierarchy.build(nodes).depth == 3000


def test_a_chain_deeper_than_levels_can_count_is_refused(one_line):
    nodes = [(f"c{n}", "x", f"c{n - 1}" if n else None) for n in range(32_002)]
    with pytest.raises(HierarchyError) as caught:
        Hierarchy.build(nodes)
    one_line(caught, "more than 32000 levels")


def test_a_duplicate_id_is_named(one_line):
    with pytest.raises(HierarchyError) as caught:
        Hierarchy.build([*NODES, ("dog", "Another dog", None)])
    one_line(caught, "'dog' stands twice", "give each id one concept")


def test_an_orphan_is_named(one_line):
    with pytest.raises(HierarchyError) as caught:
        Hierarchy.build([*NODES, ("kit", "Kit", "fox")])
    one_line(caught, "'kit' is an orphan", "'fox'", "add the parent")


def test_a_cycle_is_named_with_its_members_alone(one_line):
    nodes = [("a", "a", "b"), ("b", "b", "c"), ("c", "c", "b"), ("top", "top", None)]
    with pytest.raises(HierarchyError) as caught:
        Hierarchy.build(nodes)
    one_line(caught, "cycle: b under c under b;", "give one of them another parent")


def test_a_concept_that_is_its_own_parent_is_a_cycle(one_line):
    with pytest.raises(HierarchyError) as caught:
        Hierarchy.build([("a", "a", "a")])
    one_line(caught, "cycle: a under a;")


def test_no_concepts_are_no_hierarchy(one_line):
    with pytest.raises(HierarchyError) as caught:
        Hierarchy([])
    one_line(caught, "no concepts")


def test_a_wrong_level_is_named(one_line):
    concepts = list(Hierarchy.build(NODES).concepts)
    concepts[2] = replace(concepts[2], level=2)
    with pytest.raises(HierarchyError) as caught:
        Hierarchy(concepts)
    one_line(caught, "'dog' has level 2, expected 1", "correct it")


@pytest.mark.parametrize("change", [{"family": 3}, {"row": 1}])
def test_a_wrong_family_or_row_is_named(one_line, change):
    concepts = list(Hierarchy.build(NODES).concepts)
    concepts[2] = replace(concepts[2], **change)
    with pytest.raises(HierarchyError) as caught:
        Hierarchy(concepts)
    one_line(caught, "'dog' stands at place 2", "expected place 2 as row 0 of family 1", "Hierarchy.build")


def test_families_that_are_not_depth_first_are_named(one_line):
    concepts = list(Hierarchy.build(NODES).concepts)
    concepts[4], concepts[5] = concepts[5], concepts[4]
    with pytest.raises(HierarchyError) as caught:
        Hierarchy(concepts)
    one_line(caught, "'violin' stands at place 4", "depth-first")


@pytest.mark.parametrize(
    "change",
    [
        {"id": ""},
        {"id": "two\nlines"},
        {"name": "\x1b[2Jclear"},
        {"name": "\ud800"},
        {"name": " "},
        {"level": -1},
        {"row": True},
        {"family": 1.0},
        {"metrics": {"auroc": float("nan")}},
        {"metrics": {"auroc": "good"}},
        {"metrics": {"auroc": 10**400}},
        {"threshold": float("inf")},
    ],
)
def test_a_concept_that_cannot_be_shown_or_measured_is_refused(one_line, change):
    with pytest.raises(HierarchyError) as caught:
        Concept(**{"id": "dog", "name": "Dog", "level": 0, "parent": None, "family": 0, "row": 0, **change})
    one_line(caught, "concept '", "expected")


def test_an_unknown_concept_is_answered_with_what_comes_close(one_line):
    with pytest.raises(ConceptNotFound) as caught:
        Hierarchy.build([("animal.n.01", "animal", None), ("violin.n.01", "violin", None)]).index("animal")
    one_line(caught, "'animal'", "did you mean animal.n.01?")


def test_an_unknown_concept_like_no_other_is_answered_with_an_example(one_line):
    with pytest.raises(ConceptNotFound) as caught:
        Hierarchy.build([("animal.n.01", "animal", None)]).index("zzz")
    one_line(caught, "'zzz'", "ids look like animal.n.01")


@pytest.mark.parametrize("levels", [[], [1], [0, 2], [1, 0], [0, 0], [0, 1, 2, 3], [-1]])
def test_base_levels_that_are_no_prefix_are_refused(one_line, levels):
    with pytest.raises(ConfigError) as caught:
        Hierarchy.build(tree_nodes((2, 2, 2))).base_families(levels)
    one_line(caught, "base levels", "expected 0, or 0,1")


LINE = b'{"family":0,"id":"a","level":0,"name":"a","parent":null,"row":0}\n'


@pytest.mark.parametrize(
    ("raw", "part"),
    [
        (LINE + b"{}\n", "line 2: found"),
        (LINE.replace(b'"row"', b'"rank"'), "line 1: found"),
        (LINE.replace(b"}", b',"colour":"red"}'), "line 1: found"),
        (LINE.replace(b"null", b"7"), "line 1: parent must be"),
        (LINE.replace(b"}", b',"metrics":[]}'), "line 1: parent must be"),
        (LINE.replace(b"}", b',"metrics":{"auroc":NaN}}'), "line 1: NaN"),
        (LINE.replace(b'"row":0', b'"row":0,"row":1'), "line 1: the key 'row' stands twice"),
        (LINE[:20] + b"\n", "line 1: not valid JSON"),
        (LINE[:-1], "the last line has no end"),
        (b"\xff\n", "line 1: not valid JSON"),
        (b"[" * 100_000 + b"\n", "line 1: not valid JSON"),
        (b"[]\n", "line 1: found list"),
        (LINE + LINE, "'a' stands twice"),
        (LINE.replace(b'"a"', b'"a\\u001b"'), "is no id or name"),
        (b"", "no concepts"),
    ],
)
def test_a_damaged_file_of_concepts_is_one_line_that_names_it(one_line, raw, part):
    with pytest.raises(PhoropterError) as caught:
        Hierarchy.from_jsonl(raw, "some/concepts.jsonl")
    assert caught.type in (PackFormatError, HierarchyError)
    one_line(caught, "some/concepts.jsonl: ", part)


ALIASES = {"dog": ["Dog:1", "hound"], "puppy": ["Puppy:2"]}


def test_an_alias_finds_the_concept_and_survives_a_round_trip():
    hierarchy = Hierarchy.build(NODES, aliases=ALIASES)
    again = Hierarchy.from_jsonl(hierarchy.to_jsonl(), "concepts.jsonl")
    assert again.concepts == hierarchy.concepts
    for id, aliases in ALIASES.items():
        assert {again.index(alias) for alias in aliases} == {again.index(id)}
    assert b"aliases" not in Hierarchy.build(NODES).to_jsonl(), "a pack without aliases is as it was"


@pytest.mark.parametrize("aliases", [["cat"], ["dog"], ["Puppy:2"]])
def test_an_alias_that_means_two_concepts_is_refused(one_line, aliases):
    with pytest.raises(HierarchyError) as caught:
        Hierarchy.build(NODES, aliases=ALIASES | {"dog": aliases})
    one_line(caught, "alias", aliases[0], "one concept")


@pytest.mark.parametrize("aliases", ["Dog:1", 3, ["a\nb"], [""], [None]])
def test_an_alias_that_is_no_line_of_text_is_refused(one_line, aliases):
    line = Hierarchy.build([("a", "a", None)]).to_jsonl()
    told = json.loads(line) | {"aliases": aliases}
    with pytest.raises(HierarchyError) as caught:
        Hierarchy.from_jsonl(json.dumps(told).encode() + b"\n", "concepts.jsonl")
    one_line(caught, "concepts.jsonl", "'a'")
