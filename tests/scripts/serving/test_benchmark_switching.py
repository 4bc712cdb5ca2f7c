"""The switching program end to end on tiny hosts, with real servers."""

import json
from pathlib import Path

import pytest
from benchmark_switching import main
from pages.switching_report import markdown
from serving.residence import residence


@pytest.mark.usefixtures("warm_servers")
def test_what_gives_way_is_loaded_again_and_says_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    out = tmp_path / "switching"
    assert main(["--quick", f"--work={tmp_path / 'packs'}", f"--out={out}"]) == 0
    found = json.loads(out.with_suffix(".json").read_text())
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["void"] == 0
    rows = {(row["kind"], row["mode"]): row for row in found["rows"]}
    assert len(rows) == 2 * 4
    for (_, mode), row in rows.items():
        assert (row["loads"] > 0) == (row["evictions"] > 0) == (mode == "room for all but one")
    names = [one["name"].partition(" ")[0] for one in found["memory"]["packs"]]
    assert (names.count("host"), names.count("engine")) == (1, 3), "a host of three packs is there once"
    assert markdown(found) == out.with_suffix(".md").read_text()


def test_no_rounds_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quick", "--rounds=0", f"--work={tmp_path}"]) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("error: 0 rounds")


def test_memory_is_read_as_prometheus_writes_it() -> None:
    found = residence(
        'phoropter_resident_bytes{name="host a"} 12.0\n'
        'phoropter_resident_wishes_total{outcome="load"} 3.0\n'
        'phoropter_resident_wishes_total{outcome="eviction"} 1.0\n'
    )
    assert ([one.to_json() for one in found.all], found.loads, found.evictions) == (
        [{"name": "host a", "size_bytes": 12}],
        3,
        1,
    )
