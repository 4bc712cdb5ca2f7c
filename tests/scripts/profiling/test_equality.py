"""Events equal one lens at a time, whatever the configuration, and what is not theirs is seen to differ."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from profiling.equality import OneLensAtATime, compare, equality, sample
from profiling.runs import Task
from profiling.states import record

from lenses.pack import LensPack
from runtime.config import MonitorConfig
from runtime.host import Host
from runtime.monitor import Monitor
from tests.packs import make_pack
from tests.profiled import tiny
from tests.reference import walk

TASK = Task("the dog runs", 10)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"exhaustive": True},
        {"exhaustive": True, "prompt_events": "base", "max_level": 2},
        {"prompt_events": "off"},
        {"base_levels": (0, 1), "top_k": 1, "load_threshold": 0.0},
        {"missing": "deferred", "hot_budget_bytes": 4000},
        {"read_every": 3, "max_level": 2},
    ],
    ids=str,
)
def test_events_are_equal_and_the_control_differs(
    host: Host, pack: LensPack, settings: dict[str, Any]
) -> None:
    config = MonitorConfig(**settings)
    with Monitor(pack, config) as monitor:
        found = equality(pack, config, record(host, TASK, pack, monitor))
    assert found["equal"]
    assert found["found"]["positions"] == (6 if config.prompt_events == "off" else 8)
    assert found["control"]["seen_to_differ"]


def test_the_walk_is_the_one_that_the_engine_is_tested_against(pack: LensPack) -> None:
    config = pack.config
    states_SD = np.random.default_rng(3).normal(size=(4, config.host.hidden_size)).astype(np.float32)
    own = OneLensAtATime(pack, MonitorConfig(), states_SD)
    for at, state_D in enumerate(states_SD):
        expected = walk(
            pack,
            torch.from_numpy(state_D),
            base_levels=config.base_levels,
            top_k=config.top_k,
            load_threshold=config.load_threshold,
        )
        logits, cut = own.walk(at)
        assert {pack.hierarchy.concepts[index].id: one for index, one in logits.items()} == expected.logits
        assert cut == expected.cut


def test_events_of_other_lenses_and_of_a_wider_walk_are_not_equal(
    host: Host, pack: LensPack, tmp_path_factory: pytest.TempPathFactory
) -> None:
    _, other = tiny(tmp_path_factory.mktemp("other"), seed=1)
    config = MonitorConfig()
    with Monitor(pack, config) as monitor:
        recorded = record(host, TASK, pack, monitor)
    assert not equality(other, config, recorded)["equal"]
    assert not equality(pack, replace(config, load_threshold=0.9), recorded)["equal"]
    events = sample(recorded.events)
    place = {int(position): at for at, position in enumerate(recorded.position_P)}
    states_SD = recorded.states_PD[[place[event.position] for event in events]]
    assert compare(pack, config, events, states_SD).equal
    assert not compare(pack, config, events, np.roll(states_SD, 1, axis=0)).equal


def test_recorded_states_are_those_of_the_monitor_pool_and_all(
    host: Host, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("pooled")
    own = host.model.config
    pack = make_pack(
        directory / "pack",
        host="tiny",
        hidden_size=own.hidden_size,
        blocks=own.num_hidden_layers,
        site="resid_post.2",
        norm="layer",
        pooling="ema:0.7",
    )
    config = MonitorConfig()
    with Monitor(pack, config) as monitor:
        recorded = record(host, TASK, pack, monitor)
    assert [e.position for e in recorded.events if e.state == "ok"] == recorded.position_P.tolist()
    assert equality(pack, config, recorded)["equal"]
    alone = record(host, TASK, pack)
    assert np.array_equal(alone.states_PD, recorded.states_PD)
    assert alone.events == ()
