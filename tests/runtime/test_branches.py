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


def test_a_lens_that_is_not_calibrated_is_marked(watched: Watched) -> None:
    scores = watched.events[5].top(99)
    assert {score.calibrated for score in scores} == {True, False}
    for score in scores:
        assert format_probability(score).endswith("?") is not score.calibrated
