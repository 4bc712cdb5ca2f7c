"""Reads the WordNet 3.0 database files (`data.noun`, `index.noun`, ...) into plain synsets.

Knows the file format and nothing about lenses, models or texts made from glosses. A synset's id is written
the usual way, `animal.n.01`: its first lemma, its part of speech, the number of that lemma's sense (which
only the index file tells). Hypernyms include instance hypernyms: `Amati` is a violin for our purposes.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from lenses.errors import SourceError
from lenses.text import one_line, quoted

PARTS_OF_SPEECH = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
"""Letter in an id to the ending of the file's name; satellite adjectives (`s`) live in `data.adj`."""

HELD_OUT_RULE = "sha256('{pos}:{offset:08d}') read as a big-endian number, modulo 10, is 0"
"""The rule of `is_held_out`, in words, for the record beside whatever was trained."""

_ADVICE = "install Debian's package wordnet-base and use --wordnet /usr/share/wordnet"
_EXAMPLES_START = re.compile(r'(?:^|[;:,]|\))\s*(?=")')
_QUOTED = re.compile(r'"([^"]+)"')
_MARKER = re.compile(r"\((?:a|p|ip)\)$")


@dataclass(frozen=True, slots=True)
class Synset:
    """One sense: what is said of it in the database, with spaces for underscores in its lemmas."""

    id: str
    pos: str
    """`n`, `v`, `a`, `s` (satellite adjective) or `r`."""
    offset: int
    """Byte offset in the data file: the database's own key."""
    topic: int
    """Number of the lexicographer file, 3 to 28 for nouns (5 is animals, 6 artifacts, 18 persons)."""
    lemmas: tuple[str, ...]
    definition: str
    examples: tuple[str, ...]
    hypernyms: tuple[str, ...]
    """Ids, in the order of the database: the first is the parent in a tree."""
    is_instance: bool
    """Whether the first hypernym is an instance hypernym, as of a person, a river, a painting."""
    is_common: bool
    """Whether Princeton's tagged texts hold the first lemma in this sense: a hint of how known it is."""


class WordNet(Mapping[str, Synset]):
    """Synsets of one or more parts of speech by id, in the order of the database (n, v, a, r)."""

    def __init__(self, synsets: Iterable[Synset]) -> None:
        self._synsets = {synset.id: synset for synset in synsets}

    def __getitem__(self, synset_id: str) -> Synset:
        return self._synsets[synset_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._synsets)

    def __len__(self) -> int:
        return len(self._synsets)

    @cached_property
    def children(self) -> dict[str, tuple[str, ...]]:
        """Ids of the synsets whose *first* hypernym is the key: the tree, not the whole graph."""
        found: dict[str, list[str]] = {}
        for synset in self._synsets.values():
            if synset.hypernyms:
                found.setdefault(synset.hypernyms[0], []).append(synset.id)
        return {parent: tuple(ids) for parent, ids in found.items()}

    @cached_property
    def ancestors(self) -> dict[str, frozenset[str]]:
        """For every synset the ids above it, through *all* hypernyms; the synset itself is not among them.

        A text of a synset is a text of each of these, so this, not the tree, is what labels are made from.
        """
        closed: dict[str, frozenset[str]] = {}
        for start in self._synsets:
            # A stack instead of recursion: chains are short, but a damaged file could make them long.
            stack = [(start, False)]
            on_path: set[str] = set()
            while stack:
                current, is_ready = stack.pop()
                if current in closed:
                    continue
                above = self._synsets[current].hypernyms
                if is_ready:
                    on_path.discard(current)
                    closed[current] = frozenset(above).union(*(closed.get(parent, ()) for parent in above))
                    continue
                # WordNet 3.0 has one cycle among its verbs (inhibit, restrain): cut where it closes.
                on_path.add(current)
                stack.append((current, True))
                stack.extend((parent, False) for parent in above if parent not in on_path)
        return closed


def is_held_out(synset: Synset) -> bool:
    """Whether a synset is in the fixed tenth that no host and no lens is trained on (`HELD_OUT_RULE`)."""
    digest = hashlib.sha256(f"{synset.pos}:{synset.offset:08d}".encode()).digest()
    return int.from_bytes(digest, "big") % 10 == 0


def read_wordnet(directory: Path, *, parts: Iterable[str] = ("n",)) -> WordNet:
    """Read the synsets of the given parts of speech (letters of `PARTS_OF_SPEECH`) from a `dict` directory.

    Raises `SourceError` when a file is missing or is not what the format says.
    """
    synsets: list[Synset] = []
    for part in parts:
        ending = PARTS_OF_SPEECH[part]
        senses = _read_index(directory / f"index.{ending}")
        synsets.extend(_read_data(directory / f"data.{ending}", senses))
    return WordNet(synsets)


@dataclass(frozen=True, slots=True)
class _Sense:
    number: int
    is_common: bool


def _lines(path: Path) -> Iterator[tuple[int, int, str]]:
    """Yield (line number, byte offset, text) of the lines that are not the licence at the file's head."""
    try:
        content = path.read_bytes()
    except OSError as error:
        reason = one_line(error.strerror or error)
        raise SourceError(f"WordNet file {one_line(path)}: {reason}; {_ADVICE}") from error
    offset = 0
    for number, line in enumerate(content.splitlines(keepends=True), start=1):
        if not line.startswith(b"  "):
            try:
                yield number, offset, line.decode("utf-8").strip()
            except UnicodeDecodeError as error:
                raise _damaged(path, number, "found bytes that are not UTF-8, expected text") from error
        offset += len(line)


def _damaged(path: Path, line: int, problem: str) -> SourceError:
    where = f"WordNet file {one_line(path)}, line {line}"
    return SourceError(f"{where}: {problem}; the file is damaged, {_ADVICE}")


def _read_index(path: Path) -> dict[tuple[str, int], _Sense]:
    """Senses by (lower-case lemma with underscores, offset)."""
    senses: dict[tuple[str, int], _Sense] = {}
    for line, _, text in _lines(path):
        fields = text.split()
        try:
            count, pointers = int(fields[2]), int(fields[3])
            common = int(fields[5 + pointers])
            offsets = [int(fields[6 + pointers + sense]) for sense in range(count)]
        except (IndexError, ValueError) as error:
            raise _damaged(path, line, f"found {quoted(text[:40])}, expected an index entry") from error
        for number, offset in enumerate(offsets, start=1):
            senses[fields[0], offset] = _Sense(number, number <= common)
    return senses


def _read_data(path: Path, senses: Mapping[tuple[str, int], _Sense]) -> list[Synset]:
    lines: dict[int, int] = {}
    synsets: dict[int, Synset] = {}
    hypernyms: dict[int, list[int]] = {}
    for line, line_offset, text in _lines(path):
        try:
            synset, above = _parse(text, senses)
        except (IndexError, ValueError) as error:
            raise _damaged(path, line, f"found {quoted(text[:40])}, expected a synset") from error
        except KeyError as error:
            raise _damaged(path, line, f"found {quoted(text[:40])}, which the index does not have") from error
        if synset.offset != line_offset:
            raise _damaged(path, line, f"found number {synset.offset:08d}, expected {line_offset:08d}")
        lines[synset.offset], synsets[synset.offset], hypernyms[synset.offset] = line, synset, above
    if not synsets:
        raise SourceError(f"WordNet file {one_line(path)}: found no synset; the file is damaged, {_ADVICE}")
    for offset, above in hypernyms.items():
        for target in above:
            if target not in synsets:
                raise _damaged(path, lines[offset], f"found hypernym {target:08d}, which is no synset")
    return [
        replace(synset, hypernyms=tuple(synsets[target].id for target in hypernyms[offset]))
        for offset, synset in synsets.items()
    ]


def _parse(text: str, senses: Mapping[tuple[str, int], _Sense]) -> tuple[Synset, list[int]]:
    """Read one line of a data file; its hypernyms are offsets still, the second value."""
    head, separator, gloss = text.partition("|")
    if not separator:
        raise ValueError("no gloss")
    fields = head.split()
    offset, topic, pos, word_count = int(fields[0]), int(fields[1]), fields[2], int(fields[3], 16)
    words = [_MARKER.sub("", word) for word in fields[4 : 4 + 2 * word_count : 2]]
    at = 4 + 2 * word_count
    pointer_count = int(fields[at])
    pointers = fields[at + 1 : at + 1 + 4 * pointer_count]
    if len(pointers) != 4 * pointer_count:
        raise ValueError(f"{len(pointers)} fields of {pointer_count} pointers")
    above = [
        (symbol, int(target))
        for symbol, target in zip(pointers[0::4], pointers[1::4], strict=True)
        if symbol in ("@", "@i")
    ]
    sense = senses[words[0].lower(), offset]
    definition, examples = split_gloss(gloss)
    synset = Synset(
        id=f"{words[0].lower()}.{pos}.{sense.number:02d}",
        pos=pos,
        offset=offset,
        topic=topic,
        lemmas=tuple(word.replace("_", " ") for word in words),
        definition=definition,
        examples=examples,
        hypernyms=(),
        is_instance=bool(above) and above[0][0] == "@i",
        is_common=sense.is_common,
    )
    return synset, [target for _, target in above]


def split_gloss(gloss: str) -> tuple[str, tuple[str, ...]]:
    """Split a gloss in its definition and its quoted examples; who said an example is dropped."""
    gloss = gloss.strip()
    start = _EXAMPLES_START.search(gloss)
    if start is None:
        return gloss.rstrip("; "), ()
    definition = gloss[: start.end()].rstrip(";:, ")
    examples = tuple(found.strip() for found in _QUOTED.findall(gloss[start.end() :]) if found.strip())
    return definition, examples
