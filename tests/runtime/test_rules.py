"""The rules that hold always, each by its name: pure, faithful, invisible, loud, bounded; and recall is a number."""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lenses.calibration import sigmoid
from lenses.pack import LensPack
from lenses.state import input_states
from runtime.events import Event, differing
from runtime.hook import Forward
from runtime.monitor import Monitor
from tests import hosts
from tests.packs import make_pack
from tests.reference import walk


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> LensPack:
    return make_pack(
        tmp_path_factory.mktemp("pack"),
        branching=(4, 3, 3, 2),
        hidden_size=hosts.HIDDEN,
        blocks=hosts.BLOCKS,
        site="resid_post.1",
        pooling="ema:0.6",
        norm="layer",
    )


@pytest.fixture(scope="module")
def model() -> Any:
    return hosts.gemma3()


PROMPT = torch.tensor([[hosts.BOS, 7, 8, 9, 12, 30]])


def watch(monitor: Monitor, model: Any, ids: torch.Tensor = PROMPT, **generate: Any) -> list[Event]:
    monitor.events.clear()
    with monitor.attach(model):
        model.generate(input_ids=ids, **({"do_sample": False, "max_new_tokens": 8} | generate))
    return list(monitor.events)


def least_budget(pack: LensPack) -> int:
    base = pack.hierarchy.base_families(pack.config.base_levels)
    sizes = [pack.family_bytes(f.index) for f in pack.hierarchy.families]
    return (
        sum(sizes[f] for f in base)
        + max(s for f, s in enumerate(sizes) if f not in base)
        + 64 * (len(base) + 1)
    )


# Pure.


@pytest.mark.parametrize(
    "settings",
    [
        {"hot_budget_bytes": "least", "warm_budget_bytes": 0},
        {"hot_budget_bytes": "least"},
        {"prewarm": False},
        {"prewarm": False, "hot_budget_bytes": "least", "warm_budget_bytes": 0},
        {"queue_events": 1000},
    ],
    ids=str,
)
def test_pure_tiers_and_prewarming_change_no_content(
    pack: LensPack, model: Any, settings: dict[str, Any]
) -> None:
    if settings.get("hot_budget_bytes") == "least":
        settings = settings | {"hot_budget_bytes": least_budget(pack)}
    with Monitor(pack) as plenty, Monitor(pack, **settings) as other:
        assert differing(watch(plenty, model), watch(other, model)) == []


def test_pure_what_was_watched_before_changes_no_content(pack: LensPack, model: Any) -> None:
    with Monitor(pack) as fresh, Monitor(pack) as used:
        for start in (20, 30, 40):
            watch(used, model, torch.tensor([[hosts.BOS, start, start + 1]]))
        first, later = watch(fresh, model), watch(used, model)
    assert [e.content()[1:] for e in first] == [e.content()[1:] for e in later]


def test_pure_neighbours_with_the_same_states_change_no_bit(pack: LensPack) -> None:
    rng = np.random.default_rng(0)
    rows = torch.from_numpy(rng.normal(size=(3, 7, hosts.HIDDEN)).astype(np.float32))
    ids = rng.integers(5, 60, size=(3, 7))

    def contents(sequences: list[int]) -> list[list[tuple[object, ...]]]:
        with Monitor(pack) as monitor:
            feed(monitor, rows[sequences], ids[sequences])
            return [
                [e.content()[1:] for e in monitor.events if e.sequence == b] for b in range(len(sequences))
            ]

    assert contents([0, 1, 2])[1] == contents([1])[0] == contents([2, 1])[1]


def test_pure_a_changed_state_is_seen(pack: LensPack) -> None:
    rng = np.random.default_rng(0)
    rows = torch.from_numpy(rng.normal(size=(1, 7, hosts.HIDDEN)).astype(np.float32))
    changed = rows.clone()
    changed[0, 3] += 1e-3
    events = []
    for fed in (rows, changed):
        with Monitor(pack) as monitor:
            feed(monitor, fed, np.full((1, 7), 9))
            events.append(list(monitor.events))
    # Causal: what came before the change is the same, what comes after carries it in the pool.
    assert differing(*events) == [3, 4, 5, 6]


def feed(monitor: Monitor, rows_BTD: torch.Tensor, token_BT: np.ndarray) -> None:
    """What the hook does in one forward that begins, and the end of the run."""
    mask = np.ones(token_BT.shape, np.bool_)
    monitor.tokens_fed(token_BT, mask, True)
    monitor.observe(Forward(rows_BTD, token_BT, mask, True))
    monitor.finish_run(None)


# Faithful.


@pytest.mark.parametrize("kind", ["mlp", "linear"])
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_faithful_to_one_lens_at_a_time(tmp_path: Path, kind: str, dtype: str) -> None:
    pack = make_pack(
        tmp_path / "pack",
        branching=(4, 3, 3, 2),
        hidden_size=hosts.HIDDEN,
        blocks=hosts.BLOCKS,
        kind=kind,
        dtype=dtype,
        pooling="mean",
    )
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(1, 24, hosts.HIDDEN)).astype(np.float32)
    with Monitor(pack, top_k=3) as monitor:
        feed(monitor, torch.from_numpy(rows), np.full((1, 24), 9))
        events = list(monitor.events)
    compared = 0
    for event, state in zip(events, input_states(rows[0], pack.config.input), strict=True):
        expected = walk(pack, torch.from_numpy(state), base_levels=(0, 1), top_k=3, load_threshold=0.3)
        largest = max(1.0, max(map(abs, expected.logits.values())))
        if expected.close_calls:
            continue
        compared += 1
        ids = [pack.hierarchy.concepts[i].id for i in event.scored]
        assert set(ids) == expected.logits.keys()
        for concept_id, logit in zip(ids, event.logits, strict=True):
            assert abs(float(logit) - expected.logits[concept_id]) <= 1e-5 * largest
        assert event.coverage.cut == expected.cut
    assert compared >= 20


# Invisible.


def fingerprint(model: Any, **generate: Any) -> tuple[Any, ...]:
    """Text, logits, random state and parameters of a sampled run."""
    torch.manual_seed(5)
    output = model.generate(
        input_ids=PROMPT,
        do_sample=True,
        max_new_tokens=8,
        output_logits=True,
        return_dict_in_generate=True,
        **generate,
    )
    return (
        output.sequences.tolist(),
        [step.numpy().tobytes() for step in output.logits],
        torch.get_rng_state().numpy().tobytes(),
        [p.detach().numpy().tobytes() for p in model.parameters()],
        torch.get_num_threads(),
        {name: len(m._forward_hooks) + len(m._forward_pre_hooks) for name, m in model.named_modules()},
        sorted(model.__dict__),
    )


def test_invisible_the_host_computes_the_same_bits(pack: LensPack, model: Any) -> None:
    before = fingerprint(model)
    with Monitor(pack) as monitor:
        with monitor.attach(model):
            watched = fingerprint(model)
        assert len(monitor.events) == 13
    assert watched[:5] == before[:5]
    assert fingerprint(model) == before


def test_invisible_a_control_that_touches_a_state_is_seen_to_fail(model: Any) -> None:
    before = fingerprint(model)
    handle = model.get_decoder().layers[1].register_forward_hook(lambda module, args, output: output + 1e-3)
    touched = fingerprint(model)
    handle.remove()
    assert touched[1] != before[1]


def test_invisible_no_hook_is_left_behind_by_an_exception(pack: LensPack, model: Any) -> None:
    before = fingerprint(model)

    def fail(event: Event) -> None:
        raise RuntimeError("a sink failed")

    with Monitor(pack) as monitor:
        monitor.subscribe(fail)
        with pytest.raises(RuntimeError, match="a sink failed"), monitor.attach(model):
            model.generate(input_ids=PROMPT, max_new_tokens=3, do_sample=False)
    assert fingerprint(model) == before


# Loud.


def test_loud_a_row_that_is_not_finite_is_a_state_and_a_counter_and_in_no_pool(pack: LensPack) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(1, 6, hosts.HIDDEN)).astype(np.float32)
    spoiled = rows.copy()
    spoiled[0, 2, 5] = np.inf
    with Monitor(pack) as monitor:
        feed(monitor, torch.from_numpy(spoiled), np.full((1, 6), 9))
        events = list(monitor.events)
        assert [e.state for e in events] == ["ok", "ok", "non_finite", "ok", "ok", "ok"]
        assert monitor.stats().positions["non_finite"] == 1
        assert len(events[2].scored) == 0
        assert events[2].coverage.failed == events[2].coverage.expected == monitor.engine.base_count
    with Monitor(pack) as monitor:
        feed(monitor, torch.from_numpy(np.delete(rows, 2, axis=1)), np.full((1, 5), 9))
        without = list(monitor.events)
    assert [e.logits.tobytes() for e in events if e.state == "ok"] == [e.logits.tobytes() for e in without]


def test_loud_bos_is_never_scored_and_in_no_pool(pack: LensPack, model: Any) -> None:
    with Monitor(pack) as monitor:
        events = watch(monitor, model)
    assert events[0].state == "bos"
    assert (len(events[0].scored), events[0].coverage.expected) == (0, 0)
    assert events[0].top(5) == []


def test_loud_a_damaged_family_is_named_at_every_position_that_wanted_it(tmp_path: Path, model: Any) -> None:
    pack = make_pack(tmp_path / "pack", branching=(3, 3, 2), hidden_size=hosts.HIDDEN, blocks=hosts.BLOCKS)
    damaged = int(pack.hierarchy.opens[pack.hierarchy.index("c0-2")])
    stored = pack.stored_family(damaged)
    with (pack.path / stored.file).open("r+b") as file:
        file.seek(stored.start + 3)
        file.write(b"\x7f\x7f")
    pack = LensPack.from_pretrained(pack.path)
    with Monitor(pack, load_threshold=0.0, top_k=100) as monitor:
        events = watch(monitor, model)
        assert "c0-2" in next(iter(monitor.engine.cache.quarantined.values()))
    scored = [e for e in events if e.state == "ok"]
    assert all(e.failed == ("c0-2",) and e.coverage.failed == 2 for e in scored)
    assert all(e.coverage.scored == len(pack.hierarchy) - 2 for e in scored)


def test_loud_expected_is_scored_plus_pending_plus_failed_at_every_position(
    pack: LensPack, model: Any
) -> None:
    with Monitor(pack, top_k=2, load_threshold=0.0) as monitor:
        events = watch(monitor, model)
    for event in events:
        c = event.coverage
        assert c.expected == c.scored + c.pending + c.failed
        assert c.scored == len(event.scored) == len(event.logits)
    assert any(e.coverage.cut > 0 for e in events)


# Bounded.


def test_bounded_memory_is_flat_over_a_thousand_tokens(pack: LensPack) -> None:
    rng = np.random.default_rng(0)
    rows = torch.from_numpy(rng.normal(size=(1, 500, hosts.HIDDEN)).astype(np.float32))
    step = np.full((1, 1), 9)
    mask = np.ones((1, 1), np.bool_)
    budget = least_budget(pack) + 512
    with Monitor(pack, queue_events=100, top_k=2, hot_budget_bytes=budget, warm_budget_bytes=512) as monitor:

        def write(tokens: int) -> tuple[int, int]:
            """Objects that the collector tracks and resident pages, after so many tokens more."""
            for t in range(tokens):
                begins = monitor.stats().sequences == 0
                monitor.tokens_fed(step, mask, begins)
                monitor.observe(Forward(rows[:, t % 500 : t % 500 + 1], step, mask, begins))
            gc.collect()
            return len(gc.get_objects()), int(Path("/proc/self/statm").read_text().split()[1])

        objects, pages = write(300)
        objects_later, pages_later = write(1200)
        stats = monitor.stats()
    assert stats.emitted == 1499
    assert stats.dropped == 1399
    assert objects_later - objects < 13, "an object for every hundred tokens stays"
    assert (pages_later - pages) * 4096 < 512 << 10
    assert stats.cache.hot_peak_bytes <= stats.cache.hot_budget_bytes
    assert stats.cache.evictions > 750


# Recall is a number.


def test_recall_against_exhaustive_can_be_counted(pack: LensPack, model: Any) -> None:
    with (
        Monitor(pack, exhaustive=True) as all_lenses,
        Monitor(pack, top_k=2) as narrow,
        Monitor(pack, top_k=100, load_threshold=0.0) as wide,
    ):
        complete = watch(all_lenses, model)
        found = {"narrow": watch(narrow, model), "wide": watch(wide, model)}
    recall = {name: active_found(complete, events) for name, events in found.items()}
    assert recall["wide"] == 1.0
    assert 0.0 < recall["narrow"] < 1.0


def active_found(complete: list[Event], events: list[Event]) -> float:
    """Share of (position, concept) with exhaustive probability >= 1/2 that the other run scored, with equal logits."""
    active = found = 0
    for full, event in zip(complete, events, strict=True):
        logits = dict(zip(event.scored.tolist(), event.logits.tolist(), strict=True))
        for index, logit, p in zip(full.scored, full.logits, full.probabilities, strict=True):
            if index in logits:
                assert logits[index] == logit
            active += p >= 0.5
            found += p >= 0.5 and index in logits
    return found / active


# Every setting does something.


@pytest.mark.parametrize(
    ("settings", "changes"),
    [
        ({"base_levels": (0,)}, "content"),
        ({"top_k": 1}, "content"),
        ({"load_threshold": 0.9}, "content"),
        ({"max_level": 2}, "content"),
        ({"exhaustive": True}, "content"),
        ({"prompt_events": "base"}, "content"),
        ({"prewarm": False}, "run"),
        ({"hot_budget_bytes": 4000}, "run"),
        ({"hot_budget_bytes": 4000, "warm_budget_bytes": 0}, "run"),
        ({"queue_events": 3}, "queue"),
    ],
    ids=str,
)
def test_every_setting_changes_what_it_is_for(
    pack: LensPack, model: Any, settings: dict[str, Any], changes: str
) -> None:
    with Monitor(pack) as usual, Monitor(pack, **settings) as other:
        events, changed = watch(usual, model), watch(other, model)
        if changes == "content":
            assert differing(events, changed)
        elif changes == "run":
            assert differing(events, changed) == []
            assert usual.engine.cache.stats() != other.engine.cache.stats()
        else:
            assert len(changed) == 3


def test_probabilities_are_of_the_packs_calibration(pack: LensPack, model: Any) -> None:
    with Monitor(pack) as monitor:
        event = watch(monitor, model)[-1]
    for score in event.top(10):
        index = pack.hierarchy.index(score.id)
        odds = np.float32(score.logit) * pack.heads.platt_slope[index] + pack.heads.platt_offset[index]
        assert score.probability == pytest.approx(float(sigmoid(odds)), abs=1e-6)
        assert score.calibrated == pack.heads.calibrated[index]


@pytest.fixture(autouse=True)
def _restore_rng() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        yield
