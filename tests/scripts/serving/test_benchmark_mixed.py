"""The mixed load end to end on a tiny host, with a real server; and the list."""

import json
from collections import Counter
from pathlib import Path

import pytest
from benchmark_mixed import Done, calls_of, main
from pages.mixed_report import markdown


@pytest.mark.usefixtures("warm_servers")
def test_parts_add_up_and_the_switch_is_seen(
    served_pack: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mixed"
    assert main([f"--pack={served_pack}", "--quick", f"--out={out}"]) == 0
    found = json.loads(out.with_suffix(".json").read_text())
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["void"] == 0, [cell["agreement"] for cell in found["cells"]]
    assert found["control"]["score"] is True
    assert len(found["cells"]) == 2 * 3
    for cell in found["cells"]:
        assert {kind: ms["n"] for kind, ms in cell["latency_ms"].items()} == {
            "generate": 2 * 6,
            "tokenize": 2 * 3,
            "score": 2 * 3,
        }
        assert sum(cell["parts_ms"].values()) == pytest.approx(cell["busy_ms"], rel=1e-3)
        assert cell["parts_ms"]["remainder"] >= 0
        if cell["callers"] == 1:
            assert cell["busy_ms"] == pytest.approx(cell["total_ms"]["mean"], rel=1e-3)
        if cell["mode"] == "alone":
            assert cell["calls_a_pass"] == {"score": 1, "tokenize": 1}
    assert markdown(found) == out.with_suffix(".md").read_text()


def test_no_rounds_are_one_line(served_pack: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"--pack={served_pack}", "--quick", "--rounds=0"]) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("error: 0 rounds")


def test_half_of_the_list_generates_and_it_is_drawn_by_seed() -> None:
    listed = calls_of(96, 1)
    assert Counter(kind for kind, _ in listed) == {"generate": 48, "tokenize": 24, "score": 24}
    assert listed == calls_of(96, 1) != calls_of(96, 2)
    assert listed != sorted(listed)


def test_what_is_no_calls_is_the_remainder() -> None:
    done = Done(10.0, {"generate": [4.0, 5.0], "score": [3.0]}, 14.0)
    assert done.parts_ms == {"generate": 9.0, "score": 3.0, "remainder": 2.0}
