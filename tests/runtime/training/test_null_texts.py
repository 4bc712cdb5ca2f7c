"""Readers of null corpora, on a dictionary and pages written here in the formats that Debian's have."""

import gzip
from pathlib import Path

import pytest

from lenses.errors import SourceError
from runtime.training.null_texts import MOST_WORDS, definition_prose, gcide, manual, roff_prose, spaced

ENTRY = """\
Cascaron \\Cas`ca*ron"\\, n. [Sp. cascar['o]n; see {Shell [2]}
   of an egg.] (Zo["o]l.)
   1. Lit., an eggshell; hence, a {large eggshell} filled with
      confetti to be thrown during balls. [Western U. S.] --Shak.
      [1913 Webster]

   Syn: nothing much.
"""
PAGE = """\
.\\" a comment
.TH thing 7 2023-02-05 "Pages"
.SH NAME
thing \\- is not read
.SH DESCRIPTION
The
.B thing
of
.BR open (2)
is \\fIvery\\fP old \\(em and\\-so on.
.EX
code is not read
.EE
.SH SEE ALSO
.BR other (1)
"""


def index_number(value: int) -> str:
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    text = ""
    while value or not text:
        value, digit = divmod(value, 64)
        text = digits[digit] + text
    return text


def write_dictionary(directory: Path, entries: list[str]) -> Path:
    """`gcide.index` and `gcide.dict.dz`, with an entry about the database and a second headword for each entry."""
    directory.mkdir(parents=True, exist_ok=True)
    data, lines = b"about the database", ["00-database-info\tA\tS"]
    for number, entry in enumerate(entries):
        raw = entry.encode()
        place = f"{index_number(len(data))}\t{index_number(len(raw))}"
        lines += [f"word{number}\t{place}", f"also{number}\t{place}"]
        data += raw
    (directory / "gcide.index").write_text("\n".join(lines) + "\n")
    (directory / "gcide.dict.dz").write_bytes(gzip.compress(data))
    return directory


def write_pages(directory: Path, pages: list[str]) -> Path:
    for number, page in enumerate(pages):
        path = directory / f"man{number % 3 + 1}" / f"page{number}.{number % 3 + 1}.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(page.encode()))
    return directory


def test_an_entry_becomes_its_definitions() -> None:
    said = definition_prose(ENTRY)
    assert said == (
        "Lit., an eggshell; hence, a large eggshell filled with confetti to be thrown during balls. nothing much."
    )


def test_a_page_becomes_its_running_text() -> None:
    assert roff_prose(PAGE) == "The thing of open(2) is very old - and-so on."


def test_the_dictionary_is_read_once_an_entry_and_without_what_wordnet_gave(tmp_path: Path) -> None:
    longer = "a word of its own and many more of them to follow"
    entries = [f"W{n} \\W{n}\\, n.\n   {n}th {longer} {n}.\n" for n in range(20)]
    entries.append("Taken \\Taken\\, n.\n   Quite another word, and many more of them.\n   [WordNet 1.5]\n")
    entries.append("Short \\Short\\, n.\n   See {Long}.\n")
    entries.append("Long \\Long\\, n.\n   " + "so it goes on and on " * 40)
    texts = gcide(write_dictionary(tmp_path, entries))
    assert len(texts) == 21
    assert texts[0] == f"0th {longer} 0."
    assert max(len(text.split()) for text in texts) == MOST_WORDS
    assert not any("another" in text for text in texts)
    assert gcide(tmp_path, limit=5) == spaced(texts, 5)
    assert len(set(spaced(texts, 5))) == 5


def test_pages_that_begin_alike_count_once(tmp_path: Path) -> None:
    own = ".SH DESCRIPTION\nThe call number {0} {0} {0} does things that are said at length.\n"
    pages = [own.format(n) for n in range(6)] + [own.format(0) + "And more.\n", ".so man1/page0.1\n"]
    texts = manual(write_pages(tmp_path, pages))
    assert len(texts) == 6
    assert all(text.startswith("The call number") for text in texts)


def test_what_is_missing_or_damaged_is_one_line_with_the_package_to_install(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="dict-gcide"):
        gcide(tmp_path)
    with pytest.raises(SourceError, match=r"manpages-dev.*--man DIR"):
        manual(tmp_path)
    write_dictionary(tmp_path, [ENTRY])
    (tmp_path / "gcide.index").write_text("word\tA\t*\n")
    with pytest.raises(SourceError, match="no line of an index"):
        gcide(tmp_path)
    (tmp_path / "gcide.dict.dz").write_bytes(b"no gzip")
    with pytest.raises(SourceError, match="no dictionary"):
        gcide(tmp_path)
    write_pages(tmp_path, [PAGE])
    (tmp_path / "man1" / "page0.1.gz").write_bytes(gzip.compress(PAGE.encode())[:-9])
    with pytest.raises(SourceError, match="no page"):
        manual(tmp_path)
