"""Colours mean branches, in every view alike."""

from dataclasses import replace

import numpy as np
import pytest

from lenses.concept import Hierarchy
from runtime.branches import TINT_FROM, Branches, format_probability, strongest_of
from tests.watched import BRANCHES, Watched, watch


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    return watch(tmp_path_factory.mktemp("pack") / "p", new_tokens=4)


def test_branches_have_colours_of_their_own(watched: Watched) -> None:
    branches = Branches(watched.pack.hierarchy)
    tints = {concept.id: branches.tint(concept) for concept in watched.pack.hierarchy}
    for id, tint in tints.items():
        assert tint.branch == id.split(".")[0]
    assert len({tint.colour for tint in tints.values()}) == len(BRANCHES)


def test_more_branches_than_colours_still_differ() -> None:
    many = Hierarchy.build((f"c{i}", f"branch {i}", None) for i in range(48))
    branches = Branches(many)
    assert len({branches.tint(concept).colour for concept in many}) == 48


def test_what_is_unlikely_gives_no_colour(watched: Watched) -> None:
    event = watched.events[5]
    quiet = replace(
        event, logits=np.full_like(event.logits, -50) / event.pack.heads.platt_slope[event.scored]
    )
    assert quiet.probabilities.max() < TINT_FROM
    assert strongest_of(quiet) is None
    assert strongest_of(None) is None


def test_a_lens_that_nothing_vouches_for_gives_no_colour(watched: Watched) -> None:
    event, pack = watched.events[5], watched.pack
    for id in ("artifact", "person"):  # not calibrated; calibrated, but not measured
        index = pack.hierarchy.index(id)
        assert not pack.vouched_N[index]
        logits = np.where(event.scored == index, 50, -50) / pack.heads.platt_slope[event.scored]
        loud = replace(event, logits=logits.astype(np.float32))
        assert loud.top(1)[0].id == id
        assert loud.top(1)[0].probability > TINT_FROM
        assert strongest_of(loud) is None
        second = int(event.scored[pack.vouched_N[event.scored]][0])
        heard = replace(loud, logits=np.where(event.scored == second, 40, loud.logits).astype(np.float32))
        assert heard.top(1)[0].id == id
        strongest = strongest_of(heard)
        assert strongest is not None
        assert strongest.id == pack.hierarchy.concepts[second].id


def test_a_lens_that_nothing_vouches_for_is_marked(watched: Watched) -> None:
    scores = watched.events[5].top(99)
    kinds = {(score.calibrated, score.grade == "unmeasured") for score in scores}
    assert {(True, False), (False, False), (True, True)} <= kinds
    for score in scores:
        assert score.vouched is (score.calibrated and score.grade != "unmeasured")
        assert format_probability(score).endswith("?") is not score.vouched
