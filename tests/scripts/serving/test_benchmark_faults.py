"""The faults' program end to end on a tiny host, with a real server; and when a call is tried again."""

import asyncio
import json
from pathlib import Path

import pytest
from benchmark_faults import main
from pages.faults_report import markdown
from serving.calls import Refused
from serving.faults import drawn
from serving.retrying import Tried, mean_attempts, persist, succeed, unlogged


@pytest.mark.usefixtures("warm_servers")
def test_faults_are_those_that_were_told_and_clients_see_them(
    served_pack: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "faults"
    assert main([f"--pack={served_pack}", "--quick", f"--out={out}"]) == 0
    found = json.loads(out.with_suffix(".json").read_text())
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["void"] == 0, [one["agreement"] for one in found["rows"]]
    assert last["control_differs"] is True
    assert found["wrong"] == {"status": 400, "attempts": 1}
    for one in found["rows"]:
        assert one["told"] == one["planted"] + one["spared"]
        assert one["planted"] + one["collateral"] == one["seen"]
        assert (one["planted"] > 0) == (one["percent"] > 0)
        assert (one["attempts_most"] > 1) == (one["percent"] > 0 and one["retries"])
    assert [one["succeeded"] for one in found["rows"] if not one["percent"]] == [100] * 3
    assert markdown(found) == out.with_suffix(".md").read_text()


def test_no_rounds_are_one_line(served_pack: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"--pack={served_pack}", "--quick", "--rounds=0"]) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("error: 0 rounds")


def test_what_arithmetic_expects() -> None:
    assert succeed(0.2, 1) == pytest.approx(0.8)
    assert succeed(0.2, 5) == pytest.approx(0.99968)
    assert mean_attempts(0.2, 1) == 1
    assert mean_attempts(0.2, 5) == pytest.approx(0.99968 / 0.8)
    assert drawn(0.0, 1, 100) == 0
    assert drawn(0.2, 1, 1000) == pytest.approx(200, abs=40)


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (Refused(500, b""), 3),
        (ConnectionResetError(), 3),
        (EOFError(), 3),
        (Refused(400, b""), 1),
        (Refused(429, b""), 1),
    ],
)
def test_only_what_may_pass_is_tried_again(error: Exception, attempts: int) -> None:
    tried = Tried()

    async def act() -> bytes:
        raise error

    with unlogged(), pytest.raises(type(error)):
        asyncio.run(persist(act, tried, attempts=3))
    assert tried.attempts == attempts
