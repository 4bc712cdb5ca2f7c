"""The engine equals the slow walk, whatever the tiers hold and however positions come together."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lenses.errors import BudgetError, ConfigError
from lenses.pack import LensPack
from runtime.config import MonitorConfig
from runtime.engine import Engine, wanted_by
from runtime.expansion import Choice
from runtime.walk import Scores
from tests.damage import SHARD, flip_last_byte
from tests.packs import make_pack
from tests.reference import walk

HIDDEN = 16


@pytest.fixture(scope="module", params=["mlp-bf16", "linear-fp32"])
def pack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LensPack:
    kind, dtype = request.param.split("-")
    return make_pack(tmp_path_factory.mktemp("pack"), branching=(4, 3, 3, 2), kind=kind, dtype=dtype)


def states(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, HIDDEN)).astype(np.float32)


def content(scores: list[Scores]) -> list[tuple[bytes, bytes, object]]:
    return [(*(part.tobytes() for part in s.ordered()), s.coverage) for s in scores]


def least_budget(pack: LensPack, base_levels: tuple[int, ...]) -> int:
    base = pack.hierarchy.base_families(base_levels)
    sizes = [pack.family_bytes(f.index) for f in pack.hierarchy.families]
    rest = [size for f, size in enumerate(sizes) if f not in base]
    # Tensors are allocated in steps of 64 bytes.
    return sum(sizes[f] for f in base) + max(rest) + 64 * (len(base) + 1)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    seed=st.integers(0, 10_000),
    top_k=st.integers(1, 6),
    threshold=st.sampled_from([0.0, 0.2, 0.3, 0.5, 0.8]),
    base=st.sampled_from([(0,), (0, 1), (0, 1, 2), (0, 1, 2, 3)]),
    max_level=st.sampled_from([None, 3]),
    exhaustive=st.booleans(),
)
def test_the_engine_equals_the_slow_walk(
    pack: LensPack,
    seed: int,
    top_k: int,
    threshold: float,
    base: tuple[int, ...],
    max_level: int | None,
    exhaustive: bool,
) -> None:
    config = MonitorConfig(
        base_levels=base,
        top_k=top_k,
        load_threshold=threshold,
        max_level=max_level,
        exhaustive=exhaustive,
    )
    with Engine(pack, config) as engine:
        state_D = states(1, seed)
        found = engine.score(state_D, "generation")[0]
    expected = walk(
        pack,
        torch.from_numpy(state_D[0]),
        base_levels=base,
        top_k=top_k,
        load_threshold=threshold,
        max_level=max_level,
        exhaustive=exhaustive,
    )
    if expected.close_calls:
        return
    concepts, logits = found.ordered()
    by_id = {pack.hierarchy.concepts[i].id: float(z) for i, z in zip(concepts, logits, strict=True)}
    assert by_id.keys() == expected.logits.keys()
    tolerance = 1e-5 * max(1.0, max(map(abs, expected.logits.values())))
    assert all(abs(by_id[i] - z) <= tolerance for i, z in expected.logits.items())
    assert found.cut == expected.cut
    assert found.coverage.expected == found.coverage.scored == len(by_id)
    opened = sum(len(level) for level in expected.opened)
    if not exhaustive:
        assert sum(found.origins.values()) == opened


def test_positions_that_walk_together_get_what_each_gets_alone(pack: LensPack) -> None:
    config = MonitorConfig(base_levels=(0,), top_k=2)
    s = states(12)
    with Engine(pack, config) as together, Engine(pack, config) as alone:
        whole = content(together.score(s, "prompt", read_ahead=True))
        single = [content(alone.score(s[p : p + 1], "generation"))[0] for p in range(12)]
    assert whole == single


@pytest.mark.parametrize("warm", [0, 1 << 20])
@pytest.mark.parametrize("exhaustive", [False, True])
def test_the_smallest_budgets_give_the_same_scores(pack: LensPack, warm: int, exhaustive: bool) -> None:
    s = states(10)
    results = []
    for hot in (1 << 24, least_budget(pack, (0,))):
        config = MonitorConfig(
            base_levels=(0,), hot_budget_bytes=hot, warm_budget_bytes=warm, exhaustive=exhaustive
        )
        with Engine(pack, config) as engine:
            results.append(content(engine.score(s, "prompt")) + content(engine.score(s[:1], "generation")))
            stats = engine.cache.stats()
            assert stats.hot_peak_bytes <= hot
            assert stats.warm_peak_bytes <= warm
    assert results[0] == results[1]


def test_requests_are_counted_a_position_and_family_with_phases_apart(pack: LensPack) -> None:
    s = states(7)
    with Engine(pack, MonitorConfig(base_levels=(0,))) as engine:
        first = engine.score(s, "prompt")
        second = engine.score(s[:2], "generation")
        stats = engine.cache.stats()
    asked = [sum(sum(x.origins.values()) for x in scores) for scores in (first, second)]
    assert [stats.prompt.requests, stats.generation.requests] == asked
    assert stats.prompt.cold_misses == stats.reads > 0
    assert stats.generation.hot_hits == stats.generation.requests
    assert stats.bytes_read > 0


def test_read_ahead_moves_misses_out_of_the_way_and_changes_no_score(pack: LensPack) -> None:
    s = states(7)
    with (
        Engine(pack, MonitorConfig(base_levels=(0,))) as ahead,
        Engine(pack, MonitorConfig(base_levels=(0,))) as met,
    ):
        assert content(ahead.score(s, "prompt", read_ahead=True)) == content(met.score(s, "prompt"))
        assert ahead.cache.stats().prefetched > 0
        assert ahead.cache.stats().prompt.cold_misses == 0
        assert met.cache.stats().prefetched == 0
        assert met.cache.stats().prompt.cold_misses > 0


def test_a_family_that_cannot_be_read_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    pack = make_pack(tmp_path / "pack", branching=(3, 3, 2))
    damaged = int(pack.hierarchy.opens[pack.hierarchy.index("c1-0")])
    stored = pack.stored_family(damaged)
    with (pack.path / stored.file).open("r+b") as file:
        file.seek(stored.start)
        byte = file.read(1)
        file.seek(stored.start)
        file.write(bytes([byte[0] ^ 1]))
    config = MonitorConfig(base_levels=(0, 1), load_threshold=0.0, top_k=100)
    with Engine(LensPack.from_pretrained(pack.path), config) as engine:
        for _ in range(2):
            scores = engine.score(states(2), "generation")
            assert [s.failed for s in scores] == [[damaged], [damaged]]
            assert [s.coverage.failed for s in scores] == [2, 2]
            assert all(s.coverage.expected == len(pack.hierarchy) for s in scores)
        assert "c1-0" in engine.cache.quarantined[damaged]
        assert engine.cache.stats().generation.failed == 4


def test_settings_that_cannot_hold_say_what_can(pack: LensPack) -> None:
    with pytest.raises(ConfigError, match="levels 0 to 3"):
        Engine(pack, MonitorConfig(base_levels=(0, 1, 2, 3, 4)))
    with pytest.raises(ConfigError, match="above base level 1"):
        Engine(pack, MonitorConfig(base_levels=(0, 1), max_level=0))
    with pytest.raises(BudgetError, match="needs at least"):
        Engine(pack, MonitorConfig(hot_budget_bytes=10))


def test_the_most_wanted_family_comes_first() -> None:
    choices = [Choice((5, 3), (2.0, 1.0), 0), Choice((3, 4), (0.5, 0.4), 0), Choice((), (), 0)]
    assert wanted_by(choices) == {3: [0, 1], 5: [0], 4: [1]}
    assert list(wanted_by(choices)) == [3, 5, 4]


def test_the_walk_is_the_packs_unless_the_configuration_says_otherwise(tmp_path: Path) -> None:
    pack = make_pack(tmp_path / "p", top_k=3, load_threshold=0.125)
    with Engine(pack, MonitorConfig()) as engine:
        assert (engine.expansion.top_k, engine.expansion.load_threshold) == (3, 0.125)
    with Engine(pack, MonitorConfig(top_k=2, load_threshold=0.0)) as engine:
        assert (engine.expansion.top_k, engine.expansion.load_threshold) == (2, 0.0)


@pytest.mark.parametrize("damaged", [False, True])
def test_everything_end_to_end_says_what_family_by_family_says(tmp_path: Path, damaged: bool) -> None:
    pack = make_pack(tmp_path / "p", branching=(3, 3, 2), base_levels=(0,))
    if damaged:
        flip_last_byte(pack.path / SHARD)
    everything_bytes = sum(pack.family_bytes(family.index) for family in pack.hierarchy.families)
    found = []
    for budget in (everything_bytes, everything_bytes - 1):
        with Engine(pack, MonitorConfig(exhaustive=True, hot_budget_bytes=budget)) as engine:
            scores = engine.score(states(3), "generation")
            requests = engine.cache.stats().generation.requests
            assert (requests == 0) == (budget == everything_bytes and not damaged)
            base = engine.score_base(states(3))
            assert engine.base_count == 3
            assert all(len(one.ordered()[0]) == 3 for one in base)
            found.append(content(scores))
    assert found[0] == found[1]
    assert found[0][0][2].failed == (2 if damaged else 0)
