"""Where concepts and the texts about them come from: files of JSON lines, and WordNet.

A line of a concepts file is {"id", "name", "parent"} and, for texts that the host is to write, "definition". A line of
a texts file is one of

    {"text": "...", "concepts": ["id", ...]}                   a text, and all that it is of ([]: of nothing)
    {"concept": "id", "positive": "...", "negative": "..."}    a contrast pair: a text of it, and one that is not

and may have a "group": texts of one group are never both learned from and judged by. Every error names file and line.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lenses.concept import Hierarchy
from lenses.errors import HierarchyError, SourceError
from lenses.files import PathLike, local_path
from lenses.importers.wordnet import Synset, WordNet
from lenses.importers.wordnet_texts import Texts
from lenses.text import one_line, quoted
from runtime.training.corpus import Corpus, Item, Part, part_of

_LINE = '{"text", "concepts"} or {"concept", "positive", "negative"}'


@dataclass(frozen=True, slots=True)
class Concepts:
    """A hierarchy, and what its file says that the concepts mean."""

    hierarchy: Hierarchy
    definitions: Mapping[str, str]


def read_concepts(path: PathLike) -> Concepts:
    """The concepts of a file; raises SourceError, and HierarchyError for what is no hierarchy."""
    nodes: list[tuple[str, str, str | None]] = []
    definitions = {}
    for where, value in _lines(path):
        fields = {"id", "name", "parent"}
        if not fields <= value.keys() <= fields | {"definition"} or not all(
            isinstance(item, str) or (item is None and name == "parent") for name, item in value.items()
        ):
            raise SourceError(
                f'{where}: found {_found(value)}, expected {{"id", "name", "parent"}} and at most "definition", all of '
                "them text; a parent may be null"
            )
        nodes.append((value["id"], value["name"], value["parent"]))
        if "definition" in value:
            definitions[value["id"]] = value["definition"]
    try:
        return Concepts(Hierarchy.build(nodes), definitions)
    except HierarchyError as error:
        raise HierarchyError(f"{one_line(path)}: {error}") from error


def read_texts(path: PathLike, hierarchy: Hierarchy) -> Corpus:
    """The texts of a file, one item a text; raises SourceError, among others for a concept that is not there."""
    known = {concept.id for concept in hierarchy}
    items: list[Item] = []
    for where, value in _lines(path):
        items += _items(where, value, known)
    if not items:
        raise SourceError(f"{one_line(path)} has no texts; give a file with lines of {_LINE}")
    return Corpus(tuple(items))


def wordnet_texts(wordnet: WordNet, tellings: int, part: Part | None = None) -> Corpus:
    """Every synset, or those of one part, told in so many ways."""
    texts = Texts(wordnet)
    return Corpus(
        tuple(
            synset_item(
                wordnet, synset, (texts.document(synset, seed=1, epoch=epoch) for epoch in range(tellings))
            )
            for synset in synsets_of(wordnet, part)
        )
    )


def wordnet_questions(wordnet: WordNet, part: Part | None = None) -> Corpus:
    """The same synsets in another style: a question, and its answer."""
    texts = Texts(wordnet)
    return Corpus(
        tuple(
            synset_item(wordnet, synset, [" ".join(texts.chat(synset, seed=2, epoch=0))])
            for synset in synsets_of(wordnet, part)
        )
    )


def synsets_of(wordnet: WordNet, part: Part | None) -> list[Synset]:
    """The synsets of one part; None: all."""
    return [synset for synset in wordnet.values() if part is None or part_of(synset_key(synset)) == part]


def synset_key(synset: Synset) -> str:
    """What decides which part a synset falls into: its place in the database."""
    return f"{synset.pos}:{synset.offset:08d}"


def synset_item(wordnet: WordNet, synset: Synset, texts: Iterable[str]) -> Item:
    """A synset told in these texts: it is of itself and of all above it, through all hypernyms."""
    return Item(synset_key(synset), wordnet.ancestors[synset.id] | {synset.id}, tuple(texts))


def _items(where: str, value: dict[str, Any], known: set[str]) -> Iterator[Item]:
    group = value.get("group")
    if value.keys() - {"group"} == {"text", "concepts"}:
        told = [(value["text"], value["concepts"])]
    elif value.keys() - {"group"} == {"concept", "positive", "negative"}:
        told = [(value["positive"], [value["concept"]]), (value["negative"], [])]
        group = value["positive"] if group is None else group  # both sides of a pair are in one part
    else:
        raise SourceError(f"{where}: found {_found(value)}, expected {_LINE}, and at most a group")
    for text, concepts in told:
        if not isinstance(text, str) or not text.strip() or not isinstance(concepts, list):
            raise SourceError(f"{where}: found no text, or concepts that are no list, expected {_LINE}")
        for one in concepts:
            if one not in known:
                raise SourceError(
                    f"{where}: {quoted(one)} is none of the {len(known)} concepts; correct it, or add it to them"
                )
        yield Item(str(text if group is None else group), frozenset(concepts), (text,))


def _lines(path: PathLike) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every line that is not blank, with how messages call it."""
    try:
        lines = local_path(path).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(
            f"cannot read {one_line(path)}: {one_line(error)}; give a file of JSON lines in UTF-8"
        ) from error
    for n, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{one_line(Path(path))}: line {n}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise SourceError(f"{where}: {one_line(error)}; correct the line") from error
        if not isinstance(value, dict):
            raise SourceError(f"{where}: found {_found(value)}, expected an object")
        yield where, value


def _found(value: object) -> str:
    return one_line(", ".join(sorted(map(str, value)))) if isinstance(value, dict) else type(value).__name__
