"""The walk on logits of everything, against the engine itself; recall by hand."""

from pathlib import Path

import numpy as np
import pytest

from lenses.bank import Bank
from lenses.concept import Hierarchy
from lenses.lens import Floats
from lenses.pack import LensPack
from runtime.config import MonitorConfig
from runtime.engine import Engine
from runtime.expansion import Expansion
from runtime.training.walks import (
    Point,
    Recall,
    Walked,
    active,
    best_within,
    cheapest_with,
    curve,
    omniscient_recall,
    recall,
    walk,
)
from tests.packs import make_pack


@pytest.mark.parametrize(("top_k", "threshold", "base"), [(2, 0.4, (0, 1)), (1, 0.0, (0,)), (10, 0.7, (0,))])
def test_the_walk_is_the_engines(tmp_path: Path, top_k: int, threshold: float, base: tuple[int, ...]) -> None:
    pack = make_pack(tmp_path / "pack", branching=(3, 3, 2, 2))
    states = np.random.default_rng(0).normal(size=(25, 16)).astype(np.float32)
    config = MonitorConfig(base_levels=base, top_k=top_k, load_threshold=threshold)
    with Engine(pack, config) as engine:
        served = Walked.of_engine(engine.score(states, "prompt"), engine.base_count, len(pack.hierarchy))
    bank = Bank(pack, range(len(pack.hierarchy.families)))
    logits = bank.score_base(states)
    bank.close()

    def walked(load_threshold: float) -> Walked:
        policy = Expansion(pack.hierarchy, pack.heads, top_k, load_threshold, pack.hierarchy.depth - 1)
        return walk(policy, base, logits)

    assert walked(threshold).differing(served) == 0
    assert (walked(threshold).opened_P == served.opened_P).all()
    assert walked(0.9).differing(served) > 0


def test_only_what_lies_beyond_the_base_is_wanted(tmp_path: Path) -> None:
    pack = make_pack(tmp_path / "pack", branching=(2, 2))
    logits = np.full((1, len(pack.hierarchy)), 100.0, np.float32)
    assert active(pack.hierarchy, pack.heads, (0,), logits).sum() == (pack.hierarchy.levels == 1).sum()
    assert not active(pack.hierarchy, pack.heads, (0, 1), logits).any()


def test_recall_counts_pairs_of_position_and_concept() -> None:
    wanted = np.array([[True, True, False], [True, False, False], [False, False, False]])
    scored = np.array([[True, False, True], [True, True, True], [True, True, True]])
    found = recall(wanted, scored, np.array([4, 4, 9]), np.random.default_rng(0))
    assert (found.wanted, found.found) == (3, 2)
    assert found.estimate is not None
    assert found.estimate.value == pytest.approx(2 / 3)
    assert recall(wanted[2:], scored[2:], np.array([0]), np.random.default_rng(0)) == Recall(0, 0, None)


def scored_everywhere(pack: LensPack, positions: int) -> Floats:
    states = np.random.default_rng(1).normal(size=(positions, 16)).astype(np.float32)
    bank = Bank(pack, range(len(pack.hierarchy.families)))
    logits = bank.score_base(states)
    bank.close()
    return logits


def test_the_curve_rises_to_everything(tmp_path: Path) -> None:
    pack = make_pack(tmp_path / "pack", branching=(3, 3, 2, 2))
    logits = scored_everywhere(pack, 20)
    points = list(curve(pack.hierarchy, pack.heads, logits, [(0,)], (1, 1000), (0.0, 0.6)))
    narrow, narrow_sure, wide, wide_sure = points
    assert (wide.recall, wide.share_scored) == (1.0, 1.0)
    assert wide.families_opened == len(pack.hierarchy.families) - 1
    assert narrow_sure.recall <= narrow.recall < wide.recall
    assert wide_sure.share_scored < wide.share_scored


def test_the_best_point_is_the_one_that_finds_most_for_the_money() -> None:
    cheap, good, dear = (Point((0,), 1, 0.5, r, s, 1.0) for r, s in [(0.2, 0.1), (0.6, 0.2), (0.9, 0.4)])
    points = [cheap, dear, good]
    assert best_within(0.25, points) == good
    assert best_within(0.4, points) == dear
    assert best_within(0.01, [dear, good]) == good
    assert cheapest_with(0.5, points) == good
    assert cheapest_with(0.1, points) == cheap
    assert cheapest_with(0.95, points) == dear


def test_no_walk_finds_more_than_the_omniscient(tmp_path: Path) -> None:
    pack = make_pack(tmp_path / "pack", branching=(3, 3, 2, 2))
    logits = scored_everywhere(pack, 20)
    for base in ((0,), (0, 1)):
        wanted = active(pack.hierarchy, pack.heads, base, logits)
        points = list(curve(pack.hierarchy, pack.heads, logits, [base], (1, 2, 5), (0.0, 0.3, 0.6)))
        bounds = [omniscient_recall(pack.hierarchy, base, wanted, point.share_scored) for point in points]
        assert all(point.recall <= bound + 1e-9 for point, bound in zip(points, bounds, strict=True))
        assert any(0 < point.recall < bound for point, bound in zip(points, bounds, strict=True))
        assert omniscient_recall(pack.hierarchy, base, wanted, 1.0) == 1.0
        assert omniscient_recall(pack.hierarchy, base, wanted, 0.01) == 0.0


def test_the_omniscient_takes_the_densest_families_by_hand() -> None:
    hierarchy = Hierarchy.build(
        [("a", "a", None), ("b", "b", None), ("a1", "a1", "a"), ("b1", "b1", "b"), ("b2", "b2", "b")]
    )
    wanted = np.zeros((1, 5), np.bool_)
    wanted[0, [hierarchy.index("a1"), hierarchy.index("b1")]] = True
    # The base takes 2 of 5; the next lens goes to a's only child, half of b's two hold one.
    assert omniscient_recall(hierarchy, (0,), wanted, 3 / 5) == pytest.approx(0.5)
    assert omniscient_recall(hierarchy, (0,), wanted, 4 / 5) == pytest.approx(0.75)
