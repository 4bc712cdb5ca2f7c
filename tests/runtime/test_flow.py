"""A growing text in lines: nothing is lost, nothing is too wide, and what stands stays."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len

from runtime.flow import Flow


def lines_of(flow: Flow) -> list[str]:
    return [flow.text[start:end] for start, end in flow.lines]


def flowing(pieces: list[str], width: int) -> Flow:
    flow = Flow(width)
    for piece in pieces:
        flow.add(piece)
    return flow


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", [""]),
        ("a violin is", ["a violin", "is"]),
        ("a violin\n\nis it", ["a violin", "", "is it"]),
        ("a  violoncello", ["a", "violoncell", "o"]),
        ("音楽音楽音楽 音", ["音楽音楽音", "楽 音"]),
        ("ends in a space ", ["ends in a", "space"]),
        ("  violoncello", ["  violonce", "llo"]),
        ("           a", ["", "a"]),
    ],
)
def test_lines_break_at_spaces_and_line_ends(text: str, lines: list[str]) -> None:
    assert lines_of(flowing([text], 10)) == lines


@example(["   a"], 2)
@given(st.lists(st.text("ab \n音", max_size=6), max_size=30), st.integers(2, 12))
def test_however_it_comes_it_is_laid_out_the_same_and_whole(pieces: list[str], width: int) -> None:
    flow = flowing(pieces, width)
    lines = lines_of(flow)
    assert lines == lines_of(flowing(["".join(pieces)], width))
    assert all(cell_len(line) <= width for line in lines)
    assert "".join(lines).split() == [] or "".join("".join(lines).split()) == "".join(flow.text.split())


def test_what_was_broken_before_the_last_line_stays() -> None:
    flow = flowing(["one two three four five "], 10)
    before = flow.lines[:-1]
    flow.add("six seven eight")
    assert flow.lines[: len(before)] == before
