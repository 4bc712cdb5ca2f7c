"""The questions' program end to end on a tiny host, with a real server."""

import json
from pathlib import Path

import pytest
from benchmark_questions import main
from pages.questions_report import markdown
from serving.timers import PARTS


@pytest.mark.usefixtures("warm_servers")
def test_the_report_has_pairs_parts_and_a_control(
    served_pack: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "questions"
    assert main([f"--pack={served_pack}", "--quick", f"--out={out}"]) == 0
    found = json.loads(out.with_suffix(".json").read_text())
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["void"] == 0
    assert last["control_differs"] is True
    assert len(last["ratio"]) == len(last["ratio_again"]) == 3
    assert found["pairs"] == len(found["run"]["configuration"]["questions"]) == 3
    for name, way in found["ways"].items():
        parts = way["parts_ms"]
        assert sum(parts.values()) == pytest.approx(way["total_ms"], rel=1e-4)
        measured = [part for part in PARTS if name == "served" or part != "draw"]
        assert all(parts[part] > 0 for part in measured), (name, parts)
    assert markdown(found) == out.with_suffix(".md").read_text()


def test_no_questions_are_one_line(served_pack: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"--pack={served_pack}", "--quick", "--questions=0"]) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("error: 0 questions")
