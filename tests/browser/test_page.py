"""The page in a browser: what is shown is what the events say, by mouse and by keyboard, and nothing leaves it."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.branches import TINT_FROM, Branches, strongest_of
from runtime.events import Event, Score
from runtime.page import format_page
from runtime.page.contents import LISTED
from runtime.transcript import Transcript
from tests.watched import Watched, watch

HOSTILE = (
    "</script><script>window.pwned=1</script>",
    "<img src=x onerror=window.pwned=1>",
    "<!--",
    "\u202eevil",
)
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    return watch(tmp_path_factory.mktemp("pack") / "p")


@pytest.fixture(scope="module")
def file(watched: Watched, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "out.html"
    transcript = Transcript.of(watched.tokenizer, watched.events)
    path.write_text(format_page(watched.monitor, transcript, tracks=["animal"]), encoding="utf-8")
    return path


@pytest.fixture
def opened(browser: Any, file: Path) -> Iterator[Open]:
    """Open the page; at the end, nothing may have gone wrong in it and nothing may have been asked for."""
    contexts, wrong = [], []

    def open_page(path: Path = file, *, width: int = 1280, scheme: str = "light") -> Any:
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("console", lambda message: wrong.append(f"console: {message.text}"))
        page.on("request", lambda request: request.url != path.as_uri() and wrong.append(request.url))
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def word(page: Any, position: int) -> Any:
    return page.locator(f"#w{position}")


def said(score: Score) -> str:
    return f"{score.probability:.2f}{'' if score.vouched else '?'}"


def listed(page: Any) -> list[tuple[str, str]]:
    """Names and values in the list of strongest concepts."""
    items = page.locator("#top .concept").all()
    return [(item.locator(".label").inner_text(), item.locator(".value").inner_text()) for item in items]


def told_by(event: Event) -> list[tuple[str, str]]:
    return [(score.concept.name, said(score)) for score in event.leaves(LISTED)]


def serious(page: Any) -> list[str]:
    """What axe finds that keeps people out, or may: everything but `minor` and `moderate`."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    told = axe.Axe().run(page, options={"resultTypes": ["violations"]})  # of what is right, one each is told
    found = told.response["violations"]
    return [
        f"{violation['id']}: {node['html'][:150]} {node['failureSummary']}"
        for violation in found
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]


# What is shown.


def test_the_text_is_there_and_words_have_the_colours_of_the_terminal(opened: Open, watched: Watched) -> None:
    page = opened()
    transcript = Transcript.of(watched.tokenizer, watched.events)
    branches = Branches(watched.pack.hierarchy)
    text = page.locator("#text").inner_text()
    assert text.removeprefix("<bos>").split() == "".join(w.text for w in transcript.words).split()
    tints = 0
    for w in transcript.words:
        painted = word(page, w.position).evaluate("e => e.style.backgroundImage")
        strongest = strongest_of(w.event)
        if strongest is None:
            assert painted == ""
            continue
        tints += 1
        colour = branches.tint(strongest.concept).colour
        rgb = ", ".join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))
        assert f"rgb({rgb})" in painted
    assert tints
    read = page.locator(".w.read").all_inner_texts()
    assert read == ["<bos>", "the", "violin", "is"]


def test_hover_shows_the_concepts_of_a_word_and_leaving_shows_the_text(
    opened: Open, watched: Watched
) -> None:
    page = opened()
    assert page.locator("#side-title").inner_text() == "What was active"
    word(page, 2).hover()
    assert page.locator("#side-title").inner_text() == "“violin”"
    assert page.locator("#side-kicker").inner_text() == "Read, position 2"
    assert listed(page) == told_by(watched.events[2])
    word(page, 4).hover()
    assert page.locator("#side-kicker").inner_text() == "Written, position 4"
    assert listed(page) == told_by(watched.events[3]), "the row before predicted it"
    assert "at position 3" in page.locator("#side-said").inner_text()
    page.locator("h1").hover()
    assert page.locator("#side-title").inner_text() == "What was active"


def test_the_keyboard_alone_is_enough(opened: Open, watched: Watched) -> None:
    page = opened()
    keys = page.keyboard
    for _ in range(2):
        keys.press("Tab")
    focused = "document.activeElement.id"
    assert page.evaluate(focused) == "w0"
    assert page.locator(".w[tabindex='0']").count() == 1
    keys.press("ArrowRight")
    keys.press("ArrowRight")
    assert page.evaluate(focused) == "w2"
    assert listed(page) == told_by(watched.events[2])
    outline = word(page, 2).evaluate(
        "e => getComputedStyle(e).outlineStyle + getComputedStyle(e).outlineWidth"
    )
    assert outline == "solid2px"
    keys.press("Enter")
    assert word(page, 2).get_attribute("aria-selected") == "true"
    keys.press("ArrowRight")
    assert page.evaluate(focused) == "w3"
    assert page.locator("#side-title").inner_text() == "“violin”", "what is kept stays"
    keys.press("Escape")
    assert page.locator("[aria-selected='true'].w").count() == 0
    keys.press("End")
    assert page.evaluate(focused) == f"w{len(watched.events)}"
    keys.press("Home")
    assert page.evaluate(focused) == "w0"
    keys.press("Escape")
    assert page.locator("#side-title").inner_text() == "What was active"
    assert page.locator(".w[tabindex='0']").count() == 1


def test_arrows_move_between_lines(opened: Open) -> None:
    page = opened(width=360)
    word(page, 3).focus()
    page.keyboard.press("ArrowDown")
    at = page.evaluate("document.activeElement.id")
    here, below = word(page, 3).bounding_box(), page.locator(f"#{at}").bounding_box()
    assert below["y"] > here["y"]
    page.keyboard.press("ArrowUp")
    assert abs(page.locator("*:focus").bounding_box()["y"] - here["y"]) < 3


def test_search_finds_concepts_and_draws_them_along_the_text(opened: Open, watched: Watched) -> None:
    page = opened()
    tracks = page.locator(".track")
    assert tracks.count() == 1, "the one that was asked for"
    page.keyboard.press("/")
    page.keyboard.type("small pers")
    assert page.locator("#search").get_attribute("aria-activedescendant") == "f0"
    assert "small person" in page.locator("#found li").first.inner_text()
    page.keyboard.press("Enter")
    assert tracks.count() == 2
    track = page.locator(".track", has_text="small person").first
    index = watched.pack.hierarchy.index("person.small")
    transcript = Transcript.of(watched.tokenizer, watched.events)
    scored = [w for w in transcript.words if w.event is not None and index in w.event.scored]
    bars, gaps = (track.locator(f"path.{kind}").get_attribute("d").count("M") for kind in ("bars", "none"))
    assert (bars, gaps) == (len(scored), len(transcript.words) - len(scored))
    page.get_by_label("Remove animal").click()
    assert tracks.count() == 1
    page.keyboard.press("/")
    page.keyboard.type("unheard of")
    assert "No concept" in page.locator("#found").inner_text()
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "w0"


def test_a_concept_anywhere_is_drawn_by_choosing_it(opened: Open) -> None:
    page = opened()
    word(page, 3).click()
    chosen = page.locator("#top .concept").first
    before = chosen.get_attribute("aria-pressed")
    chosen.click()
    assert page.locator("#top .concept").first.get_attribute("aria-pressed") != before
    page.locator("#lanes").check()
    assert word(page, 3).evaluate("e => e.style.backgroundImage").count("gradient") >= 2


def test_the_hierarchy_is_lit_where_the_word_is(opened: Open, watched: Watched) -> None:
    page = opened()
    word(page, 2).click()
    page.locator("#tab-top").press("ArrowRight")
    lit = set(page.locator("#tree .label.lit").all_inner_texts())
    by_name = {score.concept.name: score.probability for score in watched.events[2].top(100)}
    assert lit == {name for name, probability in by_name.items() if probability >= TINT_FROM}
    rest = page.locator("#tree .rest").first
    rows = page.locator("#tree .node").count()
    rest.press("Enter")
    assert page.locator("#tree .node").count() > rows
    assert page.evaluate("document.activeElement.className") == "rest", "the focus stays where it was"


def test_grades_are_explained_and_what_nothing_vouches_for_is_marked(opened: Open, watched: Watched) -> None:
    page = opened()
    told = page.locator("#grades").inner_text()
    assert "A from 0.98, B 0.95, C 0.90, D 0.80, F below" in told
    assert "fewer than 10" in told
    word(page, 2).click()
    event, seen = watched.events[2], set()
    for item, score in zip(page.locator("#top .concept").all(), event.leaves(LISTED), strict=True):
        graded = item.locator(".grade").inner_text()
        assert (
            graded == "unmeasured"
            if score.grade == "unmeasured"
            else graded.startswith(f"{score.grade}, AUROC 0.")
        )
        opacity = float(item.locator(".gauge i").evaluate("e => getComputedStyle(e).opacity"))
        assert (opacity < 1) is not score.vouched
        seen.add((score.vouched, score.grade == "unmeasured"))
    assert len(seen) > 1
    page.locator("#tab-tree").click()
    for score in event.top(99):
        node = page.locator(".node", has=page.get_by_text(score.concept.name, exact=True))
        if node.count():
            assert node.locator(".value").inner_text() == said(score)
            assert ("unsure" in node.get_attribute("class").split()) is not score.vouched
    page.keyboard.press("/")
    page.keyboard.type("person")
    assert page.locator("#found .path").first.inner_text() == "top of the hierarchy · unmeasured"
    page.keyboard.press("Enter")
    strip = page.locator(".track", has_text="person")
    assert "unmeasured" in strip.locator(".path").inner_text()
    assert strip.locator(".bars").evaluate("e => getComputedStyle(e).opacity") == "0.4"


def test_a_page_without_tints_says_why(opened: Open, watched: Watched, tmp_path: Path) -> None:
    quiet = [event for event in watched.events if strongest_of(event) is None]
    path = tmp_path / "quiet.html"
    transcript = Transcript.of(watched.tokenizer, watched.events)
    for w in transcript.words:
        w.event = w.event if w.event in quiet else None
    path.write_text(format_page(watched.monitor, transcript), encoding="utf-8")
    page = opened(path)
    assert (
        f"No word has a tint: no measured concept reaches {TINT_FROM:.2f}."
        in page.locator("#scale").inner_text()
    )
    assert page.locator("#legend li").count() == 0


def test_colours_follow_the_system_until_they_are_told(opened: Open) -> None:
    background = "getComputedStyle(document.documentElement).backgroundColor"
    page = opened(scheme="dark")
    assert page.evaluate(background) == "rgb(21, 23, 26)"
    page.locator("#theme").click()
    assert page.evaluate(background) == "rgb(251, 250, 246)"
    assert page.locator("#theme").inner_text() == "Dark"
    assert opened(scheme="light").evaluate(background) == "rgb(251, 250, 246)"


@pytest.mark.parametrize("width", [320, 390, 800, 1280])
def test_nothing_sticks_out_sideways(opened: Open, width: int) -> None:
    page = opened(width=width)
    word(page, 5).click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if width < 640:
        box = page.locator("#side").bounding_box()
        assert box["y"] + box["height"] == pytest.approx(800, abs=1), "it comes up from below"
        assert word(page, 5).bounding_box()["y"] < box["y"], "and does not hide the word"


def test_print_shows_all_and_asks_nothing(opened: Open) -> None:
    page = opened(scheme="dark")
    page.emulate_media(media="print")
    for shown in ("#panel-top", "#panel-tree", ".track", "#facts"):
        assert page.locator(shown).first.is_visible()
    for hidden in ("#search", "#theme", ".tabs"):
        assert not page.locator(hidden).is_visible()
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(31, 29, 26)"


# What must not happen.


def test_text_of_a_model_is_never_obeyed(opened: Open, watched: Watched, tmp_path: Path) -> None:
    transcript = Transcript.of(watched.tokenizer, watched.events)
    for w, text in zip(transcript.words[4:], HOSTILE, strict=False):
        w.text = f" {text}"
    path = tmp_path / "hostile.html"
    title = HOSTILE[1]
    path.write_text(format_page(watched.monitor, transcript, title=title), encoding="utf-8")
    page = opened(path)
    for position, text in enumerate(HOSTILE, start=4):
        assert word(page, position).inner_text() == text
        word(page, position).click()
        assert text in page.locator("#side-title").inner_text()
    assert title in page.locator("#byline").inner_text()
    assert page.evaluate("window.pwned") is None
    assert page.locator("img").count() == 0
    assert word(page, 7).evaluate("e => getComputedStyle(e).unicodeBidi") == "isolate"


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 390)])
def test_axe_finds_nothing_serious(opened: Open, scheme: str, width: int) -> None:
    page = opened(scheme=scheme, width=width)
    page.locator("#lanes").check()
    assert serious(page) == []
    word(page, 6).click()
    page.locator("#tab-tree").click()
    assert serious(page) == []
    page.keyboard.press("/")
    page.keyboard.type("small")
    assert serious(page) == []


def test_axe_finds_what_is_wrong_where_something_is(opened: Open) -> None:
    page = opened()
    page.evaluate("document.getElementById('headline').style.color = '#eee'")
    assert any(found.startswith("color-contrast") for found in serious(page))


def test_without_javascript_the_text_can_be_read(browser: Any, file: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(file.as_uri())
    assert re.match(r"\s*the violin is \w+", page.locator(".plain").inner_text())
    context.close()
