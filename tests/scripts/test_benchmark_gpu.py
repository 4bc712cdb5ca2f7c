"""The benchmark of a GPU: it measures where it can, here on a CPU, and says "not measured" where it cannot."""

import json
from pathlib import Path

import benchmark_gpu
import pytest
import torch
from pages.gpu_report import markdown
from rich.progress import Progress

from tests.packs import make_pack


def test_without_a_gpu_the_report_says_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert benchmark_gpu.main(["--out", str(tmp_path / "gpu")]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"gpu": None, "measured": "not measured"}
    assert json.loads((tmp_path / "gpu.json").read_text())["measured"] is None
    page = (tmp_path / "gpu.md").read_text()
    assert page.count("not measured") >= 4
    assert "floor of" not in page


def test_with_a_gpu_and_no_pack_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert benchmark_gpu.main(["--out", str(tmp_path / "gpu")]) == 2
    assert "make_synthetic_pack" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_all_that_is_measured_on_a_gpu_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark_gpu, "_FLOOR_BYTES", 1 << 16)
    monkeypatch.setattr(benchmark_gpu, "PROMOTED", 8)
    pack = make_pack(tmp_path / "pack", branching=(3, 3, 3, 2), hidden_size=32)
    with Progress(disable=True) as progress:
        measured = benchmark_gpu.measure(pack, "cpu", 16, 0, progress)
    agreement = measured["agreement"]
    assert agreement["positions"] == 16
    assert agreement["other_sets"] == 0
    assert agreement["largest_difference"] <= 1e-5
    assert agreement["control_differs"] == 16
    for one, at_once in zip(measured["steps"], (1, 8), strict=True):
        assert one["lenses"] > 12
        assert {way["n"] for way in one["ways"].values()} == {16 // at_once}
    assert measured["promotion"]["bring"]["n"] == 16
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert benchmark_gpu.main(["--out", str(tmp_path / "gpu")]) == 0
    report = json.loads((tmp_path / "gpu.json").read_text()) | {"measured": measured, "gpu": "a GPU"}
    page = markdown(report)
    assert "| compiled graph | 16 |" in page
    assert "16 of 16 positions got the same lenses" in page


def test_slots_of_one_lens_leave_nothing_empty_and_larger_ones_do() -> None:
    found = benchmark_gpu.layouts(benchmark_gpu.synthetic_tree(benchmark_gpu.REFERENCE_LEVELS, 0))
    assert [one["lenses_a_slot"] for one in found] == [1, 2, 4, 8, 31]
    assert found[0]["empty"] == 0
    assert [one["empty"] for one in found] == sorted(one["empty"] for one in found)
    assert found[-1]["room_lenses"] % 31 == 0
