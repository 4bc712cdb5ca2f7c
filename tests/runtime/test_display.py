"""What is painted fits the terminal, says what the events say, and leaves the terminal as it was."""

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console, RenderableType

from runtime.branches import Branches, strongest_of
from runtime.display import (
    LiveView,
    PlainView,
    format_path,
    format_word,
    print_table,
    visible,
)
from runtime.events import Coverage, Event
from tests.watched import NEW_TOKENS, Watched, watch

LEAVE_SCREEN, SHOW_CURSOR = "\x1b[?1049l", "\x1b[?25h"


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    return watch(tmp_path_factory.mktemp("pack") / "p")


def console(width: int = 80, height: int = 24, *, colours: bool = True) -> Console:
    """A terminal that keeps what is written to it."""
    return Console(
        file=io.StringIO(),
        force_terminal=True,
        width=width,
        height=height,
        color_system="truecolor" if colours else None,
        no_color=not colours,
        _environ={},
    )


def written(target: Console) -> str:
    assert isinstance(target.file, io.StringIO)
    return target.file.getvalue()


def lines_of(frame: RenderableType, width: int) -> list[str]:
    page = Console(file=io.StringIO(), width=width, color_system=None, _environ={})
    page.print(frame)
    return written(page).splitlines()


def live(watched: Watched, target: Console | None = None, **session: int) -> LiveView:
    view = LiveView(watched.session(**session), target or console())
    for event in watched.events:
        view.add(event)
    return view


def plain(watched: Watched, events: list[Event]) -> str:
    out = io.StringIO()
    with PlainView(watched.session(), out) as view:
        for event in events:
            view.add(event)
    return out.getvalue()


# Plain lines.


def test_plain_output_is_a_line_a_token_and_a_summary(watched: Watched) -> None:
    *lines, summary = plain(watched, watched.events).splitlines()
    read = len(watched.prompt) - 1  # BOS is no word
    assert [line.split()[:2] for line in lines[: read + 1]] == [
        *(["1", "read"], ["2", "read"], ["3", "read"]),
        ["4", "wrote"],
    ]
    assert len(lines) == read + NEW_TOKENS
    strongest = watched.events[1].leaves(1)[0]
    assert "'the'" in lines[0]
    assert f"{strongest.concept.name} {strongest.probability:.2f}" in lines[0]
    assert summary.startswith(f"{NEW_TOKENS}/{NEW_TOKENS} tokens; ")


def test_plain_output_has_no_control_characters(watched: Watched) -> None:
    session = watched.session()
    (word,) = session.add(watched.events[0])
    word.text = "\x1b[31m red\r\n"
    text = plain(watched, watched.events) + format_word(word, watched.tokenizer, 3)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)


def test_what_was_not_scored_is_said(watched: Watched) -> None:
    event = watched.events[2]
    lost = replace(event, coverage=Coverage(20, 15, 0, 5, 0), failed=("animal.small",))
    assert "[5 lenses not scored: animal.small]" in plain(watched, [*watched.events[:2], lost])
    nothing = replace(
        event,
        state="non_finite",
        scored=np.empty(0, np.int32),
        logits=np.empty(0, np.float32),
        coverage=Coverage(9, 0, 0, 9, 0),
    )
    assert "not scored: non_finite [9 lenses" in plain(watched, [*watched.events[:2], nothing])


def test_an_uncalibrated_lens_is_marked(watched: Watched) -> None:
    flags = {score.concept.name: score.calibrated for score in watched.events[3].leaves(100)}
    assert set(flags.values()) == {True, False}, "the tiny pack has both kinds"
    line = plain(watched, watched.events[:4]).splitlines()[2]
    for score in watched.events[3].leaves(4):
        mark = "" if score.calibrated else r"\?"
        assert re.search(rf"{score.concept.name} \d\.\d\d{mark}(,|$| )", line)


# The live view.


@pytest.mark.parametrize("width", [60, 100, 200])
@pytest.mark.parametrize("height", [12, 24, 50])
def test_a_frame_fits_its_terminal(watched: Watched, width: int, height: int) -> None:
    lines = lines_of(live(watched, console(width, height), show=8).frame(width, height), width)
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)
    text = "\n".join(lines)
    assert f"{NEW_TOKENS}/{NEW_TOKENS} tokens" in text
    assert "hot" in text
    assert watched.events[-1].leaves(1)[0].concept.name in text


def test_a_frame_shows_the_strongest_concepts_with_path_and_bar(watched: Watched) -> None:
    lines = lines_of(live(watched, show=3).frame(100, 30), 100)
    at = next(i for i, line in enumerate(lines) if "active before" in line)
    for line, score in zip(lines[at + 1 :], watched.events[-1].leaves(3), strict=False):
        path = " > ".join(Branches(watched.pack.hierarchy).path(score.concept))
        assert line.rstrip("│ ").endswith(path)
        assert f"{score.probability:.2f}" in line
        assert line.count("█") == int(score.probability * 20 + 1 / 16)


def test_the_frame_does_not_move_while_the_text_grows(watched: Watched) -> None:
    view = LiveView(watched.session(), console(60))
    places = set()
    for event in watched.events[1:]:
        view.add(event)
        lines = lines_of(view.frame(60, 24), 60)
        places.add(next(i for i, line in enumerate(lines) if "active" in line))
    assert len(places) <= 2, "the average word's length settles, after that nothing moves"


def test_a_live_frame_shows_the_end_of_a_long_text_and_the_last_one_all_of_it(watched: Watched) -> None:
    view = live(watched, show=4)
    text = watched.tokenizer.decode(
        [w.token for w in view._session.transcript.words], skip_special_tokens=True
    )
    first, last = text.split()[0], text.split()[-1]
    cropped = lines_of(view.frame(24, 12), 24)[1]
    assert first not in cropped.split()
    assert len(lines_of(view.frame(24, 12), 24)) <= 12
    whole = lines_of(view.frame(24, None), 24)
    body = " ".join(line.strip("│ ") for line in whole[1 : next(i for i, s in enumerate(whole) if "╰" in s)])
    assert body.split() == text.split()
    assert last in body.split()


def test_a_word_has_the_colour_of_its_strongest_concept(watched: Watched) -> None:
    target = console(200)
    target.print(live(watched, target).frame(200, None))
    text = written(target)
    tinted = 0
    for event in watched.events[len(watched.prompt) - 1 :]:
        strongest = strongest_of(event)
        if strongest is None:
            continue
        tinted += 1
        colour = Branches(watched.pack.hierarchy).tint(strongest.concept).colour
        rgb = ";".join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))
        assert f"\x1b[38;2;{rgb}m {watched.tokenizer.decode(event.next_token)}" in text
    assert tinted


def test_without_colour_there_is_none(watched: Watched) -> None:
    target = console(colours=False)
    target.print(live(watched, target).frame(80, 24))
    assert "38;" not in written(target)
    assert "■" not in written(target), "a legend of colours that are not there"


@pytest.mark.parametrize("ending", [None, KeyboardInterrupt, ZeroDivisionError])
def test_the_terminal_is_given_back_however_it_ends(
    watched: Watched, ending: type[BaseException] | None
) -> None:
    target = console()
    try:
        with LiveView(watched.session(), target) as view:
            for event in watched.events:
                view.add(event)
            if ending is not None:
                raise ending
    except (KeyboardInterrupt, ZeroDivisionError):
        pass
    painted, _, left_behind = written(target).rpartition(LEAVE_SCREEN)
    assert SHOW_CURSOR in painted.rpartition("\x1b[?25l")[2]
    assert ("active before" in left_behind) == (ending is not ZeroDivisionError)


# Pieces.


@pytest.mark.parametrize(
    ("width", "text"),
    [
        (60, "artifact > device > musical instrument > violin"),
        (46, "artifact > … > musical instrument > violin"),
        (30, "artifact > … > violin"),
        (12, "… > violin"),
        (8, "… > vio…"),
    ],
)
def test_a_path_loses_its_middle_first(width: int, text: str) -> None:
    path = format_path(["artifact", "device", "musical instrument", "violin"], width)
    assert path.plain == text
    assert path.cell_len <= width


def test_control_characters_are_shown_not_obeyed() -> None:
    assert visible("a\x1b[2Jb\nc\t") == "a\\x1b[2Jb\nc\\t"


def test_a_table_off_the_terminal_is_lines_with_tabs(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["a", "b"], [["1", "2 3"]])
    assert capsys.readouterr().out == "a\tb\n1\t2 3\n"


def test_painting_costs_nothing_between_frames(watched: Watched) -> None:
    target = console()
    with LiveView(watched.session(), target) as view:
        view.add(watched.events[0])
        size = len(written(target))
        view.add(watched.events[1])
        assert len(written(target)) == size, "a frame a moment after the last one"
