"""The benchmark end to end on a few lenses: every way has a row, and what cannot run says why."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import benchmark_lens_compilation
import pytest
import torch
from benchmark_lens_compilation import SLOW_ROUNDS, main
from measuring import floor
from pages.compilation_report import markdown

ROUNDS = SLOW_ROUNDS + 1
BASELINE = "one module at a time, fp32"


@pytest.fixture(scope="module", autouse=True)
def _small_and_without_a_compiler() -> Iterator[None]:
    """Compiling takes half a minute and is tested where ways are; here is a machine without a compiler."""
    torch._dynamo.reset()
    with (
        pytest.MonkeyPatch.context() as patch,
        torch._inductor.config.patch({"cpp.cxx": (None, "no-such-compiler")}),
        torch._inductor.utils.fresh_cache(),
    ):
        patch.setattr(floor, "READ_BYTES", 2**20)
        patch.setattr(benchmark_lens_compilation, "SLOW", 1.5)
        yield
    torch._dynamo.reset()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("reports") / "few"
    assert main(["--lenses=3", "--rows", "1", "4", f"--rounds={ROUNDS}", f"--out={out}"]) == 0
    return out, json.loads(out.with_suffix(".json").read_text())


def test_every_way_has_a_row_that_ran_or_says_why_not(report: tuple[Path, dict[str, Any]]) -> None:
    assert [batch["rows"] for batch in report[1]["batches"]] == [1, 4]
    for batch in report[1]["batches"]:
        rows = {way["name"]: way for way in batch["ways"]}
        assert {
            BASELINE,
            f"{BASELINE} (again)",
            "torch._int_mm, W8A8",
            "vmap over modules, fp32",
        } <= rows.keys()
        assert {f"lenses.bank, numba, {dtype}" for dtype in ("fp32", "bf16", "int8")} <= rows.keys()
        for name in ("one graph", "one module at a time, each compiled"):
            assert rows[name] == {"name": name, "reason": "no C++ compiler here"}
        ran = [way for way in rows.values() if "ms" in way]
        for way in ran:
            assert way["ms"]["n"] in (ROUNDS, SLOW_ROUNDS)
            assert way["floor_ms"] > 0
            assert (way["ratio"] is None) == (way["name"] == BASELINE)
        assert rows[BASELINE]["ms"]["n"] == rows[f"{BASELINE} (again)"]["ms"]["n"] == ROUNDS
        assert batch["floor"]["bytes_per_s"]["n"] == ROUNDS


def test_logits_are_compared_with_the_baseline_in_every_run(report: tuple[Path, dict[str, Any]]) -> None:
    for batch in report[1]["batches"]:
        for way in batch["ways"]:
            if "ms" not in way:
                continue
            off = way["largest_difference"] / max(1.0, batch["largest_logit"])
            if "fp32" in way["name"]:
                assert off <= 1e-5, way["name"]
            else:
                assert 1e-5 < off < 0.1, way["name"]  # what was rounded away is seen


def test_the_page_has_every_row_and_can_be_made_again_from_the_json(
    report: tuple[Path, dict[str, Any]],
) -> None:
    out, found = report
    page = out.with_suffix(".md").read_text()
    assert markdown(found) == page
    for batch in found["batches"]:
        for way in batch["ways"]:
            assert f"| {way['name']} |" in page
    assert page.count("not run: no C++ compiler here") == 4
    assert "quick try" not in page
    assert found["run"]["command"].startswith("python scripts/benchmark_lens_compilation.py --lenses=3")


def test_the_last_line_is_one_json_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quick", "--lenses=2", "--rows=1", "--rounds=2", f"--out={tmp_path / 'try'}"]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["quick"]
    assert last["batches"][0]["median_ms"][BASELINE] > 0
    assert last["batches"][0]["not_run"]["one graph"] == "no C++ compiler here"
    assert "**A quick try**" in (tmp_path / "try.md").read_text()


def test_what_cannot_be_measured_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--lenses=1"], ["--rounds=1"], ["--rows", "1", "0"]):
        assert main([*arguments, f"--out={tmp_path / 'x'}"]) == 2
        assert capsys.readouterr().err.strip().splitlines()[-1].startswith("error: ")
    assert not list(tmp_path.iterdir())
