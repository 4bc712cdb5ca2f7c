"""Events that come later say the same: `deferred` families, and tokens that are read several at a time."""

import gc
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lenses.pack import LensPack
from runtime.events import Event, newest
from runtime.hook import Forward
from runtime.monitor import Monitor
from tests import hosts
from tests.fed import Fed, fed, play
from tests.packs import make_pack
from tests.slow_reads import Gate, gated

HIDDEN = 16


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> list[LensPack]:
    where = tmp_path_factory.mktemp("packs")
    return [
        make_pack(where / "wide", branching=(4, 3, 3, 2), base_levels=(0,), pooling="ema:0.6", seed=1),
        make_pack(where / "deep", branching=(2, 2, 2, 2, 2), base_levels=(0, 1), kind="linear", seed=2),
        make_pack(where / "ragged", nodes=ragged_nodes(), base_levels=(0,), pooling="mean", seed=3),
    ]


def ragged_nodes() -> list[tuple[str, str, str | None]]:
    """Families of one to five lenses, at three depths."""
    nodes: list[tuple[str, str, str | None]] = [(f"t{i}", f"t{i}", None) for i in range(4)]
    for i in range(4):
        nodes += [(f"t{i}-{j}", f"t{i}-{j}", f"t{i}") for j in range(i + 1)]
        nodes += [(f"t{i}-0-{j}", f"t{i}-0-{j}", f"t{i}-0") for j in range(5 - i)]
    return nodes


def least_budget(pack: LensPack) -> int:
    base = pack.hierarchy.base_families(pack.config.base_levels)
    sizes = [pack.family_bytes(f.index) for f in pack.hierarchy.families]
    return sum(sizes[f] for f in base) + max(s for f, s in enumerate(sizes) if f not in base)


def told(seed: int = 0, **changes: Any) -> Fed:
    return fed(**({"seed": seed, "sequences": 2, "prompt": 4, "steps": 9, "hidden_size": HIDDEN} | changes))


def contents(events: list[Event]) -> dict[tuple[int, int], tuple[object, ...]]:
    return {(event.sequence, event.position): event.content() for event in newest(events)}


def strict(pack: LensPack, script: Fed, damaged: frozenset[int] = frozenset(), **config: Any) -> "Run":
    """The same generation, watched without anything that comes late."""
    with gated(pack) as gate, Monitor(pack, **config) as monitor:
        gate.damaged = damaged
        gate.set_open(True)
        return Run(play(monitor, script), monitor)


@dataclass
class Run:
    events: list[Event]
    monitor: Monitor


@settings(
    max_examples=70,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_pure_what_comes_late_says_what_strict_says(packs: list[LensPack], data: st.DataObject) -> None:
    draw = data.draw
    pack = draw(st.sampled_from(packs))
    script = told(
        draw(st.integers(0, 1000)),
        sequences=draw(st.integers(1, 3)),
        prompt=draw(st.integers(1, 4)),
        steps=draw(st.integers(0, 9)),
        ends=tuple(draw(st.lists(st.integers(0, 9), max_size=1))),
        not_finite=draw(st.sampled_from([0, 0, 3])),
        finish=draw(st.sampled_from([{}, {}, {3: 0}])),
    )
    rest = [f.index for f in pack.hierarchy.families if f.level not in pack.config.base_levels]
    damaged = frozenset(draw(st.sampled_from([[], [], rest[1:3], rest[::2]])))
    walk = {
        "top_k": draw(st.sampled_from([1, 2, 4])),
        "load_threshold": draw(st.sampled_from([0.0, 0.3, 0.6])),
        "exhaustive": draw(st.sampled_from([False, False, True])),
        "prompt_events": draw(st.sampled_from(["full", "full", "base", "off"])),
    }
    late = {
        "missing": draw(st.sampled_from(["deferred", "deferred", "deferred", "strict"])),
        "read_every": draw(st.sampled_from([1, 1, 2, 3, 7])),
        "prewarm": draw(st.booleans()),
        "kept_budget_bytes": draw(st.sampled_from([0, 700, 3000, 1 << 20])),
        "hot_budget_bytes": least_budget(pack) + draw(st.sampled_from([0, 300, 1 << 20])),
        "warm_budget_bytes": draw(st.sampled_from([0, 300, 1 << 20])),
    }
    reads = draw(st.lists(st.integers(0, 4), min_size=12, max_size=12))
    # With room for everything, exhaustive scoring has no families to fetch, late or in time.
    too_few = sum(pack.family_bytes(family.index) for family in pack.hierarchy.families) - 1
    late["hot_budget_bytes"] = min(late["hot_budget_bytes"], too_few)
    expected = strict(pack, script, damaged, **walk, prewarm=late["prewarm"], hot_budget_bytes=too_few)
    with gated(pack) as gate, Monitor(pack, **walk, **late) as monitor:
        gate.damaged = damaged
        gate.watch(monitor)

        def before_step(step: int) -> None:
            # Pre-warming waits for its reads: what is not let through then is what had no room.
            gate.set_open(step == 0 and late["prewarm"])
            gate.let(reads[step])

        events = play(monitor, script, before_step)
        gate.set_open(True)
        stats = monitor.stats()

    assert contents(events) == contents(expected.events)
    assert [e.content() for e in monitor.events] == [
        contents(events)[e.sequence, e.position] for e in monitor.events
    ]
    holds_for_any_run(events, monitor, late["kept_budget_bytes"])
    if walk["prompt_events"] == "full":
        own, others = stats.cache, expected.monitor.stats().cache
        for mine, theirs in ((own.prompt, others.prompt), (own.generation, others.generation)):
            assert (mine.requests, mine.failed) == (theirs.requests, theirs.failed)
        found = [e.run.hot + e.run.warm + e.run.cold for e in newest(events)]
        assert sum(found) == sum(p.requests - p.failed for p in (own.prompt, own.generation))


def holds_for_any_run(events: list[Event], monitor: Monitor, kept_budget: int) -> None:
    stats = monitor.stats()
    assert stats.pending == 0
    assert not monitor._kept.awaited
    assert stats.kept_peak_bytes <= kept_budget
    assert stats.emitted == len(events)
    first = [e for e in events if not e.run.revision]
    again = [e for e in events if e.run.revision]
    assert len({(e.sequence, e.position) for e in first}) == len(first)
    waiting = {(e.sequence, e.position) for e in first if e.coverage.pending}
    assert Counter((e.sequence, e.position) for e in again) == Counter(waiting)
    assert not any(e.coverage.pending for e in again)
    assert len(waiting) <= stats.deferred
    for sequence in {e.sequence for e in again}:
        positions = [e.position for e in again if e.sequence == sequence]
        assert positions == sorted(positions)
    for phase in (stats.cache.prompt, stats.cache.generation):
        assert phase.requests == phase.hot_hits + phase.warm_hits + phase.cold_misses + phase.failed
    assert stats.cache.in_flight_bytes == 0
    assert stats.cache.hot_peak_bytes <= stats.cache.hot_budget_bytes
    assert stats.cache.warm_peak_bytes <= stats.cache.warm_budget_bytes


# Deferred.


@pytest.fixture
def deferred(packs: list[LensPack]) -> Iterator[tuple[Monitor, Gate]]:
    """A monitor that waits for nothing, on a pack of which no read comes until it is let through."""
    with (
        gated(packs[0]) as gate,
        Monitor(packs[0], missing="deferred", prewarm=False, load_threshold=0.0, top_k=2) as monitor,
    ):
        gate.watch(monitor)
        yield monitor, gate
        gate.set_open(True)


def test_a_position_that_lacks_families_says_so_at_once_and_has_its_second_event_when_they_came(
    packs: list[LensPack], deferred: tuple[Monitor, Gate]
) -> None:
    monitor, gate = deferred
    script = told(sequences=1, steps=3)
    seen: list[list[tuple[int, int, bool]]] = []
    emitted: list[Event] = []
    monitor.subscribe(emitted.append)

    def before_step(step: int) -> None:
        seen.append([(e.position, e.run.revision, e.coverage.pending > 0) for e in emitted])

    events = play(monitor, script, before_step)
    gate.set_open(True)
    length = int(script.mask_BT[0].sum())
    prompt = length - 3
    # The host was never waited for: before each step there are the events of all rows but the last, none complete.
    assert seen == [[], *([(p, 0, True) for p in range(prompt + step - 2)] for step in (1, 2, 3))]
    assert contents(events) == contents(strict(packs[0], script, load_threshold=0.0, top_k=2).events)
    stats = monitor.stats()
    assert (stats.deferred, stats.blocked, stats.pending) == (length, 0, 0)
    assert stats.kept_peak_bytes > 0
    # The last row was complete before its event was due: it has one.
    assert [e.run.revision for e in events] == [0] * (length - 1) + [1] * (length - 1) + [0]
    base = monitor.engine.base_count
    for event in events:
        assert event.coverage.expected == event.coverage.scored + event.coverage.pending
        assert len(event.scored) == event.coverage.scored
        if event.coverage.pending:
            assert (event.coverage.scored, event.coverage.pending) == (base, 2 * 3)
            assert (event.run.hot, event.run.warm, event.run.cold) == (0, 0, 2)


def test_a_deferred_walk_goes_on_at_the_next_step_with_what_has_come(deferred: tuple[Monitor, Gate]) -> None:
    monitor, gate = deferred
    late: list[int] = []
    monitor.subscribe(lambda event: late.append(event.position) if event.run.revision else None)
    asked: list[int] = []

    def before_step(step: int) -> None:
        asked.append(monitor.stats().cache.prompt.requests)
        assert late == []
        if step:
            gate.set_open(True)
            gate.come(monitor)
            gate.set_open(False)

    play(monitor, told(sequences=1, prompt=1, steps=3), before_step)
    # A level a step: of the first, two families are open before step 1, of each below, two more.
    assert asked == [0, 2, 4, 6]
    assert late[0] == 0


def test_a_request_that_did_not_wait_is_one_cold_miss_and_its_end_is_no_second_one(
    deferred: tuple[Monitor, Gate],
) -> None:
    monitor, _ = deferred
    play(monitor, told(sequences=1, prompt=1, steps=0))
    phase = monitor.stats().cache.prompt
    (event,) = newest(monitor.events)
    opened = event.run.cold
    assert (phase.requests, phase.cold_misses, phase.hot_hits, phase.failed) == (opened, opened, 0, 0)
    assert opened > 2, "more than one level"
    assert monitor.stats().cache.reads == opened
    assert monitor.stats().cache.prefetched == 0


def test_a_family_that_fails_late_is_named_and_counted_as_failed(packs: list[LensPack]) -> None:
    pack = packs[0]
    rest = [f.index for f in pack.hierarchy.families if f.level == 1]
    with (
        gated(pack) as gate,
        Monitor(pack, missing="deferred", prewarm=False, load_threshold=0.0, top_k=9) as monitor,
    ):
        gate.damaged = frozenset(rest[:1])
        gate.watch(monitor)
        events = play(monitor, told(sequences=1, prompt=2, steps=2))
        stats = monitor.stats().cache
    named = pack.hierarchy.concepts[pack.hierarchy.families[rest[0]].parent or 0].id
    assert all(event.failed == (named,) and event.coverage.failed == 3 for event in newest(events))
    assert stats.prompt.failed + stats.generation.failed == len(newest(events))
    assert any(event.coverage.pending and not event.failed for event in events)
    assert list(monitor.engine.cache.quarantined) == rest[:1]


@pytest.mark.parametrize(("budget", "blocks"), [(0, "always"), (400, "often"), (1 << 20, "never")])
def test_beyond_the_kept_budget_the_oldest_is_waited_for_and_counted(
    packs: list[LensPack], budget: int, blocks: str
) -> None:
    script = told(sequences=1, prompt=1, steps=8)
    config: dict[str, Any] = {"prewarm": False, "load_threshold": 0.0, "top_k": 2}
    with (
        gated(packs[0]) as gate,
        Monitor(packs[0], missing="deferred", kept_budget_bytes=budget, **config) as monitor,
    ):
        gate.watch(monitor)
        pending: list[int] = []
        events = play(monitor, script, lambda step: pending.append(monitor.stats().pending))
        stats = monitor.stats()
    assert contents(events) == contents(strict(packs[0], script, **config).events)
    assert stats.deferred > 0
    if blocks == "always":
        assert stats.blocked == stats.deferred
        assert set(pending) == {0}
        assert not any(event.run.revision for event in events)
        assert stats.kept_peak_bytes == 0
    elif blocks == "often":
        assert 0 < stats.blocked < stats.deferred
        assert 0 < stats.kept_peak_bytes <= budget
        assert 0 < max(pending) < 8
    else:
        assert stats.blocked == 0
        assert pending == list(range(9))


def test_with_prewarming_the_prompt_waits_for_its_read_ahead_and_only_for_that(packs: list[LensPack]) -> None:
    config: dict[str, Any] = {"missing": "deferred", "load_threshold": 0.0, "top_k": 2}
    script = told(sequences=1, steps=2)
    with gated(packs[0]) as gate, Monitor(packs[0], **config) as roomy:
        gate.set_open(True)
        events = play(roomy, script)
        prompt = [event for event in events if event.phase == "prompt"]
        assert not any(event.coverage.pending or event.run.revision for event in prompt)
        assert roomy.stats().cache.prefetched > 0
    tight = {"hot_budget_bytes": least_budget(packs[0]), "warm_budget_bytes": 0}
    with gated(packs[0]) as gate, Monitor(packs[0], **config, **tight) as narrow:
        gate.set_open(True)
        late = play(narrow, script)
    assert narrow.stats().deferred > 0, "what had no room beside the read-ahead"
    assert contents(late) == contents(events)


def test_an_error_that_is_no_damage_is_raised_by_a_later_step(packs: list[LensPack]) -> None:
    pack, script = packs[0], told(sequences=1, prompt=1, steps=3)

    def fail(self: LensPack, family: int) -> torch.Tensor:
        raise MemoryError("no room for a family")

    def before_step(step: int) -> None:
        assert step < 2, "nobody heard of it"
        if step == 1:
            wait(monitor.engine.cache._handed_over)

    with (
        Monitor(pack, missing="deferred", prewarm=False, load_threshold=0.0) as monitor,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(LensPack, "read_family", fail)
        with pytest.raises(MemoryError, match="no room"):
            play(monitor, script, before_step)


def test_a_run_after_an_exception_in_the_host_leaves_nothing_pending(
    deferred: tuple[Monitor, Gate],
) -> None:
    monitor, _ = deferred
    script = told(sequences=2, prompt=2, steps=2)

    def before_step(step: int) -> None:
        if step == 2:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        play(monitor, script, before_step)
    assert monitor.stats().pending > 0
    monitor.finish_run(None)
    assert monitor.stats().pending == 0
    assert not any(event.coverage.pending for event in monitor.events)


def test_a_real_host_that_waits_for_nothing_ends_with_the_contents_of_one_that_does(tmp_path: Path) -> None:
    pack = make_pack(
        tmp_path / "p", branching=(4, 3, 3), hidden_size=hosts.HIDDEN, blocks=hosts.BLOCKS, base_levels=(0,)
    )
    model = hosts.gemma3()
    batch = torch.tensor([[0, 0, hosts.BOS, 7, 8], [hosts.BOS, 9, 10, 11, 12]])
    mask = (batch != 0).long()
    found = []
    for config in ({}, {"missing": "deferred", "prewarm": False, "read_every": 3}):
        with Monitor(pack, **config) as monitor, monitor.attach(model):  # type: ignore[arg-type]
            model.generate(input_ids=batch, attention_mask=mask, max_new_tokens=8, do_sample=False)
            found.append(contents(list(monitor.events)))
            assert monitor.stats().pending == 0
    assert found[0] == found[1]


def test_a_kept_walk_holds_no_memory_of_other_positions(packs: list[LensPack]) -> None:
    with (
        gated(packs[0]) as gate,
        Monitor(packs[0], missing="deferred", load_threshold=0.0, top_k=2) as monitor,
    ):
        states_PD = np.random.default_rng(0).normal(size=(50, HIDDEN)).astype(np.float32)
        walk = monitor.engine.begin(states_PD, "prompt")[7]
        monitor.engine.go_on([walk], wait=False)
        taken = walk.own()
        arrays = [walk.input_C, *walk.scores.concepts, *walk.scores.logits, *walk.level.concepts]
        assert all(array.base is None for array in arrays)
        assert taken == sum(array.nbytes for array in arrays) == 4 * HIDDEN + 8 * monitor.engine.base_count
        gate.set_open(True)
        monitor.engine.go_on([walk], wait=True)
        assert walk.own() == 8 * walk.scores.coverage.scored, "a state that nobody needs any more is let go"


# Tokens read several at a time.


@pytest.mark.parametrize("every", [2, 3, 7])
@pytest.mark.parametrize("ends", [(), (2,), (4, 1)])
def test_tokens_read_several_at_a_time_have_the_events_of_tokens_read_one_by_one(
    packs: list[LensPack], every: int, ends: tuple[int, ...]
) -> None:
    script = told(sequences=3, ends=ends, not_finite=2, steps=10)
    with Monitor(packs[0]) as single, Monitor(packs[0], read_every=every) as several:
        expected = [event.content() for event in play(single, script)]
        calls: list[int] = []
        begin = several.engine.begin

        def counted(states_PD: np.ndarray, phase: Any) -> Any:
            calls.append(len(states_PD))
            return begin(states_PD, phase)

        several.engine.begin = counted  # type: ignore[method-assign]
        assert [event.content() for event in play(several, script)] == expected
        assert several.stats().positions == single.stats().positions
    if not ends:
        assert len(calls) == 1 + -(-10 // every)


def test_tokens_come_in_bursts_and_never_later_than_was_said(packs: list[LensPack]) -> None:
    script = told(sequences=1, prompt=2, steps=8)
    seen: list[int] = []
    with Monitor(packs[0], read_every=3) as monitor:
        play(monitor, script, lambda step: seen.append(monitor.stats().emitted))
    first = int(script.mask_BT[0, :2].sum())
    # Rows 3 and 6 are those with which three are read; the last of them is closed by the step after.
    assert seen == [0, first - 1, *(first + n for n in (0, 0, 2, 3, 3, 5, 6))]


def test_a_sequence_that_ends_or_is_finished_is_not_held_back(packs: list[LensPack]) -> None:
    with Monitor(packs[0], read_every=100) as monitor:
        script = told(sequences=2, prompt=2, steps=6, ends=(2,), finish={5: 1})
        seen: list[tuple[int, int]] = []

        def before_step(step: int) -> None:
            seen.append(tuple(sum(e.sequence == b for e in monitor.events) for b in (0, 1)))  # type: ignore[arg-type]

        play(monitor, script, before_step)
    length = script.mask_BT[:, :2].sum(axis=1)
    assert seen[3] == tuple(length), "held back"
    assert seen[4] == tuple(length + 2), "the first sequence has written its end"
    assert seen[5] == tuple(length + 2)
    last = [sum(e.sequence == b for e in monitor.events) for b in (0, 1)]
    assert last == (length + 6).tolist()
    states = [e.state for e in monitor.events if e.sequence == 1]
    assert states[-2:] == ["after_end", "after_end"]


def test_bounded_memory_is_flat_however_late_events_are(packs: list[LensPack]) -> None:
    pack = packs[2]
    rng = np.random.default_rng(0)
    rows = torch.from_numpy(rng.normal(size=(1, 500, HIDDEN)).astype(np.float32))
    step, mask = np.full((1, 1), 9), np.ones((1, 1), np.bool_)
    with Monitor(
        pack,
        missing="deferred",
        read_every=4,
        queue_events=100,
        prewarm=False,
        kept_budget_bytes=2000,
        hot_budget_bytes=least_budget(pack),
        warm_budget_bytes=300,
    ) as monitor:

        def write(tokens: int) -> tuple[int, int]:
            """Objects that the collector tracks and resident pages, after so many tokens more."""
            for t in range(tokens):
                begins = monitor.stats().sequences == 0
                monitor.tokens_fed(step, mask, begins)
                monitor.observe(Forward(rows[:, t % 500 : t % 500 + 1], step, mask, begins))
            monitor._kept.finish()  # how many wait just now differs
            gc.collect()
            return len(gc.get_objects()), int(Path("/proc/self/statm").read_text().split()[1])

        objects, pages = write(200)
        objects_later, pages_later = write(800)
        stats = monitor.stats()
    assert stats.deferred > 200
    assert stats.blocked > 0
    assert stats.kept_peak_bytes <= 2000
    assert objects_later - objects < 50
    assert (pages_later - pages) * 4096 < 2 << 20
