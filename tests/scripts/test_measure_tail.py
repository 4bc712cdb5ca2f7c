"""The tail's program end to end on a tiny host."""

import json
from pathlib import Path

import pytest
from measure_tail import main
from pages.tail_report import markdown, pictures

from tests.profiled import tiny


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny(tmp_path_factory.mktemp("tiny"))[1].path)


def test_the_report_has_tail_memory_and_a_control(
    pack: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "tail"
    assert main([f"--pack={pack}", "--quick", "--tokens=30", f"--out={out}"]) == 0
    found = json.loads(out.with_suffix(".json").read_text())
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["hot_rate"] == 1.0
    assert last["control_seen_to_grow"] is True
    assert found["tail"]["engine"]["ms"]["n"] == found["tail"]["empty loop"]["ms"]["n"] == 30
    assert found["memory"]["engine"]["tokens"] == 400
    page = out.with_suffix(".md").read_text()
    assert markdown(found, ["pictures/tail-memory.svg"]) == page
    assert (tmp_path / "pictures/tail-memory.svg").read_text() == pictures(found)["memory"]
    assert "**A quick try**" in page


def test_a_quick_try_writes_nothing(pack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([f"--pack={pack}", "--quick", "--tokens=10", "--memory-tokens=100"]) == 0
    assert not list(tmp_path.iterdir())


def test_too_few_tokens_are_one_line(pack: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"--pack={pack}", "--quick", "--tokens=3"]) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("error: 3 and 400 tokens")
