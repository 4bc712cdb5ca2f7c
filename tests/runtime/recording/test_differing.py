"""Differences that were planted are found, where they are and no others."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lenses.pack import LensPack
from runtime.monitor import Monitor
from runtime.recording.differing import Differences, TokenDifference, differing
from runtime.recording.fields import to_json
from runtime.recording.recording import Recording
from runtime.recording.seen import Seen
from tests.fed import Fed, fed
from tests.packs import make_pack
from tests.recorded import recorded


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> LensPack:
    return make_pack(tmp_path_factory.mktemp("pack"), branching=(3, 2, 2), base_levels=(0,))


def script(**changes: Any) -> Fed:
    return fed(**{"seed": 6, "sequences": 2, "prompt": 3, "steps": 5, "hidden_size": 16} | changes)


def run(pack: LensPack, told: Fed, **config: Any) -> Recording:
    with Monitor(pack, **config) as monitor:
        return recorded(monitor, told)[0]


@pytest.fixture(scope="module")
def one(pack: LensPack) -> Recording:
    return run(pack, script())


def places(found: Differences) -> list[tuple[int, int]]:
    return [(at.sequence, at.position) for at in found.positions]


def test_equal_runs_are_equal_whatever_the_tiers_did(pack: LensPack, one: Recording) -> None:
    other = run(pack, script(), prewarm=False, hot_budget_bytes=5_000, warm_budget_bytes=0)
    found = differing(one, other)
    assert found.are_equal
    assert found.compared == len(one.seen.newest())
    assert {name for name, _, _ in found.settings} == {
        "config.prewarm",
        "config.hot_budget_bytes",
        "config.warm_budget_bytes",
    }


def test_a_row_that_differs_is_found_from_there_on(pack: LensPack, one: Recording) -> None:
    told = script()
    column = told.prompt + 2
    told.rows_BTD[1, column] += 0.25
    found = differing(one, run(pack, told))
    position = int(told.mask_BT[1, : column + 1].sum()) - 1
    assert not found.tokens
    assert places(found) == [(1, position)], "the pooling of this pack looks at no other row"
    (at,) = found.positions
    assert at.what[-1] == "scores"
    distances = [moved.distance for moved in at.moved]
    both = [distance for distance in distances if distance is not None]
    assert distances[: len(both)] == both == sorted(both, reverse=True), (
        "one run alone has scored the last ones"
    )
    seen, number = one.seen, one.seen.newest()[1, position]
    known = {
        seen.concepts[concept][0]: p
        for concept, p in zip(seen.concept_S[seen.scores(number)], seen.probabilities(number), strict=True)
    }
    assert all(moved.a == known.get(moved.id) for moved in at.moved)


def test_tokens_that_part(pack: LensPack, one: Recording) -> None:
    told = script()
    told.token_BT[0, -1] = 63
    found = differing(one, run(pack, told))
    last = len(one.sequences[0].tokens) - 1
    assert found.tokens == (TokenDifference(0, last, one.sequences[0].tokens[last], 63),)
    assert [at.what for at in found.positions] == [("next_token",)]


def test_a_run_that_is_longer_or_has_more_sequences(pack: LensPack, one: Recording) -> None:
    tokens = script().token_BT
    shorter = script(steps=3)
    shorter.rows_BTD, shorter.mask_BT = script().rows_BTD[:, :6], script().mask_BT[:, :6]
    shorter.token_BT = tokens[:, :7]
    found = differing(one, run(pack, shorter))
    assert [difference.b for difference in found.tokens] == [None, None]
    assert {at.what for at in found.positions} == {("missing in b",)}
    alone = differing(run(pack, script(sequences=1)), one)
    assert {at.what for at in alone.positions if at.sequence == 1} == {("missing in a",)}
    assert alone.tokens[-1].a is None


def test_of_two_revisions_the_later_counts(one: Recording) -> None:
    seen = one.seen
    tensors = seen.tensors()
    first = {name: array[:1] for name, array in seen.events.items()}
    doubled = {name: np.concatenate([first[name], array]) for name, array in seen.events.items()}
    assert len(tensors["score.begin"]) == len(seen) + 1
    begin = tensors["score.begin"] + 0
    shifted = np.concatenate([[0], begin])  # the earlier revision has no scores
    revised = replace(
        seen,
        events=doubled,
        lens_ms_E=_again(seen.lens_ms_E),
        at_ms_E=_again(seen.at_ms_E),
        begin_E=shifted,
        has_asked_E=_again(seen.has_asked_E),
        asked_EA=_again(seen.asked_EA),
    )
    assert isinstance(revised, Seen)
    assert differing(one, replace(one, seen=revised)).are_equal


def _again(array: Any) -> Any:
    return np.concatenate([array[:1], array])


def test_other_settings_and_rules_are_told(pack: LensPack, one: Recording) -> None:
    found = differing(one, run(pack, script(), exhaustive=True))
    assert ("config.exhaustive", "False", "True") in found.settings
    assert all("coverage" in at.what for at in found.positions)
    assert all(moved.a is None for at in found.positions for moved in at.moved)
    asked = differing(one, run(pack, script(), always=(pack.hierarchy.concepts[0].id,)))
    assert {at.what for at in asked.positions} == {("asked",)}
    json.dumps(to_json(found), allow_nan=False)
