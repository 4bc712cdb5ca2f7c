"""Concepts and texts out of files: what is taken, and how each mistake is named."""

import json
from pathlib import Path

import pytest

from lenses.errors import HierarchyError, SourceError
from lenses.importers.wordnet import read_wordnet
from runtime.training.sources import read_concepts, read_texts, wordnet_questions, wordnet_texts
from tests.wordnet_dict import Entry, write


def lines(path: Path, *values: object) -> Path:
    path.write_text("\n".join(map(json.dumps, values)) + "\n\n")
    return path


ANIMAL = {"id": "animal", "name": "animal", "parent": None}
DOG = {"id": "dog", "name": "dog", "parent": "animal", "definition": "it barks"}


def test_concepts_and_texts_are_read(tmp_path: Path) -> None:
    concepts = read_concepts(lines(tmp_path / "c", ANIMAL, DOG))
    assert [concept.id for concept in concepts.hierarchy] == ["animal", "dog"]
    assert concepts.definitions == {"dog": "it barks"}
    corpus = read_texts(
        lines(
            tmp_path / "t",
            {"text": "It barks.", "concepts": ["dog"]},
            {"text": "It rains.", "concepts": [], "group": "weather"},
            {"concept": "animal", "positive": "It eats.", "negative": "It rusts."},
        ),
        concepts.hierarchy,
    )
    assert [(item.key, set(item.concepts), item.texts) for item in corpus.items] == [
        ("It barks.", {"dog"}, ("It barks.",)),
        ("weather", set(), ("It rains.",)),
        ("It eats.", {"animal"}, ("It eats.",)),
        ("It eats.", set(), ("It rusts.",)),  # with its other side, whatever part that is in
    ]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"id": "dog", "name": "dog"}, "line 2: found id, name, expected"),
        ({"id": 3, "name": "dog", "parent": None}, "all of them text"),
        ([], "line 2: found list, expected"),
        ({"id": "dog", "name": "dog", "parent": "cat"}, "c: concept 'dog' is an orphan"),
    ],
)
def test_a_wrong_concept_is_named_with_its_line(tmp_path: Path, value: object, said: str) -> None:
    with pytest.raises((SourceError, HierarchyError), match=said):
        read_concepts(lines(tmp_path / "c", ANIMAL, value))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"text": "x", "concepts": ["cat"]}, "line 1: 'cat' is none of the 1 concepts"),
        ({"text": " ", "concepts": []}, "found no text"),
        ({"text": "x", "concepts": "animal"}, "concepts that are no list"),
        ({"text": "x"}, "found text, expected"),
        ({"text": "x", "concepts": [], "more": 1}, "found concepts, more, text, expected"),
        ("x", "found str, expected an object"),
    ],
)
def test_a_wrong_text_is_named_with_its_line(tmp_path: Path, value: object, said: str) -> None:
    hierarchy = read_concepts(lines(tmp_path / "c", ANIMAL)).hierarchy
    with pytest.raises(SourceError, match=said):
        read_texts(lines(tmp_path / "t", value), hierarchy)


def test_a_file_that_is_not_there_or_no_json_or_empty_is_named(tmp_path: Path) -> None:
    hierarchy = read_concepts(lines(tmp_path / "c", ANIMAL)).hierarchy
    with pytest.raises(SourceError, match=r"cannot read .*absent"):
        read_texts(tmp_path / "absent", hierarchy)
    (tmp_path / "t").write_text("{nonsense\n")
    with pytest.raises(SourceError, match="t: line 1: "):
        read_texts(tmp_path / "t", hierarchy)
    (tmp_path / "t").write_text("\n")
    with pytest.raises(SourceError, match="has no texts"):
        read_texts(tmp_path / "t", hierarchy)


def test_a_synset_is_of_itself_and_of_all_above_it_in_every_telling(tmp_path: Path) -> None:
    entries = [
        Entry("beast", ["beast"], "a living thing"),
        Entry("pet", ["pet"], "a thing that is kept"),
        Entry("dog", ["dog"], 'it barks; "the dog barks"', ["beast", "pet"]),
    ]
    wordnet = read_wordnet(write(tmp_path / "dict", entries))
    corpus = wordnet_texts(wordnet, 3)
    (dog,) = [item for item in corpus.items if "dog.n.01" in item.concepts]
    assert dog.concepts == {"dog.n.01", "beast.n.01", "pet.n.01"}
    assert len(dog.texts) == 3
    questions = wordnet_questions(wordnet)
    assert [item.key for item in questions.items] == [item.key for item in corpus.items]
    assert any("?" in text for text in questions.texts)
    assert not set(questions.texts) & set(corpus.texts)
