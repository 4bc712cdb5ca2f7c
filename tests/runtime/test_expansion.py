"""The policy of the walk: which parents are opened, in which order, and what is cut."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lenses.calibration import sigmoid
from lenses.pack import LensPack
from runtime.expansion import Expansion
from tests.packs import make_pack


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> LensPack:
    return make_pack(tmp_path_factory.mktemp("pack"), branching=(6, 3, 2))


def expansion(pack: LensPack, top_k: int = 3, threshold: float = 0.3, max_level: int = 2) -> Expansion:
    return Expansion(pack.hierarchy, pack.heads, top_k, threshold, max_level)


def logits_for(pack: LensPack, concepts: np.ndarray, odds: list[float]) -> np.ndarray:
    """Logits whose calibrated log-odds are `odds`."""
    slope, offset = pack.heads.platt_slope[concepts], pack.heads.platt_offset[concepts]
    return ((np.array(odds, np.float32) - offset) / slope).astype(np.float32)


@given(
    odds=st.lists(st.floats(-6, 6, width=32), min_size=6, max_size=6),
    top_k=st.integers(1, 8),
    threshold=st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.9]),
)
def test_the_best_that_qualify_are_opened_and_the_rest_is_counted(
    pack: LensPack, odds: list[float], top_k: int, threshold: float
) -> None:
    top = np.arange(6, dtype=np.int32) * 0 + np.array(
        [pack.hierarchy.index(f"c{i}") for i in range(6)], np.int32
    )
    logits = logits_for(pack, top, odds)
    choice = expansion(pack, top_k, threshold).choose(top, logits)
    computed = logits * pack.heads.platt_slope[top] + pack.heads.platt_offset[top]
    near = np.abs(sigmoid(computed) - threshold) < 1e-5
    qualified = [i for i in range(6) if sigmoid(computed)[i] >= threshold and not near[i]]
    if near.any():
        return
    expected = sorted(qualified, key=lambda i: (-computed[i], f"c{i}"))
    assert choice.families == tuple(int(pack.hierarchy.opens[top[i]]) for i in expected[:top_k])
    assert choice.cut == max(0, len(qualified) - top_k)
    assert list(choice.odds) == sorted(choice.odds, reverse=True)


def test_ties_go_by_concept_id_not_by_place(pack: LensPack) -> None:
    ids = ["c5", "c0", "c3"]
    concepts = np.array([pack.hierarchy.index(i) for i in ids], np.int32)
    uncalibrated = Expansion(
        pack.hierarchy,
        type(pack.heads)(
            **{
                name: getattr(pack.heads, name)
                for name in ("bias1", "weight2", "bias2", "weight3", "bias3", "calibrated")
            },
            platt_slope=np.ones_like(pack.heads.platt_slope),
            platt_offset=np.zeros_like(pack.heads.platt_offset),
        ),
        2,
        0.3,
        2,
    )
    choice = uncalibrated.choose(concepts, np.ones(3, np.float32))
    assert choice.families == tuple(int(pack.hierarchy.opens[pack.hierarchy.index(i)]) for i in ("c0", "c3"))
    assert choice.cut == 1


def test_near_certainties_are_still_ranked(pack: LensPack) -> None:
    concepts = np.array([pack.hierarchy.index("c0"), pack.hierarchy.index("c1")], np.int32)
    choice = expansion(pack, top_k=1).choose(concepts, logits_for(pack, concepts, [30.0, 60.0]))
    assert choice.families == (int(pack.hierarchy.opens[pack.hierarchy.index("c1")]),)


def test_leaves_and_the_deepest_level_open_nothing(pack: LensPack) -> None:
    leaf = np.array([pack.hierarchy.index("c0-0-0")], np.int32)
    assert expansion(pack).choose(leaf, np.float32([50])).families == ()
    middle = np.array([pack.hierarchy.index("c0-0")], np.int32)
    certain = logits_for(pack, middle, [50.0])
    assert len(expansion(pack, max_level=2).choose(middle, certain).families) == 1
    assert expansion(pack, max_level=1).choose(middle, certain).families == ()
    nothing = expansion(pack).choose(np.empty(0, np.int32), np.empty(0, np.float32))
    assert (nothing.families, nothing.cut) == ((), 0)
