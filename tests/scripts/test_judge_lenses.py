"""Judging a pack end to end on a tiny dictionary and a tiny host: what is measured, what is said, what is written."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from judge_lenses import main
from judging import controls
from judging import expansion as expansion_report
from judging.thresholds import must_show
from pages.lens_report import markdown

from lenses.grade import grade
from lenses.importers.wordnet import is_held_out, read_wordnet
from tests.packs import make_pack


@pytest.fixture(scope="module", autouse=True)
def _small_numbers() -> Iterator[None]:
    """A tiny host needs no thousands of positions to show what is done with them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(expansion_report, "WALKED", 120)
        patch.setattr(expansion_report, "CURVE_WALKED", 30)
        patch.setattr(controls, "SHUFFLED_STEPS", 3)
        yield


@pytest.fixture(scope="module")
def report(
    judged_wordnet: Path, judged_pack: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("reports") / "tiny"
    assert main([f"--pack={judged_pack}", f"--wordnet={judged_wordnet}", f"--out={out}"]) == 0
    return out, json.loads(out.with_suffix(".json").read_text())


def test_only_held_out_synsets_judge(judged_wordnet: Path, report: tuple[Path, dict[str, Any]]) -> None:
    held_out = sum(is_held_out(synset) for synset in read_wordnet(judged_wordnet).values())
    counts = report[1]["counts"]
    assert counts["held_out_texts"] == held_out
    assert counts["held_out_tokens"] > 4 * held_out
    assert counts["measured"] + counts["unmeasured"] == len(report[1]["lenses"])


def test_every_lens_is_measured_or_says_that_it_is_not(report: tuple[Path, dict[str, Any]]) -> None:
    lenses = {lens["id"]: lens for lens in report[1]["lenses"]}
    assert not lenses["rare.n.01"]["measured"]
    assert "text" not in lenses["rare.n.01"]
    dog = lenses["dog.n.01"]
    assert dog["positives"] >= 10
    for where in ("text", "tokens"):
        value, low, high = dog[where]["auroc"]
        assert low <= value <= high
        assert {"auroc_siblings", "tpr_at_1fpr", "brier_skill", "calibration_error"} <= dog[where].keys()
        assert dog["controls"][where].keys() == {"bag_of_words", "linear", "random", "shuffled"}
    assert dog["tokens"]["positives"] > dog["positives"]
    assert {one["id"] for one in dog["confusions"]} <= lenses.keys() - {"dog.n.01", "beast.n.01"}


def test_a_lens_has_the_grade_of_its_metrics_and_all_of_them_are_counted(
    report: tuple[Path, dict[str, Any]],
) -> None:
    out, found = report
    for lens in found["lenses"]:
        card = {"positives": lens["positives"]}
        for name, value in lens.get("text", {}).items():
            card[name] = value[0] if isinstance(value, list) else value
        assert lens["grade"] == grade(card)
    row = next(row for row in found["grades"] if row["level"] is None)
    assert row["unmeasured"] == found["counts"]["unmeasured"]
    cells = " | ".join(str(row[letter]) for letter in (*"ABCDF", "unmeasured"))
    assert f"| all | {cells} |" in out.with_suffix(".md").read_text()


def test_every_estimate_held_against_a_threshold_has_an_interval(report: tuple[Path, dict[str, Any]]) -> None:
    """But for a count of lenses."""
    for row in report[1]["must_show"]:
        if row["what"] != "lenses with 10 or more held-out positives":
            value, low, high = row["measured"]
            assert low <= value <= high, row["what"]


def test_words_tell_where_they_are_and_not_where_they_are_absent(report: tuple[Path, dict[str, Any]]) -> None:
    dog = next(lens for lens in report[1]["lenses"] if lens["id"] == "dog.n.01")
    assert "dog" in dog["telling_words"]
    assert dog["controls"]["text"]["bag_of_words"] > 0.7
    absent = dog["words_absent"]
    assert absent["positives"] < dog["positives"]
    assert absent.get("bag_of_words", 0.5) < dog["controls"]["text"]["bag_of_words"]


def test_the_walk_is_compared_as_the_engine_walks(report: tuple[Path, dict[str, Any]]) -> None:
    expansion = report[1]["expansion"]
    assert expansion["check"]["positions_where_engine_and_walk_differ"] == 0
    assert {row["level"] for row in expansion["by_level"]} == {1}
    assert 0 < expansion["share_scored"]["mean"][0] <= 1
    assert {tuple(point["base_levels"]) for point in expansion["curve"]} == {(0,), (0, 1)}
    assert expansion["best_within"] in expansion["curve"]
    assert [row["exhaustive"] for row in expansion["cost"]] == [False, False, True]
    assert expansion["cost"][-1]["share_scored"] == 1.0
    assert all(0 < row["milliseconds"]["median"] <= row["milliseconds"]["p95"] for row in expansion["cost"])
    assert sum(row["positions"] for row in expansion["by_place"]) == expansion["positions"]
    share = sum(row["positions"] * row["share_scored"] for row in expansion["by_place"])
    assert share == pytest.approx(expansion["positions"] * expansion["share_scored"]["mean"][0], rel=1e-2)
    weighed = sum(row["positions"] * row["active"] for row in expansion["by_place"])
    assert weighed == pytest.approx(expansion["positions"] * expansion["active_a_position"], rel=1e-2)


def test_the_report_names_its_run_and_the_same_question_gets_the_same_answer(
    judged_wordnet: Path, judged_pack: Path, report: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    found = copy.deepcopy(report[1])
    assert found["run"]["command"].startswith("python scripts/judge_lenses.py --pack")
    assert found["run"]["configuration"]["pack"] == found["pack"]["identity"]
    assert main([f"--pack={judged_pack}", f"--wordnet={judged_wordnet}", f"--out={tmp_path / 'again'}"]) == 0
    again = json.loads((tmp_path / "again.json").read_text())
    for one in (found, again):
        for row in one["expansion"]["cost"]:
            row.pop("milliseconds", None)  # times differ
    assert again.keys() == found.keys()
    for part in again.keys() - {"run"}:
        assert again[part] == found[part], part
    assert again["run"]["configuration_sha256"] == found["run"]["configuration_sha256"]


def test_the_page_shows_thresholds_pictures_and_what_is_unmeasured(
    report: tuple[Path, dict[str, Any]],
) -> None:
    out, found = report
    page = out.with_suffix(".md").read_text()
    drawn = sorted((out.parent / "pictures").iterdir())
    assert len(drawn) == 6
    for picture in drawn:
        assert f"(pictures/{picture.name})" in page
        assert picture.stat().st_size < 60_000
    assert "unmeasured" in page
    assert "not met" in page  # random lenses
    names = [f"pictures/{picture.name}" for picture in drawn]
    assert markdown(found, names) == page  # a page can be made again from the JSON
    assert must_show(found) == found["must_show"]


def test_a_sample_says_so_and_is_another_configuration(
    judged_wordnet: Path, judged_pack: Path, report: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    assert (
        main(
            [
                f"--pack={judged_pack}",
                f"--wordnet={judged_wordnet}",
                f"--out={tmp_path / 'few'}",
                "--sample=60",
            ]
        )
        == 0
    )
    few = json.loads((tmp_path / "few.json").read_text())
    assert few["counts"]["held_out_texts"] == 60
    assert few["run"]["configuration_sha256"] != report[1]["run"]["configuration_sha256"]
    assert "A sample" in (tmp_path / "few.md").read_text()
    assert "A sample" not in report[0].with_suffix(".md").read_text()


def test_what_is_missing_is_one_line(
    judged_wordnet: Path, judged_pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    homeless = make_pack(tmp_path / "homeless").path
    for pack_path, sample in ((homeless, 60), (judged_pack, 8)):
        arguments = [
            f"--pack={pack_path}",
            f"--wordnet={judged_wordnet}",
            f"--out={tmp_path / 'x'}",
            f"--sample={sample}",
        ]
        assert main(arguments) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "has no host inside" in errors[0]
    assert "larger --sample" in errors[1]
    assert not (tmp_path / "x.json").exists()
