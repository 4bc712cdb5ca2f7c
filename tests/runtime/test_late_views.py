"""Whoever is told an event twice shows it once, as it is in the end: every view, table and file."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.display import PlainView
from runtime.events import Coverage, Event, EventQueue, newest
from runtime.frame import Frame
from runtime.notebook import event_html, run_html
from runtime.page.contents import page_contents
from runtime.session import Pace
from runtime.sink import JsonLines
from runtime.table import to_frame
from runtime.transcript import Transcript
from tests.watched import BRANCHES, NEW_TOKENS, Watched, watch

TRACKS = ("animal", "animal.large.old")
BEHIND = 3
"""How many positions later an event is told again."""


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    return watch(tmp_path_factory.mktemp("pack") / "p", load_threshold=0.0)


@pytest.fixture(scope="module")
def told(watched: Watched) -> list[Event]:
    """The events of the run as `deferred` tells them: most without what is not in the base, and again in a while."""
    told: list[Event] = []
    late: list[Event] = []
    for event in watched.events:
        if len(late) > BEHIND:
            told.append(late.pop(0))
        if event.coverage.scored > len(BRANCHES) and event.position % 4:
            told.append(partly(event))
            late.append(replace(event, run=replace(event.run, revision=1)))
        else:
            told.append(event)
    assert len(told + late) > 1.5 * len(watched.events)
    return told + late


def partly(event: Event) -> Event:
    """The event while only its top level is there."""
    there = event.pack.hierarchy.levels[event.scored] == 0
    missing = int((~there).sum())
    whole = event.coverage
    return replace(
        event,
        scored=event.scored[there],
        logits=event.logits[there],
        coverage=Coverage(whole.expected, whole.scored - missing, missing, 0, 0),
    )


def queue(watched: Watched, events: list[Event], capacity: int = 1000) -> EventQueue:
    kept = EventQueue(capacity)
    kept.tokenizer = watched.tokenizer
    for event in events:
        kept.append(event)
    return kept


def test_the_queue_has_one_event_a_position_the_newest(watched: Watched, told: list[Event]) -> None:
    assert [e.content() for e in queue(watched, told)] == [e.content() for e in watched.events]
    few = queue(watched, told, capacity=2)  # by the time they are told again they have fallen out
    assert [e.position for e in few] == [e.position for e in watched.events[-2:]]
    assert few.dropped == len(watched.events) - 2
    assert [e.content() for e in newest(told)] == [e.content() for e in watched.events]


def test_a_transcript_has_every_word_once_with_its_newest_event(watched: Watched, told: list[Event]) -> None:
    expected = watched.session().transcript
    for event in watched.events:
        expected.add(event)
    transcripts = [watched.session().transcript, Transcript.of(watched.tokenizer, told)]
    spoken = [[word.position for word in transcripts[0].add(event)] for event in told]
    for transcript in transcripts:
        assert [(w.token, w.text) for w in transcript.words] == [(w.token, w.text) for w in expected.words]
        events = [word.event for word in transcript.words]
        assert [e and e.content() for e in events] == [w.event and w.event.content() for w in expected.words]
    again = {event.position: words for event, words in zip(told, spoken, strict=True) if event.run.revision}
    last = len(watched.prompt) - 1
    assert again[last + 2] == [last + 3]
    assert [words for position, words in again.items() if position == last] in ([[last, last + 1]], [])


@pytest.mark.parametrize("height", [None, 24])
def test_the_picture_in_the_end_is_that_of_a_run_that_waited(
    watched: Watched, told: list[Event], height: int | None
) -> None:
    frames = [Frame(watched.session(tracks=TRACKS)) for _ in range(2)]
    for frame, events in zip(frames, (watched.events, told), strict=True):
        for event in events:
            frame.add(event)
    lines = [frame.lines(80, height, colours=True) for frame in frames]
    assert lines[0] == lines[1]


def test_the_picture_says_what_is_to_come_and_does_not_go_back(watched: Watched, told: list[Event]) -> None:
    frame = Frame(watched.session())
    at: list[int] = []
    for event in told[1:]:  # the first is BOS, which is no word
        frame.add(event)
        word = frame._word
        assert word is not None
        assert word.event is not None
        at.append(word.position)
        pending = word.event.coverage.pending
        (title,) = (line.plain for line in frame.lines(100, 30, colours=False) if " active " in line.plain)
        assert (f", {pending} lenses to come " in title) == (pending > 0)
    assert at == sorted(at)


def test_plain_lines_come_at_once_and_again_when_they_are_complete(
    watched: Watched, told: list[Event]
) -> None:
    out = io.StringIO()
    with PlainView(watched.session(), out) as view:
        for event in told:
            view.add(event)
    *lines, _ = out.getvalue().splitlines()
    newest_line = {int(line.split()[0]): line for line in lines}
    once = io.StringIO()
    with PlainView(watched.session(), once) as view:
        for event in watched.events:
            view.add(event)
    assert [newest_line[position] for position in sorted(newest_line)] == once.getvalue().splitlines()[:-1]
    marked = [line for line in lines if "lenses to come]" in line]
    assert len(marked) == len(lines) - len(newest_line) > NEW_TOKENS / 2


def test_json_lines_have_both_and_say_which_is_which(
    watched: Watched, told: list[Event], tmp_path: Path
) -> None:
    with JsonLines(tmp_path / "out.jsonl", show=3) as sink:
        for event in told:
            sink(event)
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["run"]["revision"] for line in lines] == [event.run.revision for event in told]
    assert [line["coverage"]["pending"] for line in lines] == [event.coverage.pending for event in told]


def test_tables_pages_and_notebooks_show_the_newest(watched: Watched, told: list[Event]) -> None:
    assert to_frame(told, watched.pack).equals(to_frame(watched.events, watched.pack))
    assert run_html(queue(watched, told)) == run_html(queue(watched, watched.events))
    pages = []
    for events in (watched.events, told):
        transcript = watched.session().transcript
        for event in events:
            transcript.add(event)
        pages.append(
            page_contents(
                watched.monitor, transcript, title="t", pace=None, facts=(), tracks=TRACKS, alarms=None
            )
        )
    assert pages[0] == pages[1]
    pending = next(event for event in told if event.coverage.pending)
    assert f"{pending.coverage.pending} to come" in event_html(pending)


def test_pace_counts_a_token_once_and_all_that_its_lenses_took(watched: Watched, told: list[Event]) -> None:
    ticks = iter(range(10_000))
    pace = Pace(clock_s=lambda: next(ticks) / 100)
    took = 0.0
    for event in told:
        late_ms = 5.0 if event.run.revision else 0.0
        pace(replace(event, run=replace(event.run, step_ms=1.0 + late_ms)))
        took += (late_ms or 1.0) if event.phase == "generation" else 0.0
    generated = [event for event in watched.events if event.phase == "generation"]
    assert pace.steps == len(generated)
    assert pace.lens_ms == pytest.approx(took)
    assert list(pace.step_ms) == [event.position for event in generated]
