"""Every line is there, whatever is in it, and windows do not depend on where reading began."""

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.scan import texts
from runtime.scan.texts import WINDOW_BYTES, WINDOW_LINES, read_line, windows


def test_what_a_line_can_hold() -> None:
    assert read_line(b'{"text": "a dog", "id": "x", "more": 1}\n', 3) == texts.Text(3, "a dog", "x")
    assert read_line(b'\xef\xbb\xbf{"text": "a", "id": 7}', 1) == texts.Text(1, "a", 7)
    for raw, found in {
        b"{bad": "not valid JSON",
        b"\xff\xfe": "not valid JSON",
        b"  \n": "the line is empty",
        b"[1]": "found a list",
        b"true": "found true or false",
        b'{"id": "x"}': 'found no "text"',
        b'{"text": null}': "found null",
        b'{"text": 3}': "found a number",
        b'{"text": "\\ud800"}': "half a character",
        b'{"text": "a", "id": 1.5}': "no whole number",
        b'{"text": "a", "id": true}': "no whole number",
        b"[" * 100_000: "not valid JSON",
    }.items():
        text = read_line(raw, 2)
        assert (text.line, text.text) == (2, "")
        assert text.problem is not None
        assert found in text.problem


@settings(max_examples=40)
@given(st.lists(st.integers(1, 3000), max_size=200), st.booleans(), st.data())
def test_windows_are_the_same_from_the_end_of_any_window_on(
    lengths: list[int], ends: bool, data: st.DataObject
) -> None:
    lines = [json.dumps({"text": "a" * length, "id": at}) for at, length in enumerate(lengths)]
    raw = "\n".join(lines).encode() + b"\n" * (ends and bool(lines))
    whole = list(windows(io.BytesIO(raw), start_bytes=0, lines_before=0))
    assert [text.id for window in whole for text in window.texts] == list(range(len(lines)))
    assert [text.line for window in whole for text in window.texts] == list(range(1, len(lines) + 1))
    assert not whole or whole[-1].end_bytes == len(raw)
    assert all(len(window.texts) <= WINDOW_LINES for window in whole)
    for before, window in zip([0, *(w.end_bytes for w in whole)], whole, strict=False):
        assert window.end_bytes - before < WINDOW_BYTES + 4000
    cut = data.draw(st.integers(0, len(whole)))
    start = whole[cut - 1].end_bytes if cut else 0
    lines_before = sum(len(window.texts) for window in whole[:cut])
    assert list(windows(io.BytesIO(raw), start_bytes=start, lines_before=lines_before)) == whole[cut:]


def test_a_line_beyond_all_bounds_is_told_and_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "LONGEST_LINE_BYTES", 64)
    raw = b'{"text": "a"}\n' + b"x" * 1000 + b'\n{"text": "b"}\n'
    (window,) = windows(io.BytesIO(raw), start_bytes=0, lines_before=0)
    assert [text.text for text in window.texts] == ["a", "", "b"]
    assert window.texts[1].problem == "the line is longer than 16 MiB"
    assert window.end_bytes == len(raw)
