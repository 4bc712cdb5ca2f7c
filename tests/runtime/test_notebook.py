"""What a notebook shows: whole HTML that says what the events say, asks nobody for anything, and escapes everything."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from runtime.branches import Branches, format_probability, strongest_of
from runtime.events import Event, EventQueue
from runtime.monitor import Monitor
from tests import hosts
from tests.packs import make_pack
from tests.watched import BRANCHES, NEW_TOKENS, Watched, watch


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    return watch(tmp_path_factory.mktemp("pack") / "p")


class Read(HTMLParser):
    """Elements, attributes and text of HTML; every element has to be closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.spans: list[tuple[dict[str, str], str]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open.append(tag)
        self.tags.append(tag)
        given = {name: value or "" for name, value in attrs}
        self.attributes += given.items()
        if tag == "span":
            self.spans.append((given, ""))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self._open and self._open[-1] == "span":
            given, text = self.spans[-1]
            self.spans[-1] = given, text + data


def queue(events: list[Event], tokenizer: Any = None, *, capacity: int = 1000) -> EventQueue:
    kept = EventQueue(capacity)
    kept.tokenizer = tokenizer
    for event in events:
        kept.append(event)
    return kept


def test_an_event_is_its_strongest_concepts_with_bars_and_paths(watched: Watched) -> None:
    event = watched.events[6]
    read = Read(event._repr_html_())
    shown = "".join(read.texts)
    branches = Branches(watched.pack.hierarchy)
    for score in event.leaves(8):
        assert format_probability(score) in read.texts
        assert " > ".join(branches.path(score.concept)) in shown
        tooltip = next(value for _, value in read.attributes if value.startswith(f"{score.id}, logit"))
        assert ("unmeasured" in tooltip, "uncalibrated" in tooltip) == (
            score.grade == "unmeasured",
            not score.calibrated,
        )
        bar = f"width:{100 * score.probability:.1f}%;background:{branches.tint(score.concept).colour}"
        assert any(bar in value for _, value in read.attributes)
    assert "position 6 of sequence 0" in shown
    assert f"{event.coverage.scored} of {event.coverage.expected} lenses scored" in shown


def test_an_event_without_scores_says_why(watched: Watched) -> None:
    assert watched.events[0].state == "bos"
    read = Read(watched.events[0]._repr_html_())
    assert "not scored: bos" in read.texts[0]
    assert "table" not in read.tags
    failed = replace(watched.events[6], failed=("animal.small",))
    assert "could not be read: animal.small" in failed._repr_html_()


def test_a_run_is_its_text_tinted_as_the_terminal_does(watched: Watched) -> None:
    read = Read(queue(watched.events, watched.tokenizer)._repr_html_())
    words = read.spans[: 3 + NEW_TOKENS]
    ids = [*watched.prompt, *(event.next_token for event in watched.events[3:])]
    assert "".join(text for _, text in words) == watched.tokenizer.decode(ids, skip_special_tokens=True)
    speakers = [*watched.events[1:4], *watched.events[3:]]
    branches = Branches(watched.pack.hierarchy)
    tints = []
    for place, ((given, _), event) in enumerate(zip(words, speakers, strict=True)):
        strongest = strongest_of(event)
        style = given.get("style") or ""
        tints.append(strongest is not None)
        assert ("background" in style) is (strongest is not None)
        if strongest is not None:
            assert f"background:{branches.tint(strongest.concept).colour}" in style
        assert ("italic" in style) is (place < 3), "of the prompt"
        first = event.leaves(1)[0]
        assert given["title"].startswith(f"{first.concept.name} {format_probability(first)}")
    assert set(tints) == {True, False}
    assert {text for _, text in read.spans[3 + NEW_TOKENS :]} <= set(BRANCHES)


def test_a_run_without_a_tokenizer_has_numbers_and_says_how_to_get_words(watched: Watched) -> None:
    read = Read(queue(watched.events)._repr_html_())
    assert [text for _, text in read.spans[:4]] == [f"#{token} " for token in watched.prompt]
    assert "monitor.attach(model, tokenizer)" in read.texts[-1]


def test_nothing_seen_yet_is_said() -> None:
    assert "no events yet" in queue([])._repr_html_()


def test_a_long_run_shows_its_end_and_counts_the_rest(watched: Watched) -> None:
    many = [replace(event, sequence=n) for n in range(30) for event in watched.events]
    kept = queue(many, watched.tokenizer, capacity=600)
    read = Read(kept._repr_html_())
    assert f"{len(many) - 500:,} earlier events not shown" in read.texts[-1]
    assert "sequence 29" in read.texts
    assert len(kept._repr_html_()) < 150_000


def test_nothing_is_asked_from_anywhere_and_nothing_runs(watched: Watched) -> None:
    for html in (watched.events[6]._repr_html_(), queue(watched.events, watched.tokenizer)._repr_html_()):
        read = Read(html)
        assert set(read.tags) <= {"div", "span", "table", "tr", "td"}
        assert {name for name, _ in read.attributes} <= {"style", "title"}
        assert not re.search(r"https?:|url\(|@import|javascript", html)
        assert len(html) < 300 * (NEW_TOKENS + 4)


HOSTILE = "<script>alert('x')</script> \"&\" <img src=x onerror=y>"


def test_names_and_words_mean_only_themselves(tmp_path: Path) -> None:
    pack = make_pack(
        tmp_path / "p",
        nodes=[(f"{HOSTILE}{n}", f"{HOSTILE} name{n}", None) for n in range(3)],
        hidden_size=hosts.HIDDEN,
        blocks=hosts.BLOCKS,
    )

    class Tokenizer:
        def decode(self, ids: list[int], **_: object) -> str:
            return (HOSTILE + "\x1b[2J\n") * len(ids)

    model, inputs = hosts.gemma3(), hosts.tokenizer()("the dog", return_tensors="pt")
    with Monitor(pack) as monitor, monitor.attach(model, Tokenizer()):
        model.generate(inputs["input_ids"], max_new_tokens=3, do_sample=False)
    run, event = monitor.events._repr_html_(), monitor.events[2]._repr_html_()
    for html in (run, event):
        read = Read(html)
        assert set(read.tags) <= {"div", "span", "table", "tr", "td"}
        assert {name for name, _ in read.attributes} <= {"style", "title"}
        assert "\x1b" not in html
        assert HOSTILE in "".join(read.texts)
    assert any(HOSTILE in value for name, value in Read(event).attributes if name == "title")


def test_the_monitor_learns_the_tokenizer_where_it_is_given(watched: Watched) -> None:
    with Monitor(watched.pack) as monitor:
        model = hosts.gemma3()
        with monitor.attach(model):
            assert monitor.events.tokenizer is None
        list(monitor.stream(model, watched.tokenizer, "the dog", max_new_tokens=2, do_sample=False))
    assert monitor.events.tokenizer is watched.tokenizer
    assert "dog" in monitor.events._repr_html_()
