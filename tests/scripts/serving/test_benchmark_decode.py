"""The decoding program end to end on a tiny host, with real servers and a link between."""

import json
from pathlib import Path

import pytest
from benchmark_decode import main
from pages.decode_report import markdown


@pytest.mark.usefixtures("warm_servers")
def test_all_ways_say_the_same_and_a_dropped_context_is_seen(
    served_pack: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "decode"
    assert main([f"--pack={served_pack}", "--quick", "--delay-ms=1", "--mbit=1000", f"--out={out}"]) == 0
    found = json.loads(out.with_suffix(".json").read_text())
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["void"] == 0, found["rows"]
    assert last["control_differs"] is True
    rows = {row["name"]: row for row in found["rows"]}
    assert list(rows) == ["native", "engine", "blind", "partial", "full", "native (again)"]
    mb = {name: row["mb"] for name, row in rows.items()}
    assert mb["native"]["total"] == mb["engine"]["total"] == 0
    assert mb["blind"]["logits"] > mb["partial"]["logits"] > mb["full"]["logits"] == 0
    configuration = found["run"]["configuration"]
    prompt, new = configuration["prompt_tokens"], configuration["new_tokens"]
    vocabulary = 64
    assert mb["blind"]["logits"] == pytest.approx(
        4e-6 * vocabulary * sum(range(prompt, prompt + new)), rel=1e-4
    )
    for way in ("blind", "partial", "full"):
        assert sum(size for cause, size in mb[way].items() if cause != "total") == pytest.approx(
            mb[way]["total"], rel=1e-3
        )
        assert mb[way]["framing"] > 0
        assert mb[way]["events"] > 0
    assert markdown(found) == out.with_suffix(".md").read_text()


def test_one_run_is_too_few(served_pack: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"--pack={served_pack}", "--quick", "--runs=1"]) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("error: 1 runs")
