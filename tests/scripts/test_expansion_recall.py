"""The walk on logits of everything, against the engine itself; recall by hand."""

from pathlib import Path

import numpy as np
import pytest
from expansion_recall import Recall, Walked, active, recall, walk

from lenses.bank import Bank
from runtime.config import MonitorConfig
from runtime.engine import Engine
from runtime.expansion import Expansion
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
