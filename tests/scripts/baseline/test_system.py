"""The baseline says what the engine says, whatever its cache holds, and its cache holds what it should."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from baseline.files import export_baseline
from baseline.system import COMPONENTS, Content, OneAtATime
from hypothesis import given, settings
from hypothesis import strategies as st

from lenses.errors import ConfigError, PackNotFound
from lenses.lens import Floats
from lenses.pack import LensPack
from runtime.config import MonitorConfig
from runtime.engine import Engine
from tests.packs import make_pack

HIDDEN = 16
CONFIGS = {
    "pack": MonitorConfig(),
    "base of one level": MonitorConfig(base_levels=(0,), top_k=2, load_threshold=0.4),
    "wide": MonitorConfig(base_levels=(0, 1), top_k=50, load_threshold=0.0),
    "everything is base": MonitorConfig(base_levels=(0, 1, 2, 3)),
    "not to the bottom": MonitorConfig(base_levels=(0,), max_level=2, load_threshold=0.2),
    "narrow": MonitorConfig(base_levels=(0,), top_k=1, load_threshold=0.01),
}


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> LensPack:
    return make_pack(tmp_path_factory.mktemp("pack") / "p", branching=(3, 3, 2, 2), hidden_size=HIDDEN)


@pytest.fixture(scope="module")
def files(pack: LensPack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("files")
    export_baseline(pack, directory)
    return directory


def states(count: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal((count, HIDDEN), dtype=np.float32)


def assert_same_contents(
    found: Sequence[Content], pack: LensPack, config: MonitorConfig, states_PD: Floats
) -> None:
    with Engine(pack, config) as engine:
        expected = engine.score(states_PD, "generation")
    for one, scores in zip(found, expected, strict=True):
        concepts, logits = scores.ordered()
        np.testing.assert_array_equal(one.concepts, concepts)
        assert one.concepts.dtype == concepts.dtype
        assert np.abs(one.logits - logits).max() <= 1e-5 * max(1.0, float(np.abs(logits).max()))
        assert one.cut == scores.cut


@pytest.mark.parametrize("max_loaded", [0, 20, 500, None])
@pytest.mark.parametrize("name", CONFIGS)
def test_contents_equal_the_engines(pack: LensPack, files: Path, name: str, max_loaded: int | None) -> None:
    system = OneAtATime(pack, files, CONFIGS[name], max_loaded_lenses=max_loaded)
    states_PD = states(4)
    together = system.score(states_PD).contents
    assert_same_contents(together, pack, CONFIGS[name], states_PD)
    one_by_one = [system.score(states_PD[p : p + 1]).contents[0] for p in range(len(states_PD))]
    assert_same_contents(one_by_one, pack, CONFIGS[name], states_PD)


def test_a_state_that_differs_gives_other_contents(pack: LensPack, files: Path) -> None:
    states_PD = states(1)
    found = OneAtATime(pack, files, MonitorConfig()).score(states_PD).contents
    with pytest.raises(AssertionError):
        assert_same_contents(found, pack, MonitorConfig(), states_PD + np.float32(1e-2))


@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=5),
    st.sampled_from([0, 13, 16, 22, 40]),
)
@settings(max_examples=12, deadline=None)
def test_the_cache_keeps_the_children_used_last_and_no_more(
    pack: LensPack, files: Path, calls: list[tuple[int, bool]], max_loaded: int
) -> None:
    config = MonitorConfig(base_levels=(0, 1), top_k=2, load_threshold=0.1)
    system = OneAtATime(pack, files, config, max_loaded_lenses=max_loaded)
    room = max(0, max_loaded - system.base_count)
    kept: list[int] = []  # the model of the cache: a list, the one used last at its end
    for seed, prewarmed in calls:
        states_PD = states(1, seed)
        if prewarmed:
            before = set(system.loaded_children)
            loaded = system.prewarm(states_PD).loaded
            assert len(set(system.loaded_children) - before) == loaded
            kept = list(system.loaded_children)
        found = system.score(states_PD)
        wanted = {int(n) for n in found.contents[0].concepts if pack.hierarchy.levels[n] > 1}
        assert (found.loaded, found.reused) == (len(wanted - set(kept)), len(wanted & set(kept)))
        kept = [child for child in kept if child not in wanted] + [
            child for child in system.loaded_children if child in wanted
        ]
        kept = kept[max(0, len(kept) - room) :]
        assert list(system.loaded_children) == kept
        assert len(system.loaded_children) <= room


def test_no_cache_loads_every_child_at_every_call_and_a_whole_pack_none(pack: LensPack, files: Path) -> None:
    config = MonitorConfig(base_levels=(0,), load_threshold=0.1)
    none = OneAtATime(pack, files, config, max_loaded_lenses=0)
    whole = OneAtATime(pack, files, config, max_loaded_lenses=None)
    for _ in range(2):
        found = none.score(states(1))
        assert found.loaded > 0 == found.reused
        assert not none.loaded_children
        assert whole.score(states(1)).loaded == 0
    assert len(whole.loaded_children) == len(pack.hierarchy) - whole.base_count


def test_prewarming_loads_what_the_first_level_will_want(pack: LensPack, files: Path) -> None:
    config = MonitorConfig(base_levels=(0, 1, 2), load_threshold=0.2)
    system = OneAtATime(pack, files, config)
    warmed = system.prewarm(states(3))
    assert warmed.loaded == len(system.loaded_children) > 0
    found = system.score(states(3))
    assert found.loaded == 0 < found.reused  # below base levels 0 to 2 there is one level only
    assert_same_contents(found.contents, pack, config, states(3))
    assert system.prewarm(states(3)).loaded == 0


def test_components_sum_to_the_whole(pack: LensPack, files: Path) -> None:
    seconds = iter(range(100_000))
    system = OneAtATime(pack, files, MonitorConfig(), clock=lambda: float(next(seconds)))
    found = system.score(states(2))
    assert tuple(found.component_ms) == COMPONENTS
    assert sum(found.component_ms.values()) == pytest.approx(found.total_ms)
    assert found.component_ms["child_loading"] == 1000.0 * found.loaded
    assert found.component_ms["child_detection"] == 1000.0 * (found.loaded + found.reused)
    assert found.component_ms["initial_detection"] == 1000.0


def test_what_is_not_exported_is_refused_when_it_is_wanted(pack: LensPack, tmp_path: Path) -> None:
    config = MonitorConfig(base_levels=(0,), load_threshold=0.0, top_k=50)
    export_baseline(pack, tmp_path, families=pack.hierarchy.base_families((0,)))
    for max_loaded in (500, None):
        system = OneAtATime(pack, tmp_path, config, max_loaded_lenses=max_loaded)
        with pytest.raises(PackNotFound, match="export family"):
            system.score(states(1))
    with pytest.raises(ConfigError, match="leave exhaustive off"):
        OneAtATime(pack, tmp_path, MonitorConfig(exhaustive=True))
