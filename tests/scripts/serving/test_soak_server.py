"""The soak end to end on a tiny host, with a real server; and that what is not whole is seen."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages.soak_report import markdown
from serving.memory import slope
from serving.streams import check
from soak_server import LEFT, main


@pytest.mark.usefixtures("warm_servers")
def test_nothing_is_left_and_every_fault_is_seen(
    served_pack: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "soak"
    assert main([f"--pack={served_pack}", "--quick", f"--out={out}"]) == 0
    found = json.loads(out.with_suffix(".json").read_text())
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["problems"] == 0, found["soak"]["first_problems"]
    assert last["counts"]["read to the end"] > 0
    assert last["planted"] == found["soak"]["steps_told_to_break"]
    assert last["left"] == dict.fromkeys(LEFT, 0)
    assert found["stalled"]["served_meanwhile"] > 0
    assert markdown(found, ["pictures/soak-memory.svg"]) == out.with_suffix(".md").read_text()


def test_no_streams_are_one_line(served_pack: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"--pack={served_pack}", "--quick", "--streams=0"]) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("error: 0 streams")


def stream() -> list[dict[str, Any]]:
    """Three tokens behind a prompt of three, the second one's entry dropped."""

    def entry(position: int) -> dict[str, Any]:
        return {"position": position, "coverage": {"expected": 2, "scored": 1, "pending": 0, "failed": 1}}

    def chunk(**lenses: Any) -> dict[str, Any]:
        return {"choices": [{"lenses": lenses}]}

    return [
        chunk(prompt=[entry(0), entry(1)], content=[entry(2)]),
        chunk(content=[None], dropped=1),
        chunk(content=[entry(4)], coverage={"entries": 4, "dropped": 1}),
        {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 3}},
    ]


def test_a_whole_stream_is_whole() -> None:
    assert check(stream(), prompt=True) == (None, 4, 1)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ((1, "choices", 0, "lenses", "dropped"), 0),
        ((2, "choices", 0, "lenses", "coverage", "entries"), 5),
        ((2, "choices", 0, "lenses", "content", 0, "position"), 3),
        ((2, "choices", 0, "lenses", "content", 0, "coverage", "scored"), 2),
        ((0, "choices", 0, "lenses", "prompt"), []),
        ((3, "usage", "completion_tokens"), 4),
    ],
)
def test_what_is_missing_is_seen(place: tuple[Any, ...], value: object) -> None:
    told = copy.deepcopy(stream())
    at: Any = told
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    assert check(told, prompt=True)[0] is not None


def test_a_stream_without_its_end_is_seen() -> None:
    assert check(stream()[:-2], prompt=True)[0] == "the last chunk is missing"


def test_a_slope_is_found_within_its_interval() -> None:
    seconds_S = np.arange(400.0)
    noise_S = np.random.default_rng(1).normal(size=400)
    found = slope(seconds_S, 100 + 0.5 * seconds_S / 60 + 0.01 * noise_S)
    assert found.low < 0.5 < found.high
    assert found.high - found.low < 0.05
    assert slope(seconds_S, 100 + noise_S).low < 0 < slope(seconds_S, 100 + noise_S).high
