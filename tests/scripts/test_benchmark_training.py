"""The program that times training, end to end on few small lenses, and the states it plants."""

import json
from pathlib import Path

import numpy as np
import pytest
from benchmark_training import CONFIGS, WAYS, linear_gflop, main, step_gflop
from pages.training_report import markdown
from synthetic.planted import Planted
from synthetic.tree import synthetic_tree

TINY = ["--quick", "--hidden-size=24", "--levels=2,4", "--texts=60"]


def test_the_report_has_every_way_a_comparison_and_what_was_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "training"
    assert main([*TINY, f"--out={out}"]) == 0
    found = json.loads(out.with_suffix(".json").read_text())
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [row["name"] for row in found["ways"]] == list(WAYS)
    assert last["seconds"].keys() == set(WAYS)
    assert [row["name"] for row in found["comparison"]][-1] == "the plain way"
    assert [one["most"] for one in found["requirements"]] == [60, 900]
    page = out.with_suffix(".md").read_text()
    assert markdown(found) == page
    assert "**A quick try**" in page


def test_single_ways_leave_the_comparison_out(tmp_path: Path) -> None:
    out = tmp_path / "training"
    assert main([*TINY, "--ways", "linear", f"--out={out}"]) == 0
    found = json.loads(out.with_suffix(".json").read_text())
    assert found["comparison"] == []
    assert len(found["requirements"]) == 1


def test_too_little_to_train_on_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quick", "--texts=3"]) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("error: hidden size 48, 3 texts")


def test_arithmetic_is_counted_as_on_paper() -> None:
    world = Planted.draw(synthetic_tree((2, 4), 0), 16, 0).samples(50, 2, 1)
    assert linear_gflop(world, 6) * 1e9 == pytest.approx(2 * 100 * 16 * 22 + 16**3 / 3 + 2 * 256 * 6)
    # Forward and weights' gradients through the first layer; the input's as well through the other two.
    of_a_pair = 4 * 512 * 128 + 6 * 128 * 64 + 6 * 64
    assert step_gflop(CONFIGS["mlp-128-64"], 10, 2560) * 1e9 == pytest.approx(10 * (64 + 2 * 16) * of_a_pair)


def test_planted_texts_are_of_their_concept_and_of_all_above_and_repeat_by_seed() -> None:
    hierarchy = synthetic_tree((2, 4, 6), 0)
    world = Planted.draw(hierarchy, 16, 0)
    first, again, other = world.samples(50, 2, 1), world.samples(50, 2, 1), world.samples(50, 2, 2)
    assert np.array_equal(first.states_SD, again.states_SD)
    assert not np.array_equal(first.states_SD, other.states_SD)
    assert first.states_SD.dtype == np.float32
    first.check(hierarchy)
    assert (first.text_S == np.repeat(np.arange(50), 2)).all()
