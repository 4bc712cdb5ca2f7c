"""The page is one file that asks for nothing, obeys nothing that a model wrote, and says what the events say."""

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lenses.concept import Hierarchy
from lenses.errors import ConceptNotFound
from lenses.grade import grade
from runtime.alarms import Alarms
from runtime.branches import Branches, strongest_of
from runtime.events import Coverage, Event, Run
from runtime.monitor import Monitor
from runtime.page import format_page
from runtime.page.contents import LISTED
from runtime.page.parts import embedded_json
from runtime.session import Pace
from runtime.transcript import Transcript
from tests import hosts
from tests.packs import make_pack
from tests.watched import NEW_TOKENS, Watched, watch

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!-- <script>",
    "]]>&lt;img src=x onerror=alert(1)>",
    "\x1b[31m\x00\r\u2028\u2029\u202e",
    "\ud800",
    "{{data}}{{script}}",
    "'\"`${1}\\",
]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    return watch(tmp_path_factory.mktemp("pack") / "p")


class Elements(HTMLParser):
    """The elements of a page in order, with their attributes and the text directly in them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.comments: list[str] = []
        self._open: list[list[str]] = [[]]
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        texts: list[str] = []
        self.found.append((tag, dict(attrs), texts))
        if tag in ("script", "style", "title", "p"):
            self._open.append(texts)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style", "title", "p"):
            self._open.pop()

    def handle_data(self, data: str) -> None:
        self._open[-1].append(data)

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)

    def texts(self, tag: str) -> list[str]:
        return ["".join(texts) for name, _, texts in self.found if name == tag]


def page_of(watched: Watched, events: Sequence[Event] | None = None, **settings: Any) -> str:
    transcript = Transcript.of(watched.tokenizer, watched.events if events is None else events)
    return format_page(watched.monitor, transcript, **settings)


def data_of(page: str) -> dict[str, Any]:
    value = json.loads(Elements(page).texts("script")[0])
    assert isinstance(value, dict)
    return value


def without_data(page: str) -> str:
    return re.sub(r'(<script type="application/json" id="data">).*?</script>', r"\1</script>", page)


# It says what the events say.


def test_every_score_of_every_event_is_there(watched: Watched) -> None:
    data = data_of(page_of(watched))
    assert len(data["events"]) == len(watched.events)
    ids = data["concepts"]["id"]
    for told, event in zip(data["events"], watched.events, strict=True):
        runs = zip(told["runs"][::2], told["runs"][1::2], strict=True)
        scored = [ids[first + step] for first, length in runs for step in range(length)]
        assert scored == [event.pack.hierarchy.concepts[index].id for index in event.scored]
        probabilities = np.frombuffer(base64.b64decode(told["p"]), "<u2") / 65_535
        np.testing.assert_allclose(probabilities, event.probabilities, atol=0.5 / 65_535 + 1e-7)
        assert [ids[number] for number in told["top"]] == [score.id for score in event.leaves(LISTED)]
        strongest = strongest_of(event)
        assert (None if told["tint"] is None else ids[told["tint"]]) == (strongest and strongest.id)
        coverage = event.coverage
        assert told["coverage"] == [
            *(coverage.expected, coverage.scored, coverage.pending, coverage.failed, coverage.cut)
        ]
        assert (told["at"], told["phase"], told["state"]) == (event.position, event.phase, event.state)
        assert told["tiers"] == [event.run.hot, event.run.warm, event.run.cold]


def test_a_read_word_has_the_event_of_its_own_row_and_a_written_one_of_the_row_before(
    watched: Watched,
) -> None:
    data = data_of(page_of(watched))
    assert data["prompt"] == len(watched.prompt)
    assert len(data["words"]) == len(watched.prompt) + NEW_TOKENS
    positions = [data["events"][number]["at"] for number in data["event_of"]]
    read = len(watched.prompt)
    assert positions == [*range(read), *range(read - 1, read - 1 + NEW_TOKENS)]
    text = watched.tokenizer.decode(
        [e.token for e in watched.events] + [watched.events[-1].next_token], skip_special_tokens=True
    )
    assert "".join(data["words"]) == text
    assert data["marks"] == {"0": "<bos>"}


def test_concepts_come_with_path_colour_calibration_and_measurement(watched: Watched) -> None:
    data = data_of(page_of(watched))
    hierarchy, heads = watched.pack.hierarchy, watched.pack.heads
    columns, branches = data["concepts"], Branches(hierarchy)
    for number, id in enumerate(columns["id"]):
        index = hierarchy.index(id)
        concept = hierarchy.concepts[index]
        parent = columns["parent"][number]
        assert (columns["id"][parent] if parent >= 0 else None) == concept.parent
        assert columns["name"][number] == concept.name
        assert columns["calibrated"][number] == "01"[bool(heads.calibrated[index])]
        assert columns["vouched"][number] == "01"[bool(watched.pack.vouched_N[index])]
        assert columns["grade"][number] == grade(concept.metrics)
        assert columns["auroc"][number] == pytest.approx(concept.metrics["auroc"], abs=1e-4)
        if parent < 0:
            assert data["colours"][str(number)] == branches.tint(concept).colour


def test_facts_name_host_pack_and_configuration_and_no_place_on_this_machine(watched: Watched) -> None:
    page = page_of(watched, title="tiny/host", facts=[("sampling", "seed 7")])
    told = json.dumps(data_of(page)["facts"])
    for value in (
        "seed 7",
        watched.pack.identity,
        "resid_post.2",
        "10 families a level",
        "0 failed",
        "4 unmeasured",
    ):
        assert value in told
    assert data_of(page)["problems"] == []
    assert str(watched.pack.path.parent) not in page
    assert Elements(page).texts("title") == ["tiny/host"]


def test_times_are_those_of_the_pace(watched: Watched) -> None:
    seconds = iter(range(1000))
    pace = Pace(lambda: float(next(seconds)))
    for event in watched.events:
        pace(event)
    data = data_of(page_of(watched, pace=pace))
    read = len(watched.prompt)
    assert [event["step_ms"] for event in data["events"]] == [None] * read + [1000.0] * (NEW_TOKENS - 1)
    assert data["time"]["prompt_ms"] == 1000.0 * read
    assert data_of(page_of(watched))["time"] is None


def test_tracks_are_those_asked_for(watched: Watched) -> None:
    data = data_of(page_of(watched, tracks=["animal", "person.small"]))
    assert [data["concepts"]["id"][number] for number in data["tracks"]] == ["animal", "person.small"]
    with pytest.raises(ConceptNotFound, match="animals"):
        page_of(watched, tracks=["animals"])


def test_what_was_not_scored_is_said_loudly(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    stats = watched.monitor.stats()
    broken = replace(stats, positions={**stats.positions, "non_finite": 2})
    monkeypatch.setattr(watched.monitor, "stats", lambda: broken)
    lost = replace(watched.events[2], coverage=Coverage(20, 15, 1, 4, 0), failed=("animal.small",))
    told = data_of(page_of(watched, [*watched.events[:2], lost, *watched.events[3:]]))["problems"]
    assert len(told) == 3
    assert told[0].startswith("2 rows of the host were not finite")
    assert "1 families could not be read" in told[1]
    assert "animal.small" in told[1]
    assert told[2].startswith("1 positions are incomplete")


def test_a_prompt_without_events_is_no_problem(tmp_path: Path) -> None:
    quiet = watch(tmp_path / "p", new_tokens=4, prompt_events="off")
    transcript = Transcript(quiet.tokenizer, quiet.prompt)
    for event in quiet.events:
        transcript.add(event)
    data = data_of(format_page(quiet.monitor, transcript))
    assert data["event_of"] == [-1] * (len(quiet.prompt) + 1) + [0, 1, 2]
    assert data["problems"] == []


def test_letters_can_be_read_on_every_tint(tmp_path: Path) -> None:
    """Contrast of at least 4.5, as WCAG asks; axe does not look at backgrounds that are painted as images."""
    here = files("runtime.page")
    share = float(re.search(r"STRONGEST = (0\.\d+)", here.joinpath("text.js").read_text())[1])  # type: ignore[index]
    style = here.joinpath("page.css").read_text()
    inks, papers = (
        re.findall(rf"--{name}: light-dark\((#\w+), (#\w+)\)", style)[0] for name in ("ink", "paper")
    )
    hierarchy = Hierarchy.build([(f"c{i}", f"c{i}", None) for i in range(48)])
    colours = {Branches(hierarchy).tint(concept).colour for concept in hierarchy}

    def rgb(colour: str) -> np.ndarray:
        return np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])

    def luminance(parts: np.ndarray) -> float:
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    for ink, paper in zip(inks, papers, strict=True):
        for colour in colours:
            behind = luminance(share * rgb(colour) + (1 - share) * rgb(paper))
            dark, light = sorted((luminance(rgb(ink)), behind))
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (colour, ink)


# It is one small file.


def test_a_page_of_200_tokens_with_150_scores_each_is_far_below_a_megabyte(tmp_path: Path) -> None:
    pack = make_pack(tmp_path / "p", branching=(10, 10, 9), hidden_size=hosts.HIDDEN, blocks=hosts.BLOCKS)
    rng = np.random.default_rng(0)
    tokens = rng.integers(4, hosts.VOCABULARY, 201).tolist()
    base = np.flatnonzero(pack.hierarchy.levels < 2)

    def event(position: int) -> Event:
        opened = rng.choice([f.first for f in pack.hierarchy.families if f.level == 2], 5, replace=False)
        more = np.concatenate([np.arange(first, first + 9) for first in opened])
        scored = np.sort(np.concatenate([base, more])).astype(np.int32)
        return Event(
            sequence=0,
            position=position,
            phase="prompt" if position < 20 else "generation",
            token=tokens[position],
            next_token=tokens[position + 1],
            state="ok",
            scored=scored,
            logits=rng.normal(scale=3, size=len(scored)).astype(np.float32),
            coverage=Coverage(len(scored), len(scored), 0, 0, 0),
            failed=(),
            run=Run(5, 0, 0, 1.25),
            pack=pack,
        )

    events = [event(position) for position in range(200)]
    assert len(events[0].scored) == 155
    with Monitor(pack) as monitor:
        page = format_page(monitor, Transcript.of(hosts.tokenizer(), events))
    assert len(page.encode()) < 300_000


def test_it_refers_to_nothing_outside(watched: Watched) -> None:
    page = without_data(page_of(watched))
    assert not re.search(r"https?:|url\(|@import|[\"'(=]\s*//", page)
    assert not re.search(r"fetch\(|XMLHttpRequest|WebSocket|sendBeacon|EventSource|import\(|Worker", page)
    elements = Elements(page)
    for _, attributes, _ in elements.found:
        assert not {"src", "href", "action", "srcset", "data", "poster"} & attributes.keys()
    policies = [attributes["content"] for _, attributes, _ in elements.found if "http-equiv" in attributes]
    assert policies == [POLICY]
    first = [tag for tag, _, _ in elements.found].index("style")
    assert "meta" in [tag for tag, _, _ in elements.found][:first], (
        "the policy comes before what it holds for"
    )


def test_the_script_makes_no_markup_of_text() -> None:
    here = files("runtime.page")
    script = "".join(file.read_text(encoding="utf-8") for file in here.iterdir() if file.name.endswith(".js"))
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function|srcdoc", script
    )
    assert "</script" not in script.lower()
    assert "<!--" not in script


# Whatever a model wrote stays text.


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_text_can_leave_its_place(watched: Watched, text: str) -> None:
    calm = Elements(page_of(watched))
    transcript = Transcript.of(watched.tokenizer, watched.events)
    for word in transcript.words[2:]:
        word.text = text
    page = format_page(watched.monitor, transcript, title=text, facts=[(text, text)])
    page.encode("utf-8")
    elements = Elements(page)
    assert [(tag, attributes) for tag, attributes, _ in elements.found] == [
        (tag, attributes) for tag, attributes, _ in calm.found
    ]
    assert elements.texts("script")[1:] == calm.texts("script")[1:]
    assert elements.comments == calm.comments == []
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", page)
    words = data_of(page)["words"]
    assert len(words) == len(transcript.words)
    assert len(set(words[2:])) == 1


def test_alarms_are_those_of_the_events(tmp_path: Path) -> None:
    watched = watch(tmp_path / "p", null_texts=400)
    alarms = Alarms(watched.pack, budget=400)
    for event in watched.events:
        alarms.add(event)
    data = data_of(page_of(watched, alarms=alarms))
    ids = data["concepts"]["id"]
    told = [[ids[number] for number in event["alarms"]] for event in data["events"]]
    assert told == [[score.id for score in alarms.of(event)] for event in watched.events]
    assert any(told)
    (run,) = (rows for heading, rows in data["facts"] if heading == "Run")
    assert ["alarms", str(alarms)] in run
    assert not any(event["alarms"] for event in data_of(page_of(watched))["events"])


def test_embedded_json_is_json_without_a_character_that_html_obeys() -> None:
    for text in [*HOSTILE, "é 漢 🙂"]:
        embedded = embedded_json({"text": text})
        assert json.loads(embedded) == {"text": text}
        assert embedded.isascii()
        assert not re.search(r"[<>&\x00-\x1f]", embedded)
