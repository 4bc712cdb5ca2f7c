"""A ratio says how far it moves by itself; what is further from the committed one stands out."""

import json
from pathlib import Path

import numpy as np
import pytest
from guarding.committed import compare, format_lines, read_committed
from guarding.ratios import Broken, Ratio, twice
from guarding.watching import check_counters
from measuring.rounds import Rounds, Variant

from lenses.errors import SourceError


def pair(ms: float, again_ms: float, rounds: int = 9) -> tuple[np.ndarray, np.ndarray]:
    return np.full(rounds, ms), np.full(rounds, again_ms)


def test_a_ratio_is_of_medians_and_its_noise_is_that_of_the_noisier_pair() -> None:
    a, a_again = pair(2.0, 2.0)
    b, b_again = pair(4.0, 4.4)
    rounds = Rounds({"a": a, "a (again)": a_again, "b": b, "b (again)": b_again})
    found = Ratio.over("a over b", rounds, "a", "b")
    assert found.value == pytest.approx(2 / 4.2)
    assert found.noise == pytest.approx(0.1)
    assert Ratio.over_ms("a over 1 ms", rounds, "a", 1.0) == Ratio("a over 1 ms", 2.0, 0.0)
    assert [one.name for one in twice([Variant("a", int)])] == ["a", "a (again)"]


def run(ratio: float, noise: float, counter: int) -> dict[str, object]:
    return {"ratios": {"scoring": {"value": ratio, "noise": noise}}, "counters": {"hits": counter}}


def test_a_change_stands_out_where_it_is_beyond_the_noise_of_both_runs() -> None:
    within, counted = compare(run(1.0, 0.3, 5), run(1.2, 0.1, 5))
    assert (within.stands_out, counted.stands_out) == (False, False)
    assert within.change == pytest.approx(0.2)
    beyond, counted = compare(run(1.0, 0.1, 5), run(1.2, 0.1, 4))
    assert (beyond.stands_out, counted.stands_out) == (True, True)
    text = format_lines([beyond, counted]).splitlines()
    assert text[1].split()[-5:] == ["±", "10", "%", "beyond", "noise"]
    assert text[2].split()[-1] == "changed"


def test_what_only_one_of_the_runs_has_is_shown_and_is_no_change() -> None:
    then, now = run(1.0, 0.1, 5), run(1.0, 0.1, 5)
    then["ratios"] = {"old": {"value": 3.0, "noise": 0.1}}
    lines = {line.name: line for line in compare(then, now)}
    assert (lines["old"].now, lines["scoring"].then) == (None, None)
    assert not any(line.stands_out for line in lines.values())
    assert all(line.change is None for line in compare(None, now))
    assert "—" in format_lines(compare(None, now))


def test_a_committed_run_that_is_damaged_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    assert read_committed(path) is None
    for text in ("{", "[]", '{"ratios": {}}'):
        path.write_text(text)
        with pytest.raises(SourceError, match="--update"):
            read_committed(path)
    path.write_text(json.dumps(run(1.0, 0.1, 5)))
    assert read_committed(path) == run(1.0, 0.1, 5)


def test_a_counter_that_stands_still_is_named() -> None:
    check_counters({"hits": 1, "misses": 2})
    with pytest.raises(Broken, match="counter misses: 0, and it must move"):
        check_counters({"hits": 1, "misses": 0})
