"""The coalescing program end to end on a tiny host, with a real server."""

import json
from pathlib import Path

import pytest
from benchmark_coalescing import main, same_scores, same_tokens
from pages.coalescing_report import markdown


@pytest.mark.usefixtures("warm_servers")
def test_the_switch_is_seen_and_answers_are_those_of_calls_alone(
    served_pack: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "coalescing"
    assert main([f"--pack={served_pack}", "--quick", "--seconds=0.1", f"--out={out}"]) == 0
    found = json.loads(out.with_suffix(".json").read_text())
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["void"] == 0
    cells = {(cell["route"], cell["callers"], cell["mode"]): cell for cell in found["cells"]}
    assert len(cells) == 2 * 2 * 3
    for (_, callers, mode), cell in cells.items():
        assert cell["per_s"]["n"] == 2
        assert cell["compared"] == 2 * callers
        if mode == "alone":
            assert cell["calls_a_pass"] == 1
    assert cells["score", 4, "joined"]["calls_a_pass"] > 1
    assert markdown(found) == out.with_suffix(".md").read_text()


def test_answers_that_differ_are_seen() -> None:
    one = b"\x00\x00\x80\x3f" * 3
    assert same_scores(one, one) == (True, 0.0)
    off = b"\x00\x00\x80\x3f" * 2 + b"\x00\x00\x81\x3f"
    assert same_scores(off, one)[1] > 1
    assert same_scores(one[:8], one)[1] > 1
    assert same_tokens(b'{"tokens":[1]}', b'{"tokens": [1]}') == (True, 0.0)
    assert same_tokens(b'{"tokens":[2]}', b'{"tokens":[1]}')[1] > 1


def test_no_rounds_are_one_line(served_pack: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"--pack={served_pack}", "--quick", "--rounds=0"]) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("error: 0 rounds")
