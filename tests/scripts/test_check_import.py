"""The check of imports end to end, with few lenses."""

import json
from pathlib import Path

import pytest
from check_import import main, markdown


def test_every_lens_is_within_and_the_controls_are_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "import"
    assert main(["--lenses=12", f"--out={out}"]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["all_within"]
    assert last["control_differs"]
    assert last["hostile_refused"]
    report = json.loads(out.with_suffix(".json").read_text())
    assert [one["stored"] for one in report["cases"]] == ["fp32", "fp32", "bf16", "fp32"]
    assert out.with_suffix(".md").read_text() == markdown(report)


def test_too_few_lenses_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--lenses=3", f"--out={tmp_path / 'x'}"]) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("error: 3 lenses")
