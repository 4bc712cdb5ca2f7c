"""The streams' program end to end on a tiny host, with a real server; and what is not the reference's is seen."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest
from benchmark_streams import main, same_vector, share_of, verdict
from pages.streams_report import markdown
from serving.readers import Pace

from lenses.metrics import Estimate


@pytest.mark.usefixtures("warm_servers")
def test_streams_are_the_reference_and_what_telling_costs_is_seen(
    served_pack: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "streams"
    assert main([f"--pack={served_pack}", "--quick", f"--out={out}"]) == 0
    found = json.loads(out.with_suffix(".json").read_text())
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["void"] == 0, [one["agreement"] for one in (*found["streams"], *found["sharing"])]
    assert last["control_differs"] is True
    assert len(found["streams"]) == 2 * 2 * 2 * 2
    for one in found["streams"]:
        of = one["bytes"]
        assert sum(size for cause, size in of.items() if cause != "total") == pytest.approx(
            of["total"], rel=1e-4
        )
        assert (of["vectors"] > 0) == (one["payload"] == "events and vectors")
        assert one["gap_ms"]["n"] == one["tokens"] - 1
    sharing = {one["name"]: one for one in found["sharing"]}
    assert sharing["nothing"]["bytes"]["events"] == 0 < sharing["nothing"]["bytes"]["text"]
    assert sharing["events"]["bytes"]["events"] == pytest.approx(sharing["events, slowed"]["bytes"]["events"])
    assert sharing["nothing"]["making_ms"]["mean"] < sharing["events"]["making_ms"]["mean"]
    assert all(0.8 < one["planted_counted"] < 1.5 for one in found["shares"])
    assert {one["form"] for one in found["encoding"]} >= {"JSON"}
    assert markdown(found) == out.with_suffix(".md").read_text()


def test_no_rounds_are_one_line(served_pack: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"--pack={served_pack}", "--quick", "--rounds=0"]) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("error: 0 and 2 rounds")


def test_a_share_is_of_the_whole_and_the_rule_is_of_its_interval() -> None:
    assert share_of(Estimate(1.25, 1.0, 2.0)) == Estimate(pytest.approx(0.2), 0.0, 0.5)
    same = Estimate(1.0, 0.99, 1.01)
    assert verdict(Estimate(0.02, 0.01, 0.03), same).startswith("below")
    assert verdict(Estimate(0.2, 0.1, 0.3), same).startswith("above")
    assert verdict(Estimate(0.05, -0.1, 0.3), same).startswith("undecided")
    assert verdict(Estimate(0.02, 0.01, 0.03), Estimate(1.1, 1.05, 1.2)).startswith("undecided")


def test_vectors_are_equal_as_far_as_float16_can_say() -> None:
    def told(*logits: float) -> str:
        return base64.b64encode(np.array(logits, "<f2").tobytes()).decode()

    assert same_vector(told(8.0, np.nan), told(8.0078125, np.nan))
    assert not same_vector(told(8.0, np.nan), told(8.05, np.nan))
    assert not same_vector(told(8.0, 1.0), told(8.0, np.nan))
    assert not same_vector(told(8.0), told(8.0, 8.0))


def test_a_pace_is_a_share_of_a_speed() -> None:
    pace = Pace.of(1 << 20, 2.0, 0.5)
    pauses = (1 << 20) / pace.bytes
    assert pace.bytes == 1 << 14
    assert pauses * pace.pause_s == pytest.approx(4.0)
    assert Pace.of(800, 1.0, 0.5).bytes == 100
