"""What the strongest concept is worth, by hand."""

from pathlib import Path

import numpy as np
import pytest
from judging.strongest import PROBABILITIES, strongest

from lenses.calibration import log_odds, sigmoid
from tests.packs import make_pack


def test_the_strongest_is_held_against_the_text_and_its_branch(tmp_path: Path) -> None:
    pack = make_pack(tmp_path / "pack", branching=(2, 2))
    hierarchy, heads = pack.hierarchy, pack.heads
    able = np.flatnonzero(pack.vouched_N & (hierarchy.levels == 1) & (heads.platt_slope > 0))[0]
    sibling = next(
        n for n in range(len(hierarchy)) if hierarchy.parents[n] == hierarchy.parents[able] and n != able
    )
    logits = np.zeros((3, len(hierarchy)), np.float32)
    # Raised until its probability is above every threshold that is asked for.
    logits[:2, able] = (20 - heads.platt_offset[able]) / heads.platt_slope[able]
    quiet = np.where(heads.platt_slope > 0, (-20 - heads.platt_offset) / heads.platt_slope, 0)
    logits = np.where(logits == 0, quiet, logits).astype(np.float32)
    scored = np.ones(logits.shape, np.bool_)
    positive = np.zeros(logits.shape, np.bool_)
    positive[0, [able, hierarchy.parents[able]]] = True
    positive[1, [sibling, hierarchy.parents[able]]] = True
    assert sigmoid(log_odds(logits, heads.platt_slope, heads.platt_offset))[0, able] > 0.98
    for row in strongest(pack, logits, scored, positive):
        assert row["said"] == pytest.approx(2 / 3)
        assert row["concept_true"] == pytest.approx(1 / 2)
        assert row["branch_true"] == 1.0
    scored[0, able] = False
    rows = list(strongest(pack, logits, scored, positive))
    assert len(rows) == len(PROBABILITIES)
    assert rows[-1]["said"] == pytest.approx(1 / 3)
    assert rows[-1]["concept_true"] == 0.0
