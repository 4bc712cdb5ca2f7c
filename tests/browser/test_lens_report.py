"""The page of a pack's lenses in a browser: sorted, searched, a card for each, and open to everybody."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lenses.grade import SIGN, grade
from lenses.lens_card import lens_card
from lenses.pack import LensPack
from runtime.page.lens_report import format_lens_report
from tests.browser.test_page import HOSTILE, serious
from tests.packs import make_pack


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> LensPack:
    nodes: list[tuple[str, str, str | None]] = [
        (f"c{n}", HOSTILE[n] if n < len(HOSTILE) else f"concept {n}", None) for n in range(8)
    ]
    nodes += [
        (f"c{parent}-{n}", f"child {parent} {n}", f"c{parent}") for parent in range(8) for n in range(30)
    ]
    return make_pack(tmp_path_factory.mktemp("pack") / "p", nodes=nodes)


@pytest.fixture
def opened(browser: Any, pack: LensPack, tmp_path: Path) -> Iterator[Any]:
    path = tmp_path / "lenses.html"
    path.write_text(format_lens_report(pack), encoding="utf-8")
    wrong: list[str] = []
    contexts = []

    def open_page(scheme: str = "light", width: int = 1280, at: str = "") -> Any:
        contexts.append(browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text))
        page.on("request", lambda request: request.url.startswith(path.as_uri()) or wrong.append(request.url))
        page.goto(path.as_uri() + at)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def column(page: Any, place: int) -> list[str]:
    return [
        cell.split("\n")[0]
        for cell in page.locator(f"#list tbody tr td:nth-child({place})").all_inner_texts()
    ]


def test_the_list_is_sorted_by_any_column_and_what_was_not_measured_is_last(
    opened: Any, pack: LensPack
) -> None:
    page = opened()
    assert page.locator("#count").inner_text() == f"{len(pack.hierarchy)} lenses."
    page.locator("#list th button", has_text="AUROC").first.click()
    values = [float(text) for text in column(page, 5)]
    assert values == sorted(values, reverse=True)
    assert page.locator("#list th[aria-sort=descending]").inner_text() == "AUROC"
    page.keyboard.press("Enter")  # the head keeps the focus
    values = [float(text) for text in column(page, 5)]
    assert values == sorted(values)
    assert len(values) == 200
    page.locator("#more").click()
    assert len(column(page, 1)) == len(pack.hierarchy)
    assert set(column(page, 6)) == {"—"}  # random packs have no siblings measured


def test_search_and_grade_narrow_the_list(opened: Any, pack: LensPack) -> None:
    page = opened()
    page.locator("#search").fill("c3-")
    names = [c.name for c in pack.hierarchy if "c3-" in c.id]
    assert sorted(column(page, 1)) == sorted(names)
    page.locator("#grade").select_option("?")
    found = [c.name for c in pack.hierarchy if "c3-" in c.id and grade(c.metrics) == "unmeasured"]
    assert sorted(column(page, 1)) == sorted(found)
    assert set(column(page, 2)) == {"?"}


def test_a_card_says_what_the_command_line_says(opened: Any, pack: LensPack) -> None:
    page = opened()
    page.locator("#search").fill("c5-7")
    page.locator("#list tbody button").first.click()
    index = pack.hierarchy.index("c5-7")
    said = page.locator("#card dd").all_inner_texts()
    sections = lens_card(pack.config, pack.hierarchy, pack.heads, index)
    assert said == [row[1] for section in sections for row in section.rows]
    letter = grade(pack.hierarchy.concepts[index].metrics)
    assert page.locator("#card-said").inner_text() == f"c5-7 · grade {SIGN.get(letter, letter)}"
    assert page.url.endswith("#c5-7")
    again = opened(at="#c5-7")
    assert again.locator("#card-title").inner_text() == "child 5 7"


def test_what_a_pack_names_its_concepts_is_text(opened: Any) -> None:
    page = opened()
    page.locator("#search").fill("pwned")
    assert len(column(page, 1)) == 2
    page.locator("#list tbody button").first.click()
    assert page.evaluate("window.pwned") is None
    assert "pwned" in page.locator("#card-title").inner_text()


@pytest.mark.parametrize(("scheme", "width"), [("dark", 1280), ("light", 390)])
def test_axe_finds_nothing_that_keeps_people_out(opened: Any, scheme: str, width: int) -> None:
    page = opened(scheme, width)
    page.locator("#search").fill("c1-1")
    assert serious(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
