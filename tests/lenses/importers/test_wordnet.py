"""The WordNet reader against a tiny dictionary of our own in the same format."""

from pathlib import Path

import pytest

from lenses.errors import SourceError
from lenses.importers.wordnet import is_held_out, read_wordnet, split_gloss
from tests.wordnet_dict import Entry, write

ENTRIES = [
    Entry("thing", ["thing"], "whatever there is"),
    Entry("beast", ["beast", "wild beast"], 'a thing that runs; "the beast ran"; "a tame beast"', ["thing"]),
    Entry("pet", ["pet"], "a beast kept at home", ["beast"], common=False),
    Entry("cat", ["cat"], "a small pet", ["beast", "pet"], topic=5),
    Entry("tom", ["Tom"], "a cat of our street", ["@cat"], topic=5),
    Entry("pet2", ["pet"], "a dear person", ["thing"], common=False),
    Entry("run", ["run"], 'move on fast legs; "he ran"', pos="v"),
    Entry("tame", ["tame(p)"], "used to people", pos="s"),
    Entry("tamely", ["tamely"], "in a tame way", pos="r"),
]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write(tmp_path / "dict", ENTRIES)


def test_ids_carry_the_sense_number_of_the_index(directory: Path) -> None:
    assert list(read_wordnet(directory)) == [
        "thing.n.01",
        "beast.n.01",
        "pet.n.01",
        "cat.n.01",
        "tom.n.01",
        "pet.n.02",
    ]


def test_all_parts_of_speech_are_read_on_request(directory: Path) -> None:
    wordnet = read_wordnet(directory, parts="nvar")
    assert {"run.v.01", "tame.s.01", "tamely.r.01"} <= wordnet.keys()
    assert wordnet["tame.s.01"].lemmas == ("tame",)


def test_lemmas_have_spaces_and_keep_their_capitals(directory: Path) -> None:
    wordnet = read_wordnet(directory)
    assert wordnet["beast.n.01"].lemmas == ("beast", "wild beast")
    assert wordnet["tom.n.01"].lemmas == ("Tom",)


def test_the_first_hypernym_is_the_parent_and_instances_count(directory: Path) -> None:
    wordnet = read_wordnet(directory)
    assert wordnet["cat.n.01"].hypernyms == ("beast.n.01", "pet.n.01")
    assert wordnet["tom.n.01"].hypernyms == ("cat.n.01",)
    assert wordnet["tom.n.01"].is_instance
    assert not wordnet["cat.n.01"].is_instance
    assert wordnet.children["beast.n.01"] == ("pet.n.01", "cat.n.01")


def test_ancestors_go_through_every_hypernym(directory: Path) -> None:
    ancestors = read_wordnet(directory).ancestors
    assert ancestors["tom.n.01"] == {"cat.n.01", "pet.n.01", "beast.n.01", "thing.n.01"}
    assert ancestors["thing.n.01"] == frozenset()


def test_ancestors_of_a_cycle_end(tmp_path: Path) -> None:
    entries = [
        Entry("bind", ["bind"], "hold", ["hold"], pos="v"),
        Entry("hold", ["hold"], "bind", ["bind"], pos="v"),
        Entry("tie", ["tie"], "bind with a rope", ["bind"], pos="v"),
    ]
    ancestors = read_wordnet(write(tmp_path, entries), parts="v").ancestors
    assert ancestors["tie.v.01"] == {"bind.v.01", "hold.v.01"}


def test_a_common_word_is_one_of_the_tagged_texts(directory: Path) -> None:
    wordnet = read_wordnet(directory)
    assert wordnet["cat.n.01"].is_common
    assert not wordnet["pet.n.01"].is_common


@pytest.mark.parametrize(
    ("gloss", "definition", "examples"),
    [
        ("a beast", "a beast", ()),
        ('a beast; "it ran"; "it ate"', "a beast", ("it ran", "it ate")),
        ('a beast; of the wild; "it ran"- A. Poet', "a beast; of the wild", ("it ran",)),
        ('the word "beast" in a text', 'the word "beast" in a text', ()),
        ('(of beasts) wild: "a wild one"', "(of beasts) wild", ("a wild one",)),
        ('"only an example"', "", ("only an example",)),
    ],
)
def test_a_gloss_is_a_definition_and_examples(gloss: str, definition: str, examples: tuple[str, ...]) -> None:
    assert split_gloss(gloss) == (definition, examples)


def test_about_a_tenth_is_held_out_and_always_the_same(tmp_path: Path) -> None:
    entries = [Entry(f"k{n}", [f"thing {n}"], "a thing") for n in range(2000)]
    synsets = list(read_wordnet(write(tmp_path, entries)).values())
    held_out = [synset.id for synset in synsets if is_held_out(synset)]
    assert 150 < len(held_out) < 250
    assert held_out[:3] == [synset.id for synset in synsets if is_held_out(synset)][:3]


def test_a_missing_database_names_the_package(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"No such file.*wordnet-base") as caught:
        read_wordnet(tmp_path / "nowhere")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "old", "new", "found"),
    [
        ("data.noun", "a small pet", "a tiny small pet", "found number"),
        ("data.noun", "| a beast kept at home", "  a beast kept at home", "expected a synset"),
        ("data.noun", "@ 000", "@ 999", "which is no synset"),
        ("data.noun", " n 01 cat", " n 01 dog", "which the index does not have"),
        ("data.noun", " n 01 cat", " n zz cat", "expected a synset"),
        ("index.noun", "cat n 1", "cat n 9", "expected an index entry"),
        ("index.noun", "cat n 1 1", "cat n x 1", "expected an index entry"),
    ],
)
def test_a_damaged_database_is_one_clear_line(
    directory: Path, name: str, old: str, new: str, found: str
) -> None:
    path = directory / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(SourceError, match=found) as caught:
        read_wordnet(directory)
    message = str(caught.value)
    assert str(path) in message
    assert "wordnet-base" in message
    assert "\n" not in message


def test_bytes_that_are_no_text_are_damage(directory: Path) -> None:
    with (directory / "data.noun").open("ab") as file:
        file.write(b"\xff\xfe\n")
    with pytest.raises(SourceError, match="not UTF-8"):
        read_wordnet(directory)


def test_an_empty_file_is_damage(directory: Path) -> None:
    (directory / "data.noun").write_text("")
    with pytest.raises(SourceError, match="found no synset"):
        read_wordnet(directory)
