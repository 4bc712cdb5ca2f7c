"""A server's page in a browser, with real clicks and keys: what is typed is watched, nothing leaves the machine."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.branches import Branches, strongest_of
from runtime.monitor import Monitor
from runtime.page import format_page
from runtime.recording.recorder import Recorder
from runtime.serve.generation import Generation
from runtime.transcript import Transcript
from tests import hosts
from tests.browser.test_page import HOSTILE, listed, serious, told_by, word
from tests.runtime.serve.conftest import Served, serving
from tests.watched import PROMPT, Watched, watch

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """What the served host writes with the served lenses, watched in process."""
    return watch(tmp_path_factory.mktemp("pack") / "p", null_texts=400)


@pytest.fixture(scope="module")
def server(watched: Watched) -> Iterator[Served]:
    with serving(watched.pack) as one:
        yield one


@pytest.fixture
def opened(browser: Any, server: Served) -> Iterator[Open]:
    """Open the page, ready to be typed into; at the end, nothing may have gone wrong and nobody else been asked."""
    contexts, wrong = [], []

    def open_page(
        of: Served = server, *, width: int = 1250, scheme: str = "light", refused: bool = False
    ) -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
        )
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        if not refused:  # the browser tells of these itself
            page.on("console", lambda message: wrong.append(f"console: {message.text}"))
        page.on("request", lambda request: request.url.startswith(of.url) or wrong.append(request.url))
        page.goto(of.url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def ask(page: Any, prompt: str = PROMPT, *, tokens: int = 24) -> None:
    """Type settings and a prompt, and have it written to its end."""
    page.locator("#prompt:not([disabled])").wait_for()
    if not page.locator("#max-tokens").is_visible():
        page.locator("#settings-button").click()
    page.locator("#max-tokens").fill(str(tokens))
    page.locator("#prompt").click()
    page.keyboard.type(prompt)
    page.keyboard.press("Control+Enter")
    ended(page)


def ended(page: Any) -> None:
    page.locator("body:not(.running) #status", has_text="token").wait_for()


# What is written is watched.


def test_words_appear_tinted_as_the_export_tints_them(opened: Open, watched: Watched) -> None:
    page = opened()
    ask(page)
    transcript = Transcript.of(watched.tokenizer, watched.events)
    words = page.locator(".w").all_inner_texts()
    assert words == ["<bos>", *(w.text.strip() for w in transcript.words[1:])]
    branches, tints = Branches(watched.pack.hierarchy), 0
    for w in transcript.words:
        painted = word(page, w.position).evaluate("e => e.style.backgroundImage")
        strongest = strongest_of(w.event)
        if strongest is None:
            assert painted == ""
            continue
        tints += 1
        colour = branches.tint(strongest.concept).colour
        assert f"rgb({', '.join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))})" in painted
    assert tints
    assert page.locator(".w.read").all_inner_texts() == ["<bos>", "the", "violin", "is"]
    assert (
        page.locator("#time .low path.more").get_attribute("d").count("M") == len(words) - 1
    )  # not at <bos>
    assert page.locator("#time path.bars").first.get_attribute("d").count("M")
    assert "hot" in page.locator("#tiers-key").inner_text()
    facts = page.locator("#facts").inner_text()
    assert "24 generated" in facts
    assert re.search(r"temperature 0, seed \d{1,10}\n", facts)


def test_words_and_the_map_show_what_the_events_say(opened: Open, watched: Watched) -> None:
    page = opened()
    ask(page)
    word(page, 4).hover()
    assert page.locator("#side-kicker").inner_text() == "Written, position 4"
    told = told_by(watched.events[3])
    assert [name for name, _ in listed(page)] == [name for name, _ in told]
    for (_, here), (_, there) in zip(listed(page), told, strict=True):
        assert float(here.rstrip("?")) == pytest.approx(float(there.rstrip("?")), abs=0.011)
    word(page, 2).focus()
    page.keyboard.press("ArrowRight")
    page.mouse.move(0, 0)
    assert page.locator("#side-title").inner_text() == "“is”"
    word(page, 2).click()
    by_name = {score.concept.name: score for score in watched.events[2].top(100)}
    for cell in page.locator("#map [data-place]").all():
        name, said = cell.get_attribute("aria-label").split(";")[0].rsplit(", ", 1)
        if name not in by_name:
            assert said == "not scored"
            continue
        assert float(said.rstrip("?")) == pytest.approx(by_name[name].probability, abs=0.011)
        light = float(cell.evaluate("e => e.style.getPropertyValue('--a')"))
        assert light == pytest.approx(by_name[name].probability ** 8, abs=0.02)


def test_a_concept_that_was_pinned_is_scored_at_every_word(opened: Open, watched: Watched) -> None:
    page = opened()
    page.locator("#prompt:not([disabled])").wait_for()
    page.locator("#search").click()
    page.keyboard.type("new small pers")
    page.keyboard.press("Enter")
    assert page.locator(".track").count() == 1
    ask(page)
    track = page.locator(".track")
    assert track.count() == 1, "what somebody chose stays what is drawn"
    assert "new small person" in track.inner_text()
    drawn = len(watched.prompt) + 24 - 1  # nothing is scored at <bos>
    assert track.locator("path.bars").get_attribute("d").count("M") == drawn


def test_stop_ends_it_here_and_in_the_engine(
    opened: Open, server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = Generation.draw

    def slow(*arguments: Any) -> Any:
        time.sleep(0.05)
        return draw(*arguments)

    monkeypatch.setattr(Generation, "draw", slow)
    page = opened()
    page.locator("#prompt:not([disabled])").wait_for()
    page.locator("#prompt").fill(PROMPT)
    page.locator("#write").click()
    word(page, 8).wait_for()
    assert "just now" in page.locator("#side-kicker").inner_text(), "the newest word is followed"
    page.locator("#stop").click()
    ended(page)
    assert "stopped here" in page.locator("#status").inner_text()
    assert page.locator(".w").count() < 60
    until_s = time.monotonic() + 10
    while server.service.scheduler.progress.running and time.monotonic() < until_s:
        time.sleep(0.01)
    assert server.service.scheduler.progress.running == 0


def test_alarms_and_rules_are_those_asked_for_and_a_wrong_one_is_explained(opened: Open) -> None:
    page = opened(refused=True)
    page.locator("#settings-button").click()
    page.locator("#rules").fill("nobody > 0.5 -> mark")
    page.locator("#alarm-budget").fill("400")
    page.locator("#prompt").fill(PROMPT)
    page.locator("#write").click()
    page.locator("#problems", has_text="nobody").wait_for()
    page.locator("#rules").fill("person > 0.01 for 2 -> stop")
    page.locator("#write").click()
    ended(page)
    assert not page.locator("#problems").is_visible()
    assert "rule: person > 0.01 for 2 -> stop" in page.locator("#status").inner_text()
    assert page.locator(".w.met").count()


def test_a_chat_goes_on_from_what_was_said(opened: Open) -> None:
    page = opened()
    page.locator("#manner").get_by_text("Chat").click()
    ask(page, "the violin", tokens=4)
    before = page.locator(".w").count()
    assert page.locator("#prompt").input_value() == ""
    ask(page, "the dog", tokens=4)
    assert page.locator(".w").count() > before
    assert "violin" in page.locator("#text").inner_text()


# The map.


def test_the_map_is_walked_into_and_out_of(opened: Open) -> None:
    page = opened()
    ask(page)
    places = page.locator("#map [data-place]")
    page.locator("#map .title", has_text="artifact").click()
    assert page.locator("#way [aria-current]").inner_text() == "artifact"
    assert "small artifact" in page.locator("#map").inner_text()
    page.locator("#map .title", has_text="small artifact").click()
    names = set(places.all_inner_texts())
    assert names == {"old small artifact", "new small artifact"}
    tracks = page.locator(".track").count()
    places.first.click()
    assert page.locator(".track").count() != tracks, (
        "what has nothing below it is drawn along the text, or no more"
    )
    page.locator("#way button", has_text="All concepts").click()
    assert "animal" in page.locator("#map").inner_text()
    page.locator("#map .title", has_text="animal").focus()
    page.keyboard.press("Enter")
    assert page.locator("#way [aria-current]").inner_text() == "animal"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Backspace")
    assert page.locator("#way [aria-current]").inner_text() == "All concepts"
    assert page.locator("#map [tabindex='0']").count() == 1


# Recordings.


def test_a_page_that_was_exported_is_opened_and_closed(
    opened: Open, watched: Watched, tmp_path: Path
) -> None:
    path = tmp_path / "run.html"
    transcript = Transcript.of(watched.tokenizer, watched.events)
    path.write_text(format_page(watched.monitor, transcript, title=HOSTILE[1]), encoding="utf-8")
    page = opened()
    ask(page, "the dog", tokens=4)
    page.locator("#file").set_input_files(path)
    page.locator("#opened").wait_for()
    assert page.locator(".w").count() == len(transcript.words)
    word(page, 2).click()
    assert listed(page) == told_by(watched.events[2])
    assert HOSTILE[1] in page.locator("#opened-title").inner_text()
    assert page.locator("img").count() == 0
    page.locator("#close").click()
    assert "dog" in page.locator("#text").inner_text()
    other = tmp_path / "other.html"
    other.write_text("<p>nothing", encoding="utf-8")
    page.locator("#file").set_input_files(other)
    page.locator("#problems", has_text="other.html is no recording").wait_for()
    assert "dog" in page.locator("#text").inner_text(), "what was there stays"


def test_a_recording_is_opened(opened: Open, watched: Watched, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    model = hosts.gemma3()
    inputs = watched.tokenizer(PROMPT, return_tensors="pt", return_token_type_ids=False)
    with (
        Monitor(watched.pack) as monitor,
        Recorder(monitor, model, watched.tokenizer, path),
        monitor.attach(model),
    ):
        model.generate(**inputs, max_new_tokens=8, do_sample=False)
    page = opened(refused=True)
    page.locator("#prompt:not([disabled])").wait_for()
    page.locator("#file").set_input_files(path)
    page.locator("#opened").wait_for()
    assert page.locator(".w").count() == len(watched.prompt) + 8
    word(page, 2).click()
    assert listed(page) == told_by(watched.events[2])
    path.write_bytes(b"nothing")
    page.locator("#file").set_input_files(path)
    page.locator("#problems").wait_for()
    assert page.locator(".w").count() == len(watched.prompt) + 8, "what was there stays"


# Everybody may use it, and nobody else.


def test_with_a_token_the_page_comes_and_asks_for_it(opened: Open, watched: Watched) -> None:
    with serving(watched.pack, token="open sesame") as guarded:
        page = opened(guarded, refused=True)
        page.locator("#access").wait_for()
        assert not page.locator("#composer").is_visible()
        page.locator("#token").fill("close sesame")
        page.keyboard.press("Enter")
        page.locator("#problems", has_text="not the token").wait_for()
        page.locator("#token").fill("open sesame")
        page.keyboard.press("Enter")
        ask(page, tokens=3)
        assert page.locator(".w").count() == len(watched.prompt) + 3
        assert page.evaluate("JSON.stringify(localStorage) + document.cookie") == "{}"
        assert guarded.http.get("/page/start", headers={"Authorization": ""}).status_code == 401


def test_what_is_typed_and_written_is_text(opened: Open) -> None:
    page = opened()
    ask(page, HOSTILE[1], tokens=4)
    assert page.locator("img").count() == 0
    assert page.evaluate("window.pwned") is None


@pytest.mark.parametrize(("scheme", "width"), [("light", 1250), ("dark", 1250), ("light", 390)])
def test_axe_finds_nothing_serious_and_nothing_sticks_out(opened: Open, scheme: str, width: int) -> None:
    page = opened(scheme=scheme, width=width)
    if width < 640:
        page.locator("#prompt:not([disabled])").wait_for()
        assert serious(page) == []
    ask(page)
    page.locator("#map .title", has_text="artifact").click()
    assert serious(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
