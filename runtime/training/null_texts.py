"""Null corpora: texts of another kind than the training texts, to count on how often a lens fires for nothing.

Two readers of what Debian packages hold, read and never copied into the tree:

    gcide     entries of the Collaborative International Dictionary of English (package `dict-gcide`): definitions in
              running prose, without headwords, pronunciations, etymologies, sources and quotations' authors. What
              its editors took from WordNet is left out, since lenses may have been trained on that
    manual    manual pages (packages `manpages`, `manpages-dev`, ...): the first words of a page's running text, roff
              stripped simply; examples, tables, synopses and pages that begin like another are left out

A text is the unit that intervals are clustered by: an entry, a page. Nobody has said what concepts these are of, so a
lens that fires rightly counts as firing for nothing, and rates measured here are upper bounds of the real ones. It
knows nothing about hosts, lenses or thresholds.
"""

import gzip
import re
import zlib
from collections.abc import Iterable
from pathlib import Path

from lenses.errors import SourceError
from lenses.text import one_line

GCIDE = Path("/usr/share/dictd")
MANUAL = Path("/usr/share/man")
FEWEST_WORDS = 8
"""Shorter texts say nothing."""
MOST_WORDS = 40
"""Of a text, from its beginning: texts of two corpora are then about as long, as rates by sequence want it."""
_OPENING = 6
"""Pages that begin with the same words are one text: variants of a page would count as many."""

_DIGITS = {
    digit: value
    for value, digit in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
}
_BORROWED = "[WordNet"
_BRACKETS = re.compile(r"\[[^\[\]]*\]")
_ACCENT = re.compile(r"\[[^\w\s]?(\w{1,2})[^\w\s.]?\]")
_HEAD = re.compile(r"^.*?\\[^\\\n]*\\[^\n]*\n")
_AUTHOR = re.compile(r"--\s?(?:[A-Z][\w.]*[ ,]*(?:\([^)]*\)\s*)?)+")
_ABBREVIATION = re.compile(r"\((?:[A-Z][a-z]*\.?[ ,&]*)+\)")
_ESCAPE = re.compile(
    r"\\(?:f(?:\[[^\]]*\]|\(..|.)|s[-+]?\d+|\*(?:\[[^\]]*\]|\(..|.)|\[[^\]]*\]|[|^&/,%:]|\"[^\n]*|c$)"
)
_SPECIAL = {"(aq": "'", "(dq": '"', "(co": "", "(bu": "", "(em": " - ", "(en": "-", "(lq": '"', "(rq": '"'}
_NAMED = re.compile(r"\\(\(..)")
_FONT_MACROS = {"B", "I", "BR", "RB", "IR", "RI", "BI", "IB", "SM", "SB"}
_UNREAD_FROM = {"EX": "EE", "nf": "fi", "TS": "TE", "EQ": "EN"}
_UNREAD_SECTIONS = ("NAME", "LIBRARY", "SYNOPSIS", "COLOPHON", "SEE ALSO", "COPYRIGHT", "AUTHOR")


def gcide(directory: Path = GCIDE, *, limit: int | None = None) -> list[str]:
    """Entries as running prose, or `limit` of them, evenly spaced; raises SourceError."""
    index, packed = directory / "gcide.index", directory / "gcide.dict.dz"
    advice = "install Debian's package dict-gcide, or give the directory that holds gcide.index"
    try:
        lines = index.read_text(encoding="utf-8").splitlines()
        data = gzip.decompress(packed.read_bytes())  # dictzip is gzip with an index of its own
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise SourceError(f"{one_line(directory)}: no dictionary ({one_line(error)}); {advice}") from error
    spans = set()
    for line in lines:
        word, _, place = line.partition("\t")
        if word.startswith("00-"):
            continue
        try:
            start, size = (_number(field) for field in place.split("\t")[:2])
        except (KeyError, ValueError) as error:
            raise SourceError(
                f"{one_line(index)}: no line of an index: {one_line(line)}; {advice}"
            ) from error
        spans.add((start, size))
    entries = (data[start : start + size].decode("utf-8", "replace") for start, size in sorted(spans))
    return spaced(_texts(map(definition_prose, entries)), limit)


def manual(directory: Path = MANUAL, *, limit: int | None = None) -> list[str]:
    """A text a manual page, or `limit` of them, evenly spaced; raises SourceError."""
    pages = sorted(directory.glob("man[1-9]*/*.gz"))
    if not pages:
        raise SourceError(
            f"{one_line(directory)}: no manual pages (man1/*.gz and so on); install Debian's packages manpages and "
            "manpages-dev (an image without documentation drops them: unpack one with dpkg -x), or give --man DIR"
        )
    return spaced(_texts(map(_page, pages)), limit)


def lines(path: Path) -> list[str]:
    """The texts of a file that has one a line; raises SourceError."""
    try:
        found = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(
            f"cannot read {one_line(path)}: {one_line(error)}; give gcide, or a file with a text a line"
        ) from error
    return [text for line in found if (text := line.strip())]


def definition_prose(entry: str) -> str:
    """The definitions of an entry in one line; empty where it was taken from WordNet."""
    if _BORROWED in entry:
        return ""
    text, bare = "", _ACCENT.sub(r"\1", entry)
    while bare != text:  # brackets hold brackets
        text, bare = bare, _BRACKETS.sub(" ", bare)
    text = _HEAD.sub("\n", text, count=1)
    text = _ABBREVIATION.sub(" ", text)
    text = re.sub(r"(?m)^\s+(?:\d+\.|\([a-z]\)|Note:|Syn:)", " ", text)
    text = _AUTHOR.sub(" ", text)
    return _plain(text.translate({ord("{"): None, ord("}"): None}))


def roff_prose(source: str) -> str:
    """The running text of a manual page in one line, roff stripped simply."""
    kept: list[str] = []
    until = None
    is_read = False
    for line in source.splitlines():
        if not line.startswith((".", "'")):
            if is_read and until is None:
                kept.append(line)
            continue
        macro, _, rest = line[1:].strip().partition(" ")
        if until is not None:
            until = None if macro == until else until
        elif macro in _UNREAD_FROM:
            until = _UNREAD_FROM[macro]
        elif macro in ("SH", "Sh"):
            is_read = not rest.strip('" ').upper().startswith(_UNREAD_SECTIONS)
        elif macro in _FONT_MACROS and is_read:
            # Alternating fonts join their arguments; one font sets them apart.
            kept.append(
                rest.replace(" ", "") if len(macro) == 2 and '"' not in rest else rest.replace('"', "")
            )
    text = _NAMED.sub(lambda name: _SPECIAL.get(name[1], " "), "\n".join(kept))
    text = _ESCAPE.sub("", text).replace(r"\-", "-").replace(r"\e", "\\").replace("\\ ", " ")
    return _plain(text.replace("\\", ""))


def spaced(texts: list[str], limit: int | None) -> list[str]:
    """`limit` of the texts, evenly spaced; all where there are no more."""
    if limit is None or limit >= len(texts):
        return texts
    return [texts[at * len(texts) // limit] for at in range(limit)]


def _texts(proses: Iterable[str]) -> list[str]:
    """Long enough, cut, and each beginning once."""
    found: dict[tuple[str, ...], str] = {}
    for prose in proses:
        words = prose.split()
        if len(words) >= FEWEST_WORDS:
            found.setdefault(tuple(words[:_OPENING]), " ".join(words[:MOST_WORDS]))
    return list(found.values())


def _page(path: Path) -> str:
    try:
        return roff_prose(gzip.decompress(path.read_bytes()).decode("utf-8", "replace"))
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(
            f"{one_line(path)}: no page ({one_line(error)}); install its package again"
        ) from error


def _plain(text: str) -> str:
    """One line without doubled spaces or what stripping left before punctuation."""
    return re.sub(r"\s+([,.;:])", r"\1", " ".join(text.split())).strip(" ;,-")


def _number(text: str) -> int:
    """A number as dict's index writes it, in base 64."""
    if not text:
        raise ValueError
    value = 0
    for digit in text:
        value = value * 64 + _DIGITS[digit]
    return value
