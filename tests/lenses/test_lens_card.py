"""A lens's card: everything that its metrics hold, and "not measured" for what they do not."""

from dataclasses import replace
from pathlib import Path

from lenses.concept import Hierarchy
from lenses.lens_card import NOT_MEASURED, lens_card
from lenses.pack import LensPack
from tests.packs import make_pack

FULL = {
    "positives": 40,
    "auroc": 0.97,
    "auroc_low": 0.95,
    "auroc_high": 0.98,
    "auroc_siblings": 0.72,
    "tpr_at_1fpr": 0.9,
    "calibration_error": 0.03,
    "calibration_error_low": 0.01,
    "calibration_error_high": 0.05,
    "style_positives": 12,
    "style_auroc": 0.91,
    "control_bag_of_words": 0.85,
    "confusion:c1": 0.4,
    "confusion:c2": 0.6,
    "walk_active": 50,
    "walk_recall": 0.98,
}


def said(pack: LensPack, index: int = 0) -> dict[str, dict[str, str]]:
    sections = lens_card(pack.config, pack.hierarchy, pack.heads, index)
    return {section.title: dict(section.rows) for section in sections}


def with_metrics(pack: LensPack, metrics: dict[str, float]) -> LensPack:
    first, *rest = pack.hierarchy
    pack.hierarchy = Hierarchy([replace(first, metrics=metrics), *rest])
    return pack


def test_a_card_says_everything_that_was_measured_and_why_a_lens_has_its_grade(tmp_path: Path) -> None:
    pack = make_pack(tmp_path / "p", null_texts=400)
    null = {
        name: value for name, value in pack.hierarchy.concepts[0].metrics.items() if name.startswith("null_")
    }
    card = said(with_metrics(pack, FULL | null))
    assert card["Grade"]["grade"] == "D (AUROC against siblings' texts alone is 0.72)"
    assert card["Grade"]["balanced calibration error"] == "0.03 earns A"
    assert card["Grade"]["alarms"] == "may"
    assert card["Held-out texts"]["AUROC (95 %)"] == "0.9700 (0.9500 to 0.9800)"
    assert card["Held-out texts"]["Brier skill"] == NOT_MEASURED
    assert card["Texts of another style"]["AUROC (95 %)"] == "0.9100"
    assert card["Texts of another length"] == {"measured": NOT_MEASURED}
    assert card["Controls, AUROC"] == {"bag_of_words": "0.8500"}
    assert list(card["Fires on texts of"]) == ["c2", "c1"]  # the worst first
    assert card["Walk"]["recall through its ancestors"] == "0.9800"
    assert card["Null corpus"]["texts that are of nothing"] == "400, 2,000 tokens"
    assert card["Null corpus"]["1.0% of the tokens"].startswith("above log-odds ")
    assert card["Null corpus"]["0.1% of the tokens"] == "not measured, too few texts"
    assert card["Null corpus"]["alarm curve"] == "in the pack"


def test_a_lens_that_was_never_measured_says_so_everywhere(tmp_path: Path) -> None:
    card = said(with_metrics(make_pack(tmp_path / "p"), {}))
    assert card["Grade"]["grade"] == "? (fewer than 10 held-out texts: 0)"
    assert card["Grade"]["alarms"] == "never, at this grade"
    for title, rows in card.items():
        if title not in ("Lens", "Grade"):
            assert set(rows.values()) == {NOT_MEASURED}, title
