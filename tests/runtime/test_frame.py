"""What is painted fits the terminal, says what the events say, and does not move."""

import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from rich.text import Text

from runtime.branches import TINT_FROM, Branches, strongest_of
from runtime.events import Coverage, Event
from runtime.frame import Frame
from runtime.trend import NOT_SCORED, PROMPT_END
from tests.watched import NEW_TOKENS, Watched, watch

DEEP = "animal.large.old"
TRACKS = ("animal", DEEP, "person.small")


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    return watch(tmp_path_factory.mktemp("pack") / "p")


def frame_of(watched: Watched, events: list[Event] | None = None, **session: object) -> Frame:
    frame = Frame(watched.session(**session))  # type: ignore[arg-type]
    for event in watched.events if events is None else events:
        frame.add(event)
    return frame


def plain(lines: list[Text]) -> list[str]:
    return [line.plain for line in lines]


def row_of(lines: list[str], start: str) -> str:
    return next(line for line in lines if line.strip("│ ").startswith(start))


@pytest.mark.parametrize("width", [40, 60, 100, 200])
@pytest.mark.parametrize("height", [12, 18, 24, 50])
@pytest.mark.parametrize("tracks", [(), TRACKS])
def test_a_frame_fits_its_terminal(
    watched: Watched, width: int, height: int, tracks: tuple[str, ...]
) -> None:
    frame = frame_of(watched, show=8, tracks=tracks)
    for colours in (True, False):
        lines = frame.lines(width, height, colours=colours)
        assert len(lines) <= height
        assert all(line.cell_len <= width for line in lines)
        text = "\n".join(plain(lines))
        assert f"{NEW_TOKENS}/{NEW_TOKENS} tokens" in text
        assert watched.events[-1].leaves(1)[0].concept.name in text
        assert watched.tokenizer.decode(watched.events[-1].next_token).strip() in text
        assert text.count("large animal") >= bool(tracks)
        boxed = [line for line in plain(lines) if line[:1] and line[0] in "╭├│╰"]
        assert {len(line) for line in boxed} == {width}, "the box is closed on its right"


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (12, 4), (24, 8), (39, 5)])
def test_a_terminal_too_small_for_anything_still_gets_no_more_than_it_has(
    watched: Watched, size: tuple[int, int]
) -> None:
    lines = frame_of(watched, tracks=TRACKS).lines(*size, colours=True)
    assert 1 <= len(lines) <= size[1]
    assert all(line.cell_len <= size[0] for line in lines)


def test_a_low_terminal_keeps_the_picture_and_loses_the_words_about_it(watched: Watched) -> None:
    frame = frame_of(watched, show=8, tracks=TRACKS)
    whole = "\n".join(plain(frame.lines(100, 40, colours=True)))
    low = "\n".join(plain(frame.lines(100, 13, colours=True)))
    for about in ("evidence", "a word's colour", "memory"):
        assert about in whole
        assert about not in low
    assert low.count(PROMPT_END) > 3
    assert "tracked (no room for 1 of 3)" in "\n".join(plain(frame.lines(100, 9, colours=True)))


def test_a_frame_shows_the_strongest_concepts_with_path_and_bar(watched: Watched) -> None:
    lines = plain(frame_of(watched, show=3).lines(100, 30, colours=True))
    at = next(i for i, line in enumerate(lines) if "active before" in line)
    for line, score in zip(lines[at + 1 :], watched.events[-1].leaves(3), strict=False):
        path = " > ".join(Branches(watched.pack.hierarchy).path(score.concept))
        assert line.rstrip("│ ").endswith(path)
        assert f"{score.probability:.2f}" in line
        assert line.count("█") == int(score.probability * 20 + 1 / 16)


def test_the_title_says_whether_the_word_was_read_or_written(watched: Watched) -> None:
    read = plain(frame_of(watched, watched.events[:2]).lines(80, 24, colours=True))
    assert any("active as “the” is read" in line for line in read)
    written = plain(frame_of(watched).lines(80, 24, colours=True))
    last = watched.tokenizer.decode(watched.events[-1].next_token).strip()
    assert any(f"active before “{last}” is written" in line for line in written)
    assert any(
        "reading the prompt" in line for line in plain(frame_of(watched, []).lines(80, 24, colours=True))
    )


def test_a_tracked_concept_has_its_path_its_probability_and_its_trend(watched: Watched) -> None:
    frame = frame_of(watched, tracks=TRACKS)
    lines = plain(frame.lines(100, 30, colours=True))
    score = watched.events[-1].score_of("animal")
    assert score is not None
    row = row_of(lines[lines.index(next(line for line in lines if "tracked" in line)) :], "animal ")
    assert f" {score.probability:.2f}" in row
    assert len(re.findall("[▁▂▃▄▅▆▇█]", row)) == len(watched.events) - 1
    assert "animal > large animal > old large animal" in "\n".join(lines)


def test_a_tracked_concept_that_is_not_opened_is_not_scored_and_not_zero(watched: Watched) -> None:
    last = next(at for at, event in enumerate(watched.events) if at and event.score_of(DEEP) is None)
    lines = plain(frame_of(watched, watched.events[: last + 1], tracks=[DEEP]).lines(140, 30, colours=True))
    row = row_of(lines, "animal > large animal > old large animal")
    assert "not scored" in row
    assert row.rstrip("│ ").endswith(NOT_SCORED)
    assert "0.00" not in row
    assert any("· not scored" in line for line in lines[-5:]), "the mark is explained"


def test_tracking_does_not_change_what_is_scored(watched: Watched) -> None:
    before = [event.content() for event in watched.events]
    frame_of(watched, tracks=TRACKS).lines(100, 30, colours=True)
    assert [event.content() for event in watched.events] == before


def test_a_concept_keeps_its_place_and_nothing_moves_while_the_text_grows(watched: Watched) -> None:
    for width, height in ((40, 24), (60, 24), (100, 30), (140, 50)):
        frame = Frame(watched.session(tracks=TRACKS, limit=40))
        frame.lines(width, height, colours=True)
        places = set()
        for event in watched.events:
            frame.add(event)
            lines = plain(frame.lines(width, height, colours=True))
            borders = [i for i, line in enumerate(lines) if line[:1] and line[0] in "╭├╰"]
            places.add((*borders, len(lines)))
        assert len(places) == 1, (width, height)


def test_a_resize_lays_the_same_text_out_anew(watched: Watched) -> None:
    grown, resized = Frame(watched.session()), Frame(watched.session())
    for event in watched.events:
        grown.add(event)
        resized.add(event)
        resized.lines(30 + event.position % 50, 24, colours=True)
    assert plain(grown.lines(50, None, colours=True)) == plain(resized.lines(50, None, colours=True))


def test_a_live_frame_shows_the_end_of_a_long_text_and_the_last_one_all_of_it(watched: Watched) -> None:
    frame = frame_of(watched, show=4)
    words = frame._session.transcript.words
    text = watched.tokenizer.decode([word.token for word in words], skip_special_tokens=True)
    first = text.split()[0]
    cropped = plain(frame.lines(24, 12, colours=True))
    assert first not in cropped[1].split()
    whole = plain(frame.lines(24, None, colours=True))
    body = " ".join(line.strip("│ ") for line in whole[1 : next(i for i, s in enumerate(whole) if "├" in s)])
    assert body.split() == text.split()


def test_the_help_says_what_fits_and_only_what_is_there(watched: Watched) -> None:
    help_at = {
        width: row_of(plain(frame_of(watched, tracks=tracks).lines(width, 40, colours=True)), "0.90")
        for width, tracks in ((40, TRACKS), (100, TRACKS), (101, ()), (140, TRACKS))
    }
    assert "evidence 9 to 1" in help_at[40]
    assert "9 to 1" in help_at[100]
    for said in ("· not scored", "│ prompt ends", "? unmeasured or uncalibrated"):
        assert said in help_at[100]
    assert "not scored" not in help_at[101]
    assert "9 to 1 (0.50: none either way)" in help_at[140]


def test_the_legend_names_the_branches_that_were_seen_or_counts_them(watched: Watched) -> None:
    frame = frame_of(watched)
    seen = {
        Branches(watched.pack.hierarchy).tint(score.concept).branch
        for score in map(strongest_of, watched.events)
        if score is not None
    }
    wide = row_of(plain(frame.lines(100, 40, colours=True)), f"a word's colour, from {TINT_FROM:.2f}:")
    assert set(re.findall(r"■ (\w+)", wide)) == seen
    narrow = next(line for line in plain(frame.lines(14, 40, colours=True)) if "■" in line)
    assert len(seen) > 1
    assert narrow.endswith(f"+{len(seen) - narrow.count('■')}")


def test_a_lens_that_nothing_vouches_for_is_marked_in_the_panel(watched: Watched) -> None:
    scores = watched.events[-1].leaves(99)
    assert {score.vouched for score in scores} == {True, False}
    lines = plain(frame_of(watched, show=len(scores)).lines(100, None, colours=True))
    at = next(i for i, line in enumerate(lines) if "active before" in line)
    for line, score in zip(lines[at + 1 :], scores, strict=False):
        assert f"{score.probability:.2f}{' ' if score.vouched else '?'}" in line


def test_where_nothing_may_give_a_colour_the_legend_says_so(tmp_path: Path) -> None:
    watched = watch(tmp_path / "p", new_tokens=4)
    watched.pack.vouched_N[:] = False
    lines = plain(frame_of(watched).lines(100, 40, colours=True))
    assert " no colours: no lens of this pack is calibrated and measured" in lines
    assert not any("a word's colour" in line for line in lines)


def test_a_word_has_the_colour_of_its_strongest_concept(watched: Watched) -> None:
    line = frame_of(watched).lines(400, None, colours=True)[1]
    tinted = 0
    for event in watched.events[len(watched.prompt) - 1 :]:
        strongest = strongest_of(event)
        if strongest is None:
            continue
        tinted += 1
        colour = Branches(watched.pack.hierarchy).tint(strongest.concept).colour
        word = watched.tokenizer.decode(event.next_token)
        assert any(word in line.plain[s.start : s.end] and colour in str(s.style) for s in line.spans)
    assert tinted


def test_read_words_are_italic_and_the_word_in_question_is_bold(watched: Watched) -> None:
    line = frame_of(watched).lines(400, None, colours=True)[1]

    def styled(style: str) -> str:
        return "".join(line.plain[s.start : s.end] for s in line.spans if style in str(s.style).split())

    assert styled("italic").split() == ["the", "violin", "is"]
    assert styled("bold").strip() == watched.tokenizer.decode(watched.events[-1].next_token).strip()


def test_a_position_that_was_not_scored_says_why(watched: Watched) -> None:
    odd = replace(
        watched.events[1],
        state="non_finite",
        scored=np.empty(0, np.int32),
        logits=np.empty(0, np.float32),
        coverage=Coverage(9, 0, 0, 9, 0),
    )
    lines = plain(frame_of(watched, [odd], tracks=["animal"]).lines(80, 24, colours=True))
    assert "not scored: non_finite" in "\n".join(lines)
    assert " failed " in row_of(lines, "animal ")


def test_without_colour_there_is_none_and_the_rest_is_said(watched: Watched) -> None:
    page = Console(
        file=io.StringIO(),
        width=80,
        force_terminal=True,
        color_system="truecolor",
        no_color=True,
        _environ={},
    )
    for line in frame_of(watched, tracks=TRACKS).lines(80, 24, colours=False):
        page.print(line)
    assert isinstance(page.file, io.StringIO)
    written = page.file.getvalue()
    assert "38;" not in written
    assert "■" not in written, "a legend of colours that are not there"
    assert "\x1b[3m" in written, "italic is no colour"
    for said in ("tracked", "active before", "evidence", "italic: read"):
        assert said in written


def test_control_characters_in_a_word_do_not_reach_the_terminal(watched: Watched) -> None:
    frame = Frame(watched.session())
    for event in watched.events[:6]:
        frame.add(event)
    word = frame._session.transcript.words[-1]
    word.text = "\x1b[2Ja\tb"
    text = "".join(plain(frame.lines(60, 24, colours=True)))
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", text)
    assert "\\x1b[2Ja" in text
