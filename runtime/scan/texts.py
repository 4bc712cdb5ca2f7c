"""The texts of a scan: lines of JSON with a `text` and perhaps an `id`, in windows of a bounded size.

A line that holds no text is not left out: it is there with what is wrong with it. Windows are cut by lines and bytes
alone, so that a scan which goes on at the end of a window has the same windows as one that never stopped.

Knows nothing about hosts or tokens.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from lenses.text import one_line

WINDOW_LINES = 64
WINDOW_BYTES = 16 * 1024
"""A window ends with the line that reaches either: about as many tokens as a forward takes."""
LONGEST_LINE_BYTES = 16 * 2**20
"""A longer line is not read."""


@dataclass(frozen=True, slots=True)
class Text:
    """One line of the file."""

    line: int
    """From 1 on."""
    text: str
    id: str | int | None = None
    problem: str | None = None
    """Why there is no text in the line; None where there is one."""


@dataclass(frozen=True, slots=True)
class Window:
    """Neighbouring lines, and where in the file they end."""

    texts: list[Text]
    end_bytes: int


def windows(file: BinaryIO, *, start_bytes: int, lines_before: int) -> Iterator[Window]:
    """The windows of a file from `start_bytes` on, the end of one; so many lines were before that."""
    file.seek(start_bytes)
    texts: list[Text] = []
    begin = at = start_bytes
    line = lines_before
    while raw := file.readline(LONGEST_LINE_BYTES):
        line += 1
        at += len(raw)
        is_whole = raw.endswith(b"\n") or len(raw) < LONGEST_LINE_BYTES
        while not is_whole:
            rest = file.readline(LONGEST_LINE_BYTES)
            at += len(rest)
            is_whole = rest.endswith(b"\n") or len(rest) < LONGEST_LINE_BYTES
            raw = b""
        texts.append(read_line(raw, line) if raw else _bad(line, "the line is longer than 16 MiB"))
        if len(texts) >= WINDOW_LINES or at - begin >= WINDOW_BYTES:
            yield Window(texts, at)
            texts, begin = [], at
    if texts:
        yield Window(texts, at)


def read_line(raw: bytes, line: int) -> Text:
    """The text of one line of JSON, or what is wrong with it."""
    if line == 1:
        raw = raw.removeprefix(b"\xef\xbb\xbf")
    if not raw.strip():
        return _bad(line, "the line is empty")
    try:
        value = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        return _bad(line, f"not valid JSON ({one_line(error)})")
    if not isinstance(value, dict):
        return _bad(line, f'found {_kind(value)}, expected an object with "text"')
    id = value.get("id")
    if not (id is None or type(id) is int or (isinstance(id, str) and _is_unicode(id))):
        return _bad(line, "the id is no string and no whole number")
    text = value.get("text")
    if not isinstance(text, str):
        found = f'found {_kind(text)} as "text"' if "text" in value else 'found no "text"'
        return _bad(line, f"{found}, expected a string", id)
    if not _is_unicode(text):
        return _bad(line, "the text holds half a character (a lone surrogate)", id)
    return Text(line, text, id)


def _bad(line: int, problem: str, id: str | int | None = None) -> Text:
    return Text(line, "", id, problem)


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _kind(value: object) -> str:
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")
