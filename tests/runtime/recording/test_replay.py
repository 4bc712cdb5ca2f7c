"""Events out of a recording: as they were, and of the same rows scored again as a live run would."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lenses.errors import PackMismatch, RecordingError
from lenses.pack import LensPack
from runtime.events import Event, newest
from runtime.monitor import Monitor
from runtime.recording.calls import Fed
from runtime.recording.recorder import Collected
from runtime.recording.recording import Recording
from runtime.recording.replay import Replay, config_for, rerecorded, rescored
from runtime.rules import Rule
from tests.fed import Fed as Script
from tests.fed import fed
from tests.packs import make_pack
from tests.recorded import play_live, recorded
from tests.slow_reads import gated


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> list[LensPack]:
    """Two packs for the same rows, of other concepts, lenses and poolings."""
    where = tmp_path_factory.mktemp("packs")
    return [
        make_pack(where / "one", branching=(3, 3, 2), base_levels=(0,), pooling="ema:0.6"),
        make_pack(where / "other", branching=(2, 2, 2, 2), base_levels=(0, 1), kind="linear", seed=5),
    ]


def contents(events: list[Event]) -> list[tuple[object, ...]]:
    return [event.content() for event in events]


def reread(recording: Recording, directory: Path) -> Recording:
    recording.save(directory / "run")
    return Recording.load(directory / "run")


def score_again(recording: Recording, pack: LensPack, **changes: Any) -> list[Event]:
    with Monitor(pack, config_for(recording, pack, **changes)) as monitor:
        return list(rescored(recording, monitor))


scripts = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32),
        "sequences": st.integers(1, 3),
        "prompt": st.integers(1, 4),
        "steps": st.integers(0, 7),
        "ends": st.sampled_from([(), (1,), (3, 0)]),
        "not_finite": st.integers(0, 2),
        "finish": st.sampled_from([{}, {1: 0}, {2: 0}]),
    }
)
configs = st.fixed_dictionaries(
    {
        "prompt_events": st.sampled_from(["full", "base", "off"]),
        "exhaustive": st.booleans(),
        "read_every": st.integers(1, 3),
    }
)


def script(told: dict[str, Any]) -> Script:
    sequences = told["sequences"]
    return fed(**{**told, "hidden_size": 16, "ends": told["ends"][:sequences]})


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    told=scripts, config=configs, action=st.sampled_from(["mark", "stop", None]), bound=st.floats(0.1, 0.9)
)
def test_events_are_those_recorded_and_rows_give_them_again(
    packs: list[LensPack],
    tmp_path: Path,
    told: dict[str, Any],
    config: dict[str, Any],
    action: Any,
    bound: float,
) -> None:
    calibrated = packs[0].hierarchy.concepts[int(packs[0].heads.calibrated.argmax())].id
    rules = (Rule(calibrated, ">", bound, 2, action),) if action else ()
    with Monitor(packs[0], rules=rules, **config) as monitor:
        recording, events = recorded(monitor, script(told))
    recording = reread(recording, tmp_path)

    replay = Replay(recording, packs[0])
    shown = list(replay.events())
    assert contents(shown) == contents(events)
    assert [event.run for event in shown] == [event.run for event in events]
    assert replay.stats() == monitor.stats()

    assert contents(score_again(recording, packs[0])) == contents(events)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(told=scripts, config=configs)
def test_another_pack_says_what_it_says_live(
    packs: list[LensPack], tmp_path: Path, told: dict[str, Any], config: dict[str, Any]
) -> None:
    with Monitor(packs[0], **config) as monitor:
        recording, _ = recorded(monitor, script(told))
    found = score_again(reread(recording, tmp_path), packs[1])
    assert contents(found) == contents(play_live(packs[1], script(told), **config))
    if script(told).steps:
        exhaustive = score_again(recording, packs[0], exhaustive=not config["exhaustive"])
        live = play_live(packs[0], script(told), **config | {"exhaustive": not config["exhaustive"]})
        assert contents(exhaustive) == contents(live)


def test_a_sequence_that_a_rule_has_ended_ends_there_for_other_lenses_too(
    packs: list[LensPack], tmp_path: Path
) -> None:
    calibrated = packs[0].hierarchy.concepts[int(packs[0].heads.calibrated.argmax())].id
    told = fed(seed=1, sequences=2, prompt=2, steps=6, hidden_size=16)
    with Monitor(packs[0], rules=(Rule(calibrated, ">", 0.0, 4, "stop"),)) as monitor:
        recording, events = recorded(monitor, told)
    over = [(event.sequence, event.position) for event in events if event.state == "after_end"]
    assert over
    again = score_again(reread(recording, tmp_path), packs[1])
    assert [(e.sequence, e.position) for e in again if e.state == "after_end"] == over
    assert [e.next_token for e in again] == [e.next_token for e in events]
    assert not any(event.met for event in again), "rules are of the concepts of one pack"


def test_events_that_came_late_are_all_there_and_the_newest_counts(
    packs: list[LensPack], tmp_path: Path
) -> None:
    told = fed(seed=2, sequences=2, prompt=3, steps=6, hidden_size=16)
    with gated(packs[0]) as gate, Monitor(packs[0], missing="deferred", prewarm=False) as monitor:
        # Nothing is read before the last step.
        recording, events = recorded(monitor, told, lambda step: gate.set_open(step == told.steps))
    assert any(event.run.revision for event in events)
    recording = reread(recording, tmp_path)
    shown = list(Replay(recording, packs[0]).events())
    assert contents(shown) == contents(events)
    assert [event.run.revision for event in shown] == [event.run.revision for event in events]
    strict = {(e.sequence, e.position): e.content() for e in play_live(packs[0], told)}
    assert {(e.sequence, e.position): e.content() for e in newest(shown)} == strict
    again = newest(score_again(recording, packs[0]))
    assert {(e.sequence, e.position): e.content() for e in again} == strict


def test_a_row_that_differs_says_something_else(packs: list[LensPack]) -> None:
    with Monitor(packs[0]) as monitor:
        recording, events = recorded(monitor, fed(seed=4, sequences=1, prompt=3, steps=4, hidden_size=16))
    fed_last = recording.calls[-2]
    assert isinstance(fed_last, Fed)
    assert fed_last.rows_RD is not None
    fed_last.rows_RD[0, 0] += 1e-3
    found = score_again(recording, packs[0])
    assert contents(found)[:-1] == contents(events)[:-1]
    assert not found[-1].same_content(events[-1])


def test_what_was_scored_again_is_a_recording_too(packs: list[LensPack], tmp_path: Path) -> None:
    with Monitor(packs[0]) as monitor:
        recording, _ = recorded(monitor, fed(seed=4, sequences=1, prompt=3, steps=4, hidden_size=16))
    collected = Collected()
    with Monitor(packs[1], config_for(recording, packs[1])) as monitor:
        monitor.subscribe(collected)
        events = list(rescored(recording, monitor))
        again = reread(rerecorded(recording, monitor, collected), tmp_path)
    assert again.about.pack.name == "other"
    assert contents(list(Replay(again, packs[1]).events())) == contents(events)
    with pytest.raises(RecordingError, match="scored by the pack other of identity"):
        Replay(again, packs[0])


def test_a_run_that_was_left_in_its_midst_is_told_to_its_last_row(packs: list[LensPack]) -> None:
    told = fed(seed=4, sequences=1, prompt=3, steps=4, hidden_size=16)
    with Monitor(packs[0]) as monitor:
        recording, events = recorded(monitor, told)
    open_ended = replace(recording, calls=recording.calls[:-2])
    found = score_again(open_ended, packs[0])
    assert contents(found)[:-1] == contents(events)[:-2]
    assert (found[-1].position, found[-1].next_token) == (events[-2].position, None)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"hidden_size": 24}, "hidden size 24"),
        ({"site": "resid_post.1"}, "site resid_post.1"),
        ({"host": "x"}, "host x"),
    ],
)
def test_a_pack_that_does_not_fit_is_refused(
    packs: list[LensPack], tmp_path: Path, changes: dict[str, Any], what: str
) -> None:
    with Monitor(packs[0]) as monitor:
        recording, _ = recorded(monitor, fed(seed=4, sequences=1, prompt=3, steps=1, hidden_size=16))
    misfit = make_pack(tmp_path / "misfit", branching=(2,), **changes)
    with pytest.raises(
        PackMismatch, match=f"the pack misfit is for {what}, the rows of the recording are of"
    ):
        score_again(recording, misfit)
