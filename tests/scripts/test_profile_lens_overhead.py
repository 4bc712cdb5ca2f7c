"""The profiler end to end on a tiny host: its files, its last line, what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
from measuring import floor
from pages.profile_report import markdown, pictures
from profile_lens_overhead import main
from profiling.trace import check_trace

from runtime.clock import Component
from tests.profiled import tiny

FEW = ["--prompt=the dog runs", "--prompt=a red house", "--max-new-tokens=5", "--rounds=2"]


@pytest.fixture(scope="module", autouse=True)
def _small_floor() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(floor, "READ_BYTES", 2**20)
        yield


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny(tmp_path_factory.mktemp("tiny"))[1].path)


@pytest.fixture(scope="module")
def report(pack: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("reports") / "profile-few"
    trace = f"--trace={out.with_name('trace.json')}"
    settings = ["--cache=cold", "--hot-budget=4000", "--warm-budget=4kB", "--top-k=2"]
    assert main([f"--pack={pack}", f"--out={out}", trace, "--name=few", *settings, *FEW]) == 0
    return out, json.loads(out.with_suffix(".json").read_text())


def test_the_report_has_what_it_must(report: tuple[Path, dict[str, Any]]) -> None:
    found = report[1]
    assert found["equal_to_reference"] is True
    assert found["equal"]["control"]["seen_to_differ"]
    assert {"host", "initial detection", "child detection", "events"} <= found["components_ms"].keys()
    assert found["total_ms"] > found["floor_ms"] > 0
    generation = found["components"]["generation"]
    parts = sum(found["components_ms"].values()) + generation["remainder_ms"]
    assert parts == pytest.approx(found["total_ms"], rel=1e-3)
    assert generation["steps"] == 2 * 2 * 4
    assert found["floor"]["bytes_per_s"]["n"] == 2
    assert found["start_up_ms"]["n"] == 2 * 3, "a monitor each for two texts, two rounds and the warm-up"
    assert found["hits"]["runs"] == 4
    assert found["hits"]["generation"]["requests"] > 0
    assert found["hits"]["reads"] > 0
    assert [one["new"] for one in found["texts"]] == [5, 5]
    assert found["run"]["configuration"]["monitor"]["top_k"] == 2
    ways = found["times"]["ways"]
    assert list(ways) == ["off", "off again", "on", "on, clocked"]
    assert all(way["token_ms"]["n"] == 16 and way["first_ms"]["n"] == 4 for way in ways.values())
    assert len(found["tokens"]) == 4
    ranked = [one["gain_ms"] for one in found["opportunities"]["generation"]]
    assert ranked == sorted(ranked, reverse=True)


def test_page_and_pictures_can_be_made_again_from_the_json(report: tuple[Path, dict[str, Any]]) -> None:
    out, found = report
    names = ["pictures/profile-few-lenses.svg", "pictures/profile-few-tokens.svg"]
    page = out.with_suffix(".md").read_text()
    assert markdown(found, names) == page
    for name, svg in pictures(found).items():
        assert (out.parent / f"pictures/profile-few-{name}.svg").read_text() == svg
    assert ">host<" in pictures(found)["tokens"]
    assert ">host<" not in pictures(found)["lenses"]
    for row in found["components"]["prompt"]["rows"]:
        assert f"| {row['component']} |" in page
    assert "quick try" not in page


def test_the_trace_is_one(report: tuple[Path, dict[str, Any]]) -> None:
    found = json.loads(report[0].with_name("trace.json").read_text())
    check_trace(found)
    slices = [event for event in found["traceEvents"] if event["ph"] == "X"]
    assert len([event for event in slices if event["cat"] == "step"]) == 5
    assert Component.PREWARM in {event["name"] for event in slices}


def test_a_quick_try_writes_nothing_and_ends_with_its_document(
    pack: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([f"--pack={pack}", "--quick", "--json", "-", "--max-new-tokens=3"]) == 0
    printed = capsys.readouterr()
    (line,) = printed.out.splitlines()
    found = json.loads(line)
    assert {"components_ms", "total_ms", "floor_ms", "hits"} <= found.keys()
    assert found["equal_to_reference"] is True
    assert found["hits"]["generation"]["hot_rate"] == 1, "warm: all was met in the round before"
    assert "A quick try" in printed.err
    assert not list(tmp_path.iterdir())


def test_without_json_the_tables_come_first_and_the_last_line_is_short(
    pack: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [
        "--exhaustive",
        "--prompt-events=base",
        "--read-every=2",
        "--no-prewarm",
        "--missing=deferred",
    ]
    assert main([f"--pack={pack}", "--quick", "--max-new-tokens=4", "--rounds=1", *settings]) == 0
    *page, last = capsys.readouterr().out.splitlines()
    assert json.loads(last)["equal_to_reference"] is True
    assert any("initial detection" in line for line in page)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--rounds=0"], "too few"),
        (["--max-new-tokens=1"], "too few"),
        (["--hot-budget=lots"], "not understood"),
        (["--base-levels=1"], "no prefix"),
        (["--blocks=2"], "no shape"),
        (["--model=random:gemma-3-tiny"], "not random:gemma-3-tiny"),
        (["--pack=there-is-none"], "there-is-none"),
    ],
)
def test_what_cannot_be_is_one_line(
    pack: str, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--quick", f"--pack={pack}", *arguments]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert says in last
