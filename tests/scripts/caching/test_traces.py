"""Traces against what the engine asks its cache for, and near misses by hand."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from caching.traces import Margin, Step, Walker, flat

from lenses.bank import Bank
from lenses.lens import Floats
from lenses.pack import LensPack
from runtime.cache import Group
from runtime.config import MonitorConfig
from runtime.engine import Engine
from runtime.events import Phase
from tests.packs import make_pack

PROMPT = 5
Asked = list[tuple[Phase, tuple[int, ...], tuple[int, ...]]]


def pack_with_states(directory: Path) -> tuple[LensPack, Floats]:
    pack = make_pack(directory / "pack", branching=(3, 3, 2, 2), base_levels=(0,))
    return pack, np.random.default_rng(0).normal(size=(20, 16)).astype(np.float32)


def score_all(pack: LensPack, states_PD: Floats) -> Floats:
    bank = Bank(pack, range(len(pack.hierarchy.families)))
    try:
        return bank.score_base(states_PD)
    finally:
        bank.close()


def walker(pack: LensPack, top_k: int, threshold: float, margin: Margin | None = None) -> Walker:
    return Walker(pack.hierarchy, pack.heads, (0,), top_k=top_k, load_threshold=threshold, margin=margin)


@pytest.mark.parametrize(("top_k", "threshold"), [(2, 0.4), (10, 0.3), (10, 0.0)])
def test_a_trace_is_what_the_engine_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, top_k: int, threshold: float
) -> None:
    pack, states_PD = pack_with_states(tmp_path)
    asked: Asked = []
    with Engine(pack, MonitorConfig(top_k=top_k, load_threshold=threshold)) as engine:
        groups = engine.cache.groups

        def watched(families: Iterable[int], requests: Mapping[int, int], phase: Phase) -> Iterator[Group]:
            wanted = tuple(families)
            asked.append((phase, wanted, tuple(requests[family] for family in wanted)))
            return groups(wanted, requests, phase)

        monkeypatch.setattr(engine.cache, "groups", watched)
        engine.score(states_PD[:PROMPT], "prompt")
        for position in range(PROMPT, len(states_PD)):
            engine.score(states_PD[position : position + 1], "generation")
    steps = list(walker(pack, top_k, threshold).steps(3, PROMPT, score_all(pack, states_PD)))
    assert [(phase, call.families, call.counts) for phase, call in flat(steps)] == asked
    assert [step.phase for step in steps] == ["prompt"] + ["generation"] * (len(states_PD) - PROMPT)
    assert {step.session for step in steps} == {3}
    levels = [pack.hierarchy.families[family].level for family in range(len(pack.hierarchy.families))]
    assert all(levels[family] == call.level for _, call in flat(steps) for family in call.families)


def opened(steps: list[Step]) -> list[set[int]]:
    return [{family for call in step.calls for family in call.families} for step in steps]


def test_near_misses_are_what_a_little_more_would_have_opened(tmp_path: Path) -> None:
    pack, states_PD = pack_with_states(tmp_path)
    logits_PN = score_all(pack, states_PD)
    plain = list(walker(pack, 2, 0.5).steps(0, 0, logits_PN))
    with_near = list(walker(pack, 2, 0.5, Margin(99, 0.3)).steps(0, 0, logits_PN))
    wider = opened(list(walker(pack, 99, 0.3).steps(0, 0, logits_PN)))
    assert opened(plain) == opened(with_near)
    assert [step.calls for step in plain] == [step.calls for step in with_near]
    assert all(not step.near for step in plain)
    assert any(step.near for step in with_near)
    for step, taken, more in zip(with_near, opened(plain), wider, strict=True):
        assert not taken & set(step.near)
        assert set(step.near) <= more


def test_near_misses_of_a_prompt_are_its_last_positions(tmp_path: Path) -> None:
    pack, states_PD = pack_with_states(tmp_path)
    logits_PN = score_all(pack, states_PD)
    near = walker(pack, 2, 0.5, Margin(4, 0.5))
    (prompt,) = near.steps(0, PROMPT, logits_PN[:PROMPT])
    (last,) = near.steps(0, 0, logits_PN[PROMPT - 1 : PROMPT])
    assert prompt.near == tuple(family for family in last.near if family not in opened([prompt])[0])
