"""What two runs may differ in, and what they may not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ledgers.agreement import (
    HOST_LOGIT,
    Agreement,
    Seen,
    agree_exactly,
    agree_nearly,
    is_near_a_cut,
    largest_difference,
)
from profiling.runs import Differs, Run

from lenses.pack import LensPack
from runtime.config import MonitorConfig
from runtime.events import Coverage, Event
from runtime.events import Run as EventRun
from tests.packs import make_pack

CONFIG = MonitorConfig(top_k=1, load_threshold=0.5)
PROMPT = 3


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> LensPack:
    return make_pack(tmp_path_factory.mktemp("pack"), branching=(3, 2), base_levels=(0,))


def event(pack: LensPack, position: int, odds: tuple[float, float, float], opened: int) -> Event:
    """Of the three concepts at the top, whose probabilities have these log-odds, and the children of one."""
    heads, hierarchy = pack.heads, pack.hierarchy
    top = np.flatnonzero(hierarchy.levels == 0).astype(np.int32)
    family = hierarchy.families[int(hierarchy.opens[top[opened]])]
    children = np.arange(family.first, family.first + family.rows, dtype=np.int32)
    logits = (np.array(odds) - heads.platt_offset[top]) / heads.platt_slope[top]
    scored = np.concatenate([top, children])
    order = np.argsort(scored)
    return Event(
        sequence=0,
        position=position,
        phase="prompt" if position < PROMPT else "generation",
        token=position,
        next_token=position + 1,
        state="ok",
        scored=scored[order],
        logits=np.concatenate([logits, np.zeros(len(children))]).astype(np.float32)[order],
        coverage=Coverage(len(scored), len(scored), 0, 0, 0),
        failed=(),
        run=EventRun(0, 0, 0, 0.0),
        pack=pack,
    )


def seen(pack: LensPack, odds: tuple[float, float, float] = (2.0, 1.0, -3.0), opened: int = 0) -> Seen:
    """A run of two tokens, all of its positions alike."""
    run = Run((7, 8), np.ones(2), 0.0, contents="same", events=PROMPT + 1)
    return Seen(run, tuple(event(pack, position, odds, opened) for position in range(PROMPT + 1)))


def nearly(a: Seen, b: Seen, gap: float = np.inf) -> Agreement:
    return agree_nearly("it", a, b, config=CONFIG, tolerance=HOST_LOGIT, gap=lambda at: gap)


def off_by(run: Seen, amount: float) -> Seen:
    changed = replace(run.events[1], logits=run.events[1].logits + np.float32(amount))
    return replace(run, events=(run.events[0], changed, *run.events[2:]))


def test_runs_that_are_the_same_agree_either_way(pack: LensPack) -> None:
    assert agree_exactly("it", seen(pack), seen(pack)) == nearly(seen(pack), seen(pack)) == Agreement()
    other = replace(seen(pack), run=replace(seen(pack).run, contents="other"))
    with pytest.raises(Differs, match="not with the contents"):
        agree_exactly("it", other, seen(pack))


def test_a_logit_may_be_off_by_what_is_tolerated_and_no_more(pack: LensPack) -> None:
    reference = seen(pack)
    largest = max(1.0, float(np.abs(reference.events[1].logits).max()))
    found = nearly(off_by(reference, 0.5e-4), reference)
    assert found.largest_difference == pytest.approx(0.5e-4, rel=0.01)
    assert largest_difference(off_by(reference, 2.0).events, reference.events) == pytest.approx(2.0)
    with pytest.raises(Differs, match="a logit is off"):
        nearly(off_by(reference, 2e-4 * largest), reference)


def test_other_families_may_be_open_only_next_to_a_cut(pack: LensPack) -> None:
    clear, tied, at_threshold = (2.0, 1.0, -3.0), (1.0, 1.0, -3.0), (2.0, 1e-5, -3.0)
    assert not is_near_a_cut(event(pack, 0, clear, 0), CONFIG)
    for odds in (tied, at_threshold):
        assert is_near_a_cut(event(pack, 0, odds, 0), CONFIG)
        assert nearly(seen(pack, odds, 1), seen(pack, odds, 0)).near_cuts == PROMPT + 1
    with pytest.raises(Differs, match="no probability is next to"):
        nearly(seen(pack, clear, 1), seen(pack, clear, 0))


def test_texts_may_part_only_at_a_tie_and_what_follows_is_not_compared(pack: LensPack) -> None:
    reference = seen(pack)
    for at, tokens in ((0, (6, 9)), (1, (7, 9))):
        other = replace(reference, run=replace(reference.run, token_ids=tokens))
        found = agree_nearly(
            "it", other, reference, config=CONFIG, tolerance=HOST_LOGIT, gap={at: 1e-4}.__getitem__
        )
        assert found.near_ties == 1
        with pytest.raises(Differs, match=f"token {at} is"):
            nearly(other, reference, gap=0.1)
    parted = replace(reference, run=replace(reference.run, token_ids=(6, 9)))
    after = replace(parted.events[PROMPT], token=50)
    assert nearly(replace(parted, events=(*parted.events[:PROMPT], after)), reference, gap=0.0).near_ties == 1
    before = replace(parted.events[0], token=50)
    with pytest.raises(Differs, match="is not the reference's position 0"):
        nearly(replace(parted, events=(before, *parted.events[1:])), reference, gap=0.0)


def test_an_event_that_is_missing_is_a_difference(pack: LensPack, tmp_path: Path) -> None:
    with pytest.raises(Differs, match="3 events, the reference has 4"):
        nearly(replace(seen(pack), events=seen(pack).events[:-1]), seen(pack))
