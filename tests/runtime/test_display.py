"""Views paint what happened when it happened, cost little, and leave the terminal as it was."""

import io
import re
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from runtime.display import BUDGET_MS, LiveView, PlainView, print_table
from runtime.events import Coverage, Event
from runtime.wording import format_word
from tests.watched import NEW_TOKENS, Watched, watch

LEAVE_SCREEN, SHOW_CURSOR = "\x1b[?1049l", "\x1b[?25h"
LIMIT_S = 20


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    return watch(tmp_path_factory.mktemp("pack") / "p")


def console(width: int = 80, height: int = 24) -> Console:
    """A terminal that keeps what is written to it."""
    return Console(
        file=io.StringIO(),
        force_terminal=True,
        width=width,
        height=height,
        color_system="truecolor",
        _environ={},
    )


def written(target: Console) -> str:
    assert isinstance(target.file, io.StringIO)
    return target.file.getvalue()


def comes_true(condition: Callable[[], bool]) -> bool:
    """Whether it does within the limit: painting is another thread's."""
    until = time.monotonic() + LIMIT_S
    while not condition() and time.monotonic() < until:
        time.sleep(0.005)
    return condition()


def plain(watched: Watched, events: list[Event], **session: object) -> str:
    out = io.StringIO()
    with PlainView(watched.session(**session), out) as view:
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


def test_a_lens_that_nothing_vouches_for_is_marked(watched: Watched) -> None:
    flags = {score.concept.name: score.vouched for score in watched.events[3].leaves(4)}
    assert set(flags.values()) == {True, False}, "the tiny pack has both kinds"
    line = plain(watched, watched.events[:4]).splitlines()[2]
    for score in watched.events[3].leaves(4):
        mark = "" if score.vouched else r"\?"
        assert re.search(rf"{score.concept.name} \d\.\d\d{mark}(,|$| )", line)


def test_plain_lines_have_tracked_concepts_in_columns_of_their_own(watched: Watched) -> None:
    tracks = ["animal", "person.large.old"]
    lines = plain(watched, watched.events, tracks=tracks).splitlines()[:-1]
    events = [*watched.events[1 : len(watched.prompt)], *watched.events[len(watched.prompt) - 1 :]]
    places = set()
    for line, event in zip(lines, events, strict=True):
        columns = line.split(" | ")
        assert len(columns) == 3
        places.add(line.index("old large person"))
        for column, id in zip(columns, tracks, strict=False):
            score = event.score_of(id)
            said = "not scored" if score is None else f"{score.probability:.2f}"
            assert said in column
    assert len(places) == 1
    assert any("old large person not scored | " in line for line in lines)
    assert any(re.search(r"old large person 0\.\d\d\??  +\| ", line) for line in lines)


# The live view.


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


def test_the_last_of_a_burst_is_painted_without_waiting_for_more(watched: Watched) -> None:
    target = console()
    with LiveView(watched.session(limit=len(watched.events)), target, clock_s=lambda: 0.0) as view:
        for event in watched.events:
            view.add(event)
        last = watched.tokenizer.decode(watched.events[-1].next_token).strip()
        assert comes_true(lambda: f"active before “{last}” is written" in written(target))


def test_only_lines_that_changed_are_written_again(watched: Watched) -> None:
    target = console()
    view = LiveView(watched.session(tracks=["animal"]), target, clock_s=lambda: 0.0)
    view._screen.open()
    for event in watched.events[:-1]:
        view.add(event)
    view.paint()
    size = len(written(target))
    view.paint()
    assert len(written(target)) == size, "nothing happened"
    view.add(watched.events[-1])
    view.paint()
    again = written(target)[size:]
    assert "╭─" not in again
    assert f"{NEW_TOKENS}/{NEW_TOKENS} tokens" in again


class Clock:
    """A clock of which every look takes as long as is said."""

    def __init__(self, look_ms: float) -> None:
        self.look_ms = look_ms
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += self.look_ms / 1e3
        return self.now_s


def test_painting_stays_in_its_budget_however_slow_it_is(watched: Watched) -> None:
    clock = Clock(0.1)
    view = LiveView(watched.session(), console(), clock_s=clock)
    view._screen.open()
    view.paint()
    painted = 0
    for _ in range(10):
        for event in watched.events:
            clock.look_ms = 0.1
            view.add(event)
            if view.may_paint:
                clock.look_ms = 9.0
                view.paint()
                painted += 1
    session = view._session
    assert session.view_ms is not None
    assert session.view_ms <= BUDGET_MS * session.events + 9.0, "beyond it by one frame at the most"
    assert painted == pytest.approx(BUDGET_MS * session.events / 9.0, rel=0.1)
    assert f"view {session.view_ms / session.events:.1f} ms a token" in session.facts()


def test_a_terminal_that_changes_its_size_is_painted_anew_while_nothing_happens(watched: Watched) -> None:
    target = console(100, 30)
    with LiveView(watched.session(), target) as view:
        for event in watched.events[:6]:
            view.add(event)
        assert comes_true(lambda: "active before" in written(target))
        before = len(written(target))
        target.size = (44, 18)  # type: ignore[assignment]
        assert comes_true(lambda: "\x1b[2J" in written(target)[before:])
        assert comes_true(lambda: f"╰{'─' * 42}╯" in re.sub(r"\x1b\[[\d;]*m", "", written(target)[before:]))


def test_what_goes_wrong_in_painting_is_raised_where_events_are_added(watched: Watched) -> None:
    class Torn(io.StringIO):
        def write(self, text: str) -> int:
            if "reading the prompt" not in self.getvalue():
                return super().write(text)
            raise OSError("the terminal has gone")

    target = console()
    target.file = Torn()
    view = LiveView(watched.session(), target)
    view._screen.open()
    view.paint()
    view._news.set()
    view.add(watched.events[1])
    view._paint_all()
    with pytest.raises(OSError, match="has gone"):
        view.add(watched.events[2])


def test_what_others_write_to_standard_error_comes_after_the_view(
    watched: Watched, capsys: pytest.CaptureFixture[str]
) -> None:
    with LiveView(watched.session(), console()) as view:
        view.add(watched.events[0])
        print("a warning", file=sys.stderr)
        assert capsys.readouterr().err == ""
    assert capsys.readouterr().err == "a warning\n"


# Tables.


def test_a_table_off_the_terminal_is_lines_with_tabs(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["a", "b"], [["1", "2 3"]])
    assert capsys.readouterr().out == "a\tb\n1\t2 3\n"
