"""A pack's lenses as one HTML file that needs nothing else: a list with grades, distributions, and each lens's card.

`lenses.html`, `page.css`, `lenses.css` and `lenses.js` are joined with the contents, as the page of a generation is
(see `runtime.page`): names out of a pack are data, never markup. What a card says comes from `lenses.lens_card`;
strings that many cards share are stored once.
"""

import html
from collections import Counter
from typing import TYPE_CHECKING, Any

from lenses.grade import LETTERS, SIGN, UNMEASURED, grade, rule
from lenses.lens_card import lens_card
from runtime.packs import about_rows, grade_rows, level_rows
from runtime.page.parts import page
from runtime.wording import visible

if TYPE_CHECKING:
    from lenses.pack import LensPack

COLUMNS = {
    "positives": "texts",
    "auroc": "AUROC",
    "auroc_siblings": "siblings",
    "tpr_at_1fpr": "found at 1 %",
    "calibration_error": "calibration error",
}
"""Metrics of the list, and their heads there."""
_UNSAID = {"path", "size"}
"""Of what a pack says about itself, what is about the machine it lies on."""


def format_lens_report(pack: "LensPack") -> str:
    """The page of a pack, as text to be stored as UTF-8."""
    name = visible(pack.name).replace("\n", " ")
    return page(
        "lenses.html",
        title=html.escape(f"{name} · lenses"),
        styles=("page.css", "lenses.css"),
        scripts=("lenses.js",),
        contents=report_contents(pack),
    )


def report_contents(pack: "LensPack") -> dict[str, Any]:
    """Everything that the page's script reads, ready for JSON."""
    hierarchy, heads = pack.hierarchy, pack.heads
    strings: dict[str, int] = {}

    def numbered(text: str) -> int:
        return strings.setdefault(visible(text), len(strings))

    cards = []
    for index in range(len(hierarchy)):
        sections = lens_card(pack.config, hierarchy, heads, index)
        cards.append(
            [[numbered(one.title), *(numbered(cell) for row in one.rows for cell in row)] for one in sections]
        )
    letters = [grade(concept.metrics) for concept in hierarchy]
    count = Counter(letters)
    return {
        "name": visible(pack.name),
        "about": [row for row in about_rows(pack) if row[0] not in _UNSAID],
        "levels": level_rows(pack),
        "grades": [[SIGN.get(letter, letter), means, count[letter]] for letter, means, _ in grade_rows(pack)],
        "letters": [*LETTERS, SIGN[UNMEASURED]],
        "rule": rule(),
        "columns": list(COLUMNS.values()),
        "ids": [concept.id for concept in hierarchy],
        "names": [visible(concept.name) for concept in hierarchy],
        "lens_levels": hierarchy.levels.tolist(),
        "grade": [SIGN.get(letter, letter) for letter in letters],
        "values": [[concept.metrics.get(key) for concept in hierarchy] for key in COLUMNS],
        "strings": list(strings),
        "cards": cards,
    }
