"""The turns' program end to end on a tiny host, with a real server; and lines through repeats."""

import json
from pathlib import Path

import pytest
from benchmark_turns import main
from pages.turns_report import markdown
from serving.trends import trend

from lenses.errors import ConfigError


@pytest.mark.usefixtures("warm_servers")
def test_turns_say_what_the_whole_text_says_and_a_dropped_context_is_seen(
    served_pack: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "turns"
    assert main([f"--pack={served_pack}", "--quick", f"--out={out}"]) == 0
    found = json.loads(out.with_suffix(".json").read_text())
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["void"] == 0, found["rows"]
    assert last["control_differs"] is True
    rows = {row["name"]: row for row in found["rows"]}
    assert list(rows) == ["session", "whole", "session (again)"]
    sent, new = 3, 3
    assert found["before"] == [0, *(1 + turn * (sent + new) for turn in (1, 2, 3))]
    # What was drawn last is read with the next turn.
    assert rows["session"]["kept"] == [0, *(before - 1 for before in found["before"][1:])]
    assert rows["whole"]["kept"] == [0, 0, 0, 0]
    for row in rows.values():
        assert row["agreement"]["pairs"] == 2 * 4
        assert sum(one["mean"] * new for one in row["token_ms"]) + row["around_ms"]["mean"] == pytest.approx(
            row["total_ms"]["mean"], rel=1e-3
        )
    assert markdown(found) == out.with_suffix(".md").read_text()


def test_one_repeat_is_too_few(served_pack: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"--pack={served_pack}", "--quick", "--repeats=1"]) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("error: 1 repeats")


def test_a_line_is_found_and_its_interval_is_of_repeats() -> None:
    same = trend([[10.0, 11.0, 12.0]] * 5)
    assert same.slope.value == same.slope.low == same.slope.high == pytest.approx(1.0)
    assert same.change.value == pytest.approx(2 / 11)
    # One repeat is slower throughout: that is no trend, and widens nothing.
    level = trend([[10.0] * 10] * 4 + [[20.0] * 10])
    assert (level.change.low, level.change.value, level.change.high) == (0, 0, 0)
    apart = trend([[10.0, 11.0], [10.0, 9.0], [10.0, 11.0], [10.0, 9.0]])
    assert apart.change.low < 0 < apart.change.high


def test_no_repeats_have_no_line() -> None:
    with pytest.raises(ConfigError, match="nothing can be said"):
        trend([])
