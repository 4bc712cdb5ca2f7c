"""Which synsets become concepts, step by step, on small dictionaries of our own."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from build_wordnet_concepts import TOP, Rules, choose, main

from lenses.concept import Hierarchy
from lenses.errors import ConfigError
from lenses.importers.wordnet import WordNet, read_wordnet
from tests.wordnet_dict import Entry, write

SMALL = Rules(descendants=4, family=3, nearly_all=0.8)


def leaves(above: str, count: int) -> list[Entry]:
    return [Entry(f"{above}-{n}", [f"{above} {n}"], f"one {above}", [above]) for n in range(count)]


def node(key: str, *above: str, size: int, lemmas: Sequence[str] = (), common: bool = True) -> list[Entry]:
    """A synset with so many leaves of its own below it."""
    return [Entry(key, lemmas or [key], f"a {key}", above, common=common), *leaves(key, size)]


def wordnet_of(directory: Path, *parts: Iterable[Entry]) -> WordNet:
    return read_wordnet(write(directory, [entry for part in parts for entry in part]))


def parents(wordnet: WordNet, rules: Rules = SMALL) -> dict[str, str | None]:
    return {node: parent for node, _, parent in choose(wordnet, rules)[0]}


def test_a_concept_needs_enough_synsets_below_it(tmp_path: Path) -> None:
    wordnet = wordnet_of(tmp_path, node("beast", size=4), node("rock", size=3), node("dog", "beast", size=4))
    assert parents(wordnet) == {"beast.n.01": None, "dog.n.01": "beast.n.01"}


def test_general_nodes_are_skipped_and_their_children_move_up(tmp_path: Path) -> None:
    wordnet = wordnet_of(
        tmp_path,
        node("entity", size=0),
        node("object", "entity", size=4),
        node("beast", "object", size=4),
        node("rock", "object", size=5),
    )
    concepts, left_out = choose(wordnet, SMALL)
    assert {"entity.n.01", "object.n.01"} <= set(TOP)
    assert [(one, parent) for one, _, parent in concepts] == [("rock.n.01", None), ("beast.n.01", None)]
    assert left_out.skipped == ["entity.n.01", "object.n.01"]


@pytest.mark.parametrize(
    ("parent_common", "child_lemma", "child_common", "kept"),
    [
        (True, "placental", False, "mammal.n.01"),
        (False, "placental", True, "placental.n.01"),
        (True, "real mammal", True, "mammal.n.01"),
        (True, "placental", True, "placental.n.01"),
    ],
)
def test_of_a_concept_and_an_only_child_that_says_the_same_one_stays(
    tmp_path: Path, parent_common: bool, child_lemma: str, child_common: bool, kept: str
) -> None:
    wordnet = wordnet_of(
        tmp_path,
        node("mammal", size=1, common=parent_common),
        node("child", "mammal", size=5, lemmas=[child_lemma], common=child_common),
        node("dog", "child", size=5),
    )
    concepts, left_out = choose(wordnet, SMALL)
    ids = [one for one, _, _ in concepts]
    assert [one for one in ids if one != "dog.n.01"] == [kept]
    assert list(left_out.fused.values()) == [kept]


def test_an_only_child_that_says_less_is_kept(tmp_path: Path) -> None:
    wordnet = wordnet_of(tmp_path, node("mammal", size=9), node("dog", "mammal", size=4))
    assert parents(wordnet) == {"mammal.n.01": None, "dog.n.01": "mammal.n.01"}


def test_siblings_of_half_the_size_join_an_only_child(tmp_path: Path) -> None:
    wordnet = wordnet_of(
        tmp_path,
        node("mammal", size=9),
        node("dog", "mammal", size=4),
        node("cat", "mammal", size=2),
        node("bat", "mammal", size=1),
    )
    concepts, left_out = choose(wordnet, SMALL)
    assert [one for one, _, _ in concepts] == ["mammal.n.01", "dog.n.01", "cat.n.01"]
    assert left_out.joined == ["cat.n.01"]


def test_a_large_family_keeps_its_largest_and_lists_the_rest_with_what_is_below(tmp_path: Path) -> None:
    wordnet = wordnet_of(
        tmp_path,
        node("beast", size=0),
        *(node(name, "beast", size=20 + size) for size, name in enumerate(["ant", "bee", "cow", "dog"])),
        node("red ant", "ant", size=4),
        node("big ant", "ant", size=5),
    )
    # The ants are the largest with their kinds, the bees the smallest.
    concepts, left_out = choose(wordnet, SMALL)
    assert [one for one, _, _ in concepts] == [
        "beast.n.01",
        "ant.n.01",
        "big_ant.n.01",
        "red_ant.n.01",
        "dog.n.01",
        "cow.n.01",
    ]
    assert left_out.beyond_family == {"beast.n.01": ["bee.n.01"]}
    kept, left_out = choose(wordnet, Rules(descendants=4, family=1))
    assert left_out.beyond_family["beast.n.01"] == ["dog.n.01", "cow.n.01", "bee.n.01"]
    assert len(kept) == 3


def test_instances_count(tmp_path: Path) -> None:
    rivers = [Entry(f"r{n}", [f"River {n}"], "a river", ["@river"]) for n in range(4)]
    wordnet = wordnet_of(tmp_path, node("river", size=0), rivers)
    assert parents(wordnet) == {"river.n.01": None}


def test_the_parent_is_the_first_hypernym(tmp_path: Path) -> None:
    wordnet = wordnet_of(
        tmp_path, node("pet", size=9), node("beast", size=9), node("dog", "beast", "pet", size=4)
    )
    assert parents(wordnet)["dog.n.01"] == "beast.n.01"


def test_names_are_unique_and_the_larger_concept_has_the_plain_one(tmp_path: Path) -> None:
    wordnet = wordnet_of(
        tmp_path,
        node("stuff", size=9),
        node("dish", size=9),
        node("food1", "stuff", size=6, lemmas=["food"]),
        node("food2", "dish", size=5, lemmas=["food", "solid food"]),
        node("food3", "dish", size=4, lemmas=["food"]),
    )
    names = {node: name for node, name, _ in choose(wordnet, SMALL)[0]}
    assert names["food.n.01"] == "food"
    assert names["food.n.02"] == "solid food"
    assert names["food.n.03"] == "food (dish)"


def test_rules_that_cannot_hold_are_refused() -> None:
    with pytest.raises(ConfigError, match="descendants 0"):
        Rules(descendants=0)


def dictionary(directory: Path) -> Path:
    entries = [*node("beast", size=5), *node("dog", "beast", size=4), *node("cat", "beast", size=4)]
    return write(directory, entries)


def test_the_program_writes_the_same_bytes_twice_and_they_are_a_hierarchy(tmp_path: Path) -> None:
    source = dictionary(tmp_path / "dict")
    written = []
    for name in ("one", "two"):
        out = tmp_path / f"{name}.jsonl"
        assert main(["--wordnet", str(source), "--out", str(out), "--descendants", "4"]) == 0
        written.append((out.read_bytes(), out.with_suffix(".left-out.json").read_bytes()))
    assert written[0] == written[1]
    lines = [json.loads(line) for line in written[0][0].splitlines()]
    hierarchy = Hierarchy.build((line["id"], line["name"], line["parent"]) for line in lines)
    assert [concept.id for concept in hierarchy] == ["beast.n.01", "cat.n.01", "dog.n.01"]
    report = json.loads(written[0][1])
    assert report["concepts"] == 3
    assert report["rules"]["descendants"] == 4


def test_no_gloss_is_written(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    main(["--wordnet", str(dictionary(tmp_path / "dict")), "--out", str(out), "--descendants", "4"])
    assert all(set(json.loads(line)) == {"id", "name", "parent"} for line in out.read_text().splitlines())


def test_a_missing_database_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.jsonl"
    assert main(["--wordnet", str(tmp_path / "nowhere"), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "wordnet-base" in error
    assert not out.exists()


def test_a_database_too_small_for_one_concept_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--wordnet", str(dictionary(tmp_path / "dict")), "--out", str(tmp_path / "out.jsonl")]) == 2
    assert "no concepts" in capsys.readouterr().err
