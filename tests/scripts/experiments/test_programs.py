"""The programs end to end on a tiny pack: files, last line, a page made again from the JSON, errors in one line."""

import json
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import ablate_prewarming
import compare_caching
import measure_child_loading
import measure_scoring
import pytest
import sweep_base_levels
import sweep_expansion
import sweep_hot_budget
from experiments import prewarming_page
from experiments.replay import COLUMNS

from tests.scripts.experiments.conftest import Tiny

Main = Callable[[Sequence[str]], int]


def run(main: Main, out: Path, options: Sequence[str]) -> Any:
    printed = StringIO()
    with redirect_stdout(printed):
        assert main([*options, "--quick", f"--out={out}"]) == 0
    last = json.loads(printed.getvalue().splitlines()[-1])
    assert last["quick"]
    assert last["contents_equal"]
    assert last["control_differs"]
    report = json.loads(out.with_suffix(".json").read_text())
    assert report["run"]["command"].startswith("python scripts/")
    assert "**A quick try**" in out.with_suffix(".md").read_text()
    return report


@pytest.fixture(scope="module")
def sweeps(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Any], tuple[Path, Any]]:
    """A program's report, made once: where it is, and what is in it."""

    @cache
    def made(program: Any) -> tuple[Path, Any]:
        out = tmp_path_factory.mktemp("sweep") / "sweep"
        return out, run(program.main, out, [*tiny.options, "--rounds=1"])

    return made


SWEEPS = [sweep_base_levels, compare_caching, sweep_expansion, sweep_hot_budget]


@pytest.mark.parametrize("program", SWEEPS, ids=lambda program: program.__name__)
def test_a_sweep(program: Any, sweeps: Callable[[Any], tuple[Path, Any]]) -> None:
    out, report = sweeps(program)
    pictures = sorted(f"pictures/{path.name}" for path in (out.parent / "pictures").iterdir())
    page = out.with_suffix(".md").read_text()
    assert program.markdown(report, pictures) == page
    rows = {row["name"]: row for row in report["rows"]}
    assert f"{report['against']} (again)" in rows
    for name, row in rows.items():
        assert f"| {name} |" in page
        assert sum(row["parts_ms"][part] for part in COLUMNS) == pytest.approx(
            row["token_ms"]["mean"], rel=1e-3
        )
        assert row["floor_ms"] > 0
    assert report["whole"][0]["name"] == "no lenses"
    assert len(report["whole"]) >= 3


def test_base_levels_and_caching_move_what_they_should(sweeps: Callable[[Any], tuple[Path, Any]]) -> None:
    _, levels = sweeps(sweep_base_levels)
    base = {row["name"]: row["base_lenses"] for row in levels["rows"]}
    assert [base[f"levels 0-{n}"] for n in (1, 2, 3)] == [12, 30, 66]
    assert base["one at a time, level 0"] == base["level 0"] == 3
    _, caching = sweeps(compare_caching)
    rows = {row["name"]: row for row in caching["rows"]}
    for whose in ("", "one at a time, "):
        none, cached, memory = (
            rows[f"{whose}{name}"] for name in ("no cache", "cache", "whole pack in memory")
        )
        assert none["children_loaded"] > cached["children_loaded"] > memory["children_loaded"] == 0
        assert cached["hit_rate"] < memory["hit_rate"] == 1
    assert rows["no cache"]["children_loaded"] == rows["one at a time, no cache"]["children_loaded"]


def test_prewarming(tiny: Tiny, tmp_path: Path) -> None:
    out = tmp_path / "prewarming"
    options = ["--prompts=1", "--round-tokens", "12", "--load-thresholds", "own"]
    report = run(ablate_prewarming.main, out, [*tiny.options, *options])
    page = out.with_suffix(".md").read_text()
    assert prewarming_page.markdown(report, ["pictures/prewarming-walk-1.svg"]) == page
    assert [walk["load_threshold"] for walk in report["walks"]] == [None]
    for walk in report["walks"]:
        assert len(walk["rows"]) == 9
        assert walk["verdict"]["test"] is None, "twelve tokens are not fifty"
        assert {test["length"] for test in walk["compared"]} == {10}
    cold = {row["name"]: row for row in report["walks"][0]["rows"]}
    on, off = (cold[f"pre-warming {switch}, cache on, prompt events off"] for switch in ("on", "off"))
    assert on["prompt_loaded"] > off["prompt_loaded"] == 0
    assert on["children_loaded"] < off["children_loaded"]
    for row in cold.values():
        assert row["first_token_ms"]["median"] >= row["start_ms"]["median"]
        assert row["until_ms"]["10"]["median"] > row["first_token_ms"]["median"]


def test_child_loading(tiny: Tiny, tmp_path: Path) -> None:
    out = tmp_path / "loading"
    options = [f"--pack={tiny.pack}", f"--work={tiny.work}", "--families=4"]
    report = run(measure_child_loading.main, out, options)
    assert measure_child_loading.markdown(report) == out.with_suffix(".md").read_text()
    assert len(report["rows"]) == 12
    assert len(report["requirements"]) == 3
    for row in report["rows"]:
        assert row["floor"].startswith("disk" if row["cold"] else "memory")
        assert row["lens_ms"] * report["lenses"] == pytest.approx(row["ms"]["median"], rel=1e-4)


def test_scoring(tiny: Tiny, tmp_path: Path) -> None:
    out = tmp_path / "scoring"
    report = run(measure_scoring.main, out, tiny.options)
    assert measure_scoring.markdown(report) == out.with_suffix(".md").read_text()
    rows = {row["name"]: row for row in report["one_row"]}
    assert all(row["loaded"] == 0 for name, row in rows.items() if name != "one at a time, cache of 500")
    for row in rows.values():
        if row["engine"]:
            means = [row[part]["ms"]["mean"] for part in ("scoring", "engine", "whole")]
            assert means == sorted(means)
    assert {row["part"] for row in report["many_rows"]} == {"base alone", "whole walk"}
    assert {row["lenses"] for row in report["all_lenses"]} == {269}
    assert sum(one["most"] is not None or one["least"] is not None for one in report["requirements"]) >= 11


@pytest.mark.parametrize(
    ("main", "options"),
    [
        (sweep_base_levels.main, ["--tokens=1"]),
        (sweep_expansion.main, ["--prompts=9"]),
        (sweep_hot_budget.main, ["--rounds=0"]),
        (ablate_prewarming.main, ["--round-tokens", "1"]),
        (measure_child_loading.main, ["--rounds=1"]),
        (measure_scoring.main, ["--tokens=2"]),
    ],
)
def test_what_cannot_be_measured_is_one_line(
    main: Main, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*options, f"--out={tmp_path / 'x'}"]) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("error: ")
    assert not list(tmp_path.iterdir())
