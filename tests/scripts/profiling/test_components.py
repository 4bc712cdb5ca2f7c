"""The component table sums to the whole, and bytes are those that were scored and read."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from profiling.components import component_table, steps_of
from profiling.opportunities import REMEDIES, opportunities
from profiling.runs import Run, Task, generate
from profiling.traffic import Sizes, moved_bytes

from lenses.pack import LensPack
from runtime.clock import Clock, Component, Step
from runtime.host import Host
from runtime.monitor import Monitor
from tests.packs import make_pack

TASK = Task("the dog runs", 8)
SIZES = Sizes(base_lenses=10, first_bytes=1000, head_bytes=100, projection_bytes=0, copies=False)


def step(name: str, parts_ms: dict[Component, float], **counts: int) -> Step:
    named = {name.replace("_", " "): count for name, count in counts.items()}
    return Step(name, {str(k): v for k, v in parts_ms.items()}, named, total_ms=sum(parts_ms.values()))


def test_rows_have_shares_floors_and_a_remainder() -> None:
    steps = (
        step("prompt", {Component.HOST: 5.0}),
        step(
            "generation",
            {Component.HOST: 6.0, Component.DETECTION: 2.0, Component.CHILDREN: 1.0},
            base_passes=1,
            lenses_hot=3,
            lenses_warm=2,
        ),
        step("generation", {Component.HOST: 8.0, Component.DETECTION: 4.0}, base_passes=1),
    )
    run = Run((1, 2, 3), np.array([7.0, 10.0, 11.0]), 1.5, steps=steps)
    found = component_table([run], "generation", SIZES, lambda size: size / 11_000)
    assert found["steps"] == 2
    assert found["whole_ms"] == (10 + 11 + 1.5) / 2
    rows = {row["component"]: row for row in found["rows"]}
    assert list(rows) == [Component.HOST, Component.DETECTION, Component.CHILDREN]
    assert rows[Component.DETECTION]["mean_ms"] == 3
    assert rows[Component.DETECTION]["moved_bytes"] == 11_000
    assert rows[Component.DETECTION]["floor_ms"] == 1
    assert rows[Component.DETECTION]["times_floor"] == 3
    assert rows[Component.CHILDREN]["moved_bytes"] == 5 * 1100 / 2
    assert rows[Component.HOST]["floor_ms"] is None
    shares = sum(row["share"] for row in found["rows"]) + found["remainder_share"]
    assert shares == pytest.approx(1)
    assert found["remainder_ms"] == pytest.approx(0.75)
    assert found["floor_ms"] == pytest.approx(1.25)
    assert found["scored"] == {"base lenses": 10, "families": 0, "lenses": 2.5}
    prompt = component_table([run], "prompt", SIZES, lambda size: size)
    assert prompt["whole_ms"] == 7
    assert prompt["remainder_ms"] == 2


def test_the_first_of_the_ranking_is_what_lies_furthest_above_its_floor() -> None:
    rows = [
        {"component": Component.HOST.value, "mean_ms": 50.0, "floor_ms": None},
        {"component": Component.DETECTION.value, "mean_ms": 8.0, "floor_ms": 7.0},
        {"component": Component.EVENTS.value, "mean_ms": 2.0, "floor_ms": None},
        {"component": Component.CHILDREN.value, "mean_ms": 1.0, "floor_ms": 3.0},
    ]
    found = opportunities(rows)
    assert [one["component"] for one in found] == [
        Component.EVENTS,
        Component.DETECTION,
        Component.CHILDREN,
    ]
    assert [one["gain_ms"] for one in found] == [2, 1, 0]
    assert found[0]["gain_share"] == 2 / 11


def test_every_component_of_ours_has_a_remedy() -> None:
    assert REMEDIES.keys() == set(Component) - {Component.HOST}


@pytest.mark.parametrize("prewarm", [True, False])
def test_bytes_of_a_real_run_are_those_that_the_cache_counted(
    host: Host, pack: LensPack, prewarm: bool
) -> None:
    with Monitor(pack, prewarm=prewarm, hot_budget_bytes=4000, warm_budget_bytes=4000, clock=Clock()) as own:
        run = generate(host, TASK, own)
        sizes = Sizes.of(own.engine)
    assert run.cache is not None
    moved: Counter[Component] = Counter()
    for one in run.steps:
        moved.update(moved_bytes(one, sizes))
    assert moved[Component.PREWARM] + moved[Component.COLD] == run.cache.bytes_read > 0
    assert (moved[Component.PREWARM] > 0) == prewarm
    passes = sum(one.counts["base passes"] for one in run.steps)
    assert passes == TASK.new_tokens
    lens_bytes = sizes.first_bytes + sizes.head_bytes
    assert moved[Component.DETECTION] == passes * sizes.base_lenses * lens_bytes
    assert sizes.base_lenses * sizes.first_bytes == run.cache.base_bytes
    scored = sum(
        count for one in run.steps for name, count in one.counts.items() if name.startswith("lenses")
    )
    assert moved[Component.CHILDREN] == scored * lens_bytes > 0
    generation = component_table([run], "generation", sizes, lambda size: size / 1e6)
    assert generation["largest_gap"] < 1e-6
    assert len(steps_of([run], "generation")) == TASK.new_tokens - 1
    loaded = {row["origin"]: row for row in component_table([run], "prompt", sizes, float)["loading"]}
    assert loaded["read ahead"]["lenses"] == sum(
        one.counts.get("bytes prefetched", 0) for one in run.steps
    ) / (sizes.first_bytes)
    assert (loaded["cold"]["ms"] is None) == (loaded["cold"]["families"] == 0)


def test_what_a_device_copies_has_bytes_too() -> None:
    one = step("generation", {}, lenses_hot=3, lenses_warm=2, lenses_cold=1)
    assert Component.WARM not in moved_bytes(one, SIZES)
    assert moved_bytes(one, replace(SIZES, copies=True))[Component.WARM] == 3 * 1000


def test_a_compact_pack_reads_its_projection(tmp_path: Path) -> None:
    compact = make_pack(tmp_path / "compact", kind="compact", base_levels=(0,))
    with Monitor(compact) as monitor:
        sizes = Sizes.of(monitor.engine)
    assert compact.heads.projection is not None
    assert sizes.projection_bytes == compact.heads.projection.nbytes
    assert moved_bytes(step("generation", {}, base_passes=2), sizes)[Component.STATES] == (
        2 * sizes.projection_bytes
    )
