"""What a way finds is counted as the words say, on numbers that can be counted by hand."""

from pathlib import Path

import numpy as np
import pytest
from comparing.cost import bytes_of, cost
from comparing.quality import Found, Said, Truth, difference, lens_quality, say

from runtime.config import MonitorConfig
from tests.packs import make_pack


def bools(*rows: str) -> np.ndarray:
    return np.array([[letter == "x" for letter in row] for row in rows])


TRUTH = Truth(bools("x.x.", "xx..", "..x."), np.array([True, True, False]), np.array([0, 1, 2]))


def test_shares_are_of_measured_concepts_and_of_the_reference() -> None:
    reference = Said(bools("xx.x", "xx..", "...."), bools("xxxx", "xxxx", "xxxx"))
    said = Said(bools("x..x", "x...", "..xx"), bools("x.xx", "xx..", "xxxx"))
    found = Found.of(said, reference, TRUTH)
    assert found.finds == 3 / 5
    assert found.true == 1.0, "the fourth concept is not measured"
    assert found.agrees == 3 / 5
    assert found.beyond == pytest.approx(2 / 5)
    assert found.scored == 9 / 12
    assert Found.of(reference, reference, TRUTH).agrees == 1.0
    assert Found.of(reference, reference, TRUTH).beyond == 0.0


def test_lenses_are_judged_at_a_texts_end_apart() -> None:
    logits = np.array([[3, 1, 1, 0], [2, 2, 0, 0], [9, 3, 5, 0]], np.float32)
    quality = lens_quality(logits, Truth(TRUTH.positive_PN, TRUTH.last_P, np.array([1, 2])))
    assert quality["lenses"] == 2
    assert quality["auroc_text_median"] == 1.0
    assert quality["auroc_token_median"] == np.median([0.5, 1.0])


def test_the_difference_of_logits_is_in_their_own_measure_too() -> None:
    reference = np.array([[0.0, 0.0], [2.0, 20.0]], np.float32)
    found = difference(reference + np.float32(0.5), reference)
    assert (found["median"], found["largest"]) == (0.5, 0.5)
    assert found["median_of_spread"] == pytest.approx(np.median([0.5 / 1, 0.5 / 10]))


def test_a_walk_says_no_more_than_all_lenses_and_an_open_one_as_much(tmp_path: Path) -> None:
    pack = make_pack(tmp_path / "p", branching=(4, 3, 2), base_levels=(0,))
    logits = np.random.default_rng(0).normal(size=(30, len(pack.hierarchy))).astype(np.float32)
    everything, walked = say(pack, logits, None), say(pack, logits, ((0,), 2, 0.5))
    assert (everything.said_PN >= walked.said_PN).all()
    assert not walked.scored_PN.all()
    opened = say(pack, logits, ((0,), 100, 0.0))
    assert (opened.said_PN == everything.said_PN).all()


def test_cost_counts_the_bytes_of_what_is_scored(tmp_path: Path) -> None:
    mlp = make_pack(tmp_path / "mlp", branching=(4, 3), base_levels=(0,))
    compact = make_pack(tmp_path / "c", branching=(4, 3), base_levels=(0,), kind="compact")
    states = np.random.default_rng(0).normal(size=(5, 16)).astype(np.float32)
    everything = MonitorConfig(exhaustive=True)
    ways = {
        "all": (mlp, everything),
        "base": (mlp, MonitorConfig(load_threshold=1.0)),
        "compact": (compact, everything),
    }
    records, floor = cost(ways, states)
    lens_bytes, shared = bytes_of(mlp)
    assert shared == 0
    assert records["all"]["lenses"] == 16
    assert records["all"]["bytes_a_position"] == records["all"]["bytes_to_hold"] == 16 * lens_bytes
    assert records["base"]["bytes_a_position"] == 4 * lens_bytes
    assert bytes_of(compact)[1] == 6 * 16 * 4, "the projection is read whole at every position"
    assert records["compact"]["bytes_a_position"] == 16 * bytes_of(compact)[0] + 6 * 16 * 4
    assert floor["threads"]
