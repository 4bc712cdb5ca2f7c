"""The walk in one step equals the walk one lens at a time, whatever is hot; it runs here on a CPU.

Weights and states are small whole numbers and calibrations halves, so that every sum is exact in any order: logits are
equal to the last bit, and ties, also with the threshold, are many and are ties in every arithmetic.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.fx.experimental.proxy_tensor import make_fx

from lenses.concept import Hierarchy
from lenses.errors import BudgetError, PackIntegrityError
from lenses.lens import Heads, Lens
from runtime.device_walk import DeviceWalk, Pages, Walked, _Streams
from runtime.expansion import Expansion
from tests.packs import tree_nodes
from tests.reference import walk

D, R, H, G = 6, 4, 3, 2
KINDS = ["mlp", "linear", "compact"]
DTYPES = [torch.bfloat16, torch.float32, torch.int8]


@dataclass
class Lenses:
    """Random lenses in memory: what the reference asks of a pack, and a source of families."""

    hierarchy: Hierarchy
    heads: Heads
    first_layers: list[torch.Tensor]
    damaged: frozenset[int] = frozenset()
    reads: list[int] = field(default_factory=list)

    def read(self, family: int) -> torch.Tensor:
        self.reads.append(family)
        if family in self.damaged:
            raise PackIntegrityError(f"family {family} is damaged")
        return self.first_layers[family].clone()

    def lens(self, index: int) -> Lens:
        concept = self.hierarchy.concepts[index]
        width = self.heads.bias1.shape[1]
        rows = self.first_layers[concept.family][concept.row * width : (concept.row + 1) * width]
        return Lens.of(concept, rows, self.heads, index)


Draw = Callable[..., np.ndarray]


def whole_numbers(rng: np.random.Generator, most: int = 1) -> Draw:
    return lambda *shape: rng.integers(-most, most + 1, shape).astype(np.float32)


def normal_numbers(rng: np.random.Generator) -> Draw:
    return lambda *shape: rng.normal(size=shape).astype(np.float32)


def lenses(
    hierarchy: Hierarchy,
    draw: Draw,
    *,
    kind: str = "mlp",
    dtype: torch.dtype = torch.bfloat16,
    **changes: Any,
) -> Lenses:
    count, width = len(hierarchy), 1 if kind == "linear" else H
    later: dict[str, Any] = dict.fromkeys(("weight2", "bias2", "weight3", "bias3"))
    if kind != "linear":
        later = {
            "weight2": draw(count, G, H),
            "bias2": draw(count, G),
            "weight3": draw(count, G),
            "bias3": draw(count),
        }
    columns = R if kind == "compact" else D
    layers_FRC = [torch.from_numpy(draw(f.rows * width, columns)) for f in hierarchy.families]
    scale1 = None
    if dtype == torch.int8:
        layers_FRC = [(16 * layer).round() for layer in layers_FRC]
        scale1 = (np.abs(draw(count, width)).astype(np.float32) + 1) / 16
    heads = Heads(
        bias1=draw(count, width),
        **later,
        platt_slope=np.abs(draw(count)) + np.float32(0.5),
        platt_offset=draw(count) / 2,
        calibrated=np.ones(count, np.bool_),
        scale1=scale1,
        projection=draw(R, D) if kind == "compact" else None,
    )
    return Lenses(hierarchy, heads, [layer.to(dtype) for layer in layers_FRC], **changes)


def device_walk(
    found: Lenses, *, base_level: int = 0, top_k: int = 3, threshold: float = 0.5, **changes: Any
) -> DeviceWalk:
    expansion = Expansion(
        found.hierarchy, found.heads, top_k, threshold, changes.pop("max_level", found.hierarchy.depth - 1)
    )
    settings = {
        "columns": found.first_layers[0].shape[1],
        "dtype": found.first_layers[0].dtype,
        "device": "cpu",
        "hot_lenses": len(found.hierarchy),
        "warm_lenses": len(found.hierarchy),
        "positions": 4,
    }
    base = found.hierarchy.base_families(range(base_level + 1))
    return DeviceWalk(found.read, expansion, base, **(settings | changes))


def assert_equal(found: Lenses, one: Walked, state_D: torch.Tensor, error: float = 0.0, **asked: Any) -> None:
    """What a position got is what the walk one lens at a time gives, unless that walk was a close call."""
    expected = walk(found, state_D, **asked)  # type: ignore[arg-type]
    if error and expected.close_calls:
        return
    assert one.complete
    assert len(one.concepts) == len(set(one.concepts.tolist())) == len(one.logits)
    ids = [found.hierarchy.concepts[index].id for index in one.concepts]
    assert set(ids) == expected.logits.keys()
    most = error * max(1.0, max(map(abs, expected.logits.values())))
    for concept_id, logit in zip(ids, one.logits.tolist(), strict=True):
        assert abs(logit - expected.logits[concept_id]) <= most
    parents = [[found.hierarchy.families[f].parent for f in level] for level in one.opened]
    opened = [[found.hierarchy.concepts[p].id for p in level if p is not None] for level in parents]
    assert opened == expected.opened
    assert one.cut == expected.cut


def forest(rng: np.random.Generator, count: int) -> Hierarchy:
    """A random forest of up to five levels, whose ids order in no way that their places do."""
    names = [f"c{name:02d}" for name in rng.permutation(count)]
    levels: list[int] = []
    nodes: list[tuple[str, str, str | None]] = []
    for index in range(count):
        parent = int(rng.integers(-1, index)) if index and rng.random() < 0.9 else -1
        parent = parent if parent < 0 or levels[parent] < 4 else -1
        levels.append(levels[parent] + 1 if parent >= 0 else 0)
        nodes.append((names[index], "name", names[parent] if parent >= 0 else None))
    return Hierarchy.build(nodes)


@settings(deadline=None, max_examples=60)
@given(
    count=st.integers(2, 60),
    seed=st.integers(0, 1 << 30),
    top_k=st.integers(1, 6),
    threshold=st.sampled_from([0.0, 0.3, 0.5, 0.9]),
    kind=st.sampled_from(KINDS),
    dtype=st.sampled_from(DTYPES),
    data=st.data(),
)
def test_equal_to_one_lens_at_a_time_whatever_is_hot(
    count: int,
    seed: int,
    top_k: int,
    threshold: float,
    kind: str,
    dtype: torch.dtype,
    data: st.DataObject,
) -> None:
    rng = np.random.default_rng(seed)
    hierarchy, draw = forest(rng, count), whole_numbers(rng)
    found = lenses(hierarchy, draw, kind=kind, dtype=dtype)
    deepest = hierarchy.depth - 1
    base_level = data.draw(st.integers(0, deepest), label="base level")
    max_level = data.draw(st.integers(base_level, deepest), label="max level")
    largest = max(family.rows for family in hierarchy.families)
    hot = data.draw(st.integers(largest, len(hierarchy)), label="hot lenses")
    warm = data.draw(st.integers(0, len(hierarchy)), label="warm lenses")
    one = device_walk(
        found,
        base_level=base_level,
        top_k=top_k,
        threshold=threshold,
        max_level=max_level,
        hot_lenses=hot,
        warm_lenses=warm,
    )
    asked = {
        "base_levels": tuple(range(base_level + 1)),
        "top_k": top_k,
        "load_threshold": threshold,
        "max_level": max_level,
    }
    for _ in range(4):
        state_D = torch.from_numpy(draw(D))
        (walked,) = one.score(state_D[None]).walked
        if hot == len(hierarchy):
            assert walked.complete
        if walked.complete:
            assert_equal(found, walked, state_D, **asked)
        else:  # more is wanted at once than the arena holds, and what is missing is named
            wanted = {family for level in walked.opened for family in level}
            assert sum(hierarchy.families[family].rows for family in wanted) > hot
            assert walked.absent


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_faithful_with_numbers_of_any_size(kind: str, dtype: torch.dtype) -> None:
    draw = normal_numbers(np.random.default_rng(1))
    found = lenses(Hierarchy.build(tree_nodes((4, 3, 3, 2))), draw, kind=kind, dtype=dtype)
    one = device_walk(found, base_level=1, threshold=0.3)
    asked = {"base_levels": (0, 1), "top_k": 3, "load_threshold": 0.3}
    states_PD = torch.from_numpy(draw(24, D))
    certain = 0
    for start in range(0, 24, 4):
        for state_D, walked in zip(
            states_PD[start:], one.score(states_PD[start : start + 4]).walked, strict=False
        ):
            certain += not walk(found, state_D, **asked).close_calls  # type: ignore[arg-type]
            assert_equal(found, walked, state_D, error=1e-5, **asked)
    assert certain >= 20


@settings(deadline=None)
@given(
    logits=st.lists(
        st.floats(width=32, allow_nan=False) | st.sampled_from([0.0, -0.0, 1.0]), min_size=9, max_size=9
    ),
    seed=st.integers(0, 99),
    top_k=st.integers(1, 9),
    threshold=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_families_are_chosen_as_the_policy_chooses_them(
    logits: list[float], seed: int, top_k: int, threshold: float
) -> None:
    names = [f"c{name}" for name in np.random.default_rng(seed).permutation(9)]
    children: list[tuple[str, str, str | None]] = [(f"{name}-0", "name", name) for name in names[:7]]
    found = lenses(
        Hierarchy.build([*((name, "name", None) for name in names), *children]), lambda *s: -np.zeros(s, "f4")
    )
    policy = Expansion(
        found.hierarchy, replace(found.heads, platt_slope=np.ones(16, np.float32)), top_k, threshold, 1
    )
    one = device_walk(found, top_k=top_k, threshold=threshold)
    ids = one.step.base_ids
    scores = torch.tensor(logits, dtype=torch.float32)
    expected = policy.choose(ids.numpy().astype(np.int32), scores.numpy())
    family_PK, taken_PK, cut_P = one.step._choose(ids[None], scores[None], one.step.levels[0][0])
    assert family_PK[taken_PK].tolist() == list(expected.families)
    assert cut_P.tolist() == [expected.cut]


@pytest.fixture
def tree() -> Lenses:
    return lenses(Hierarchy.build(tree_nodes((3, 3, 3))), whole_numbers(np.random.default_rng(7), most=3))


def states(count: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(whole_numbers(np.random.default_rng(seed), most=3)(count, D))


def families(walked: Iterable[Walked]) -> set[int]:
    return {family for one in walked for level in one.opened for family in level}


def test_an_absent_family_is_reported_and_what_is_below_it_is_not(tree: Lenses) -> None:
    one = device_walk(tree, threshold=0.0)
    (walked,) = one.read(one.submit(states(1)))
    assert not walked.complete
    assert walked.opened == (walked.absent,)
    assert len(walked.absent) == 3
    assert walked.concepts.tolist() == [
        i for i, concept in enumerate(tree.hierarchy.concepts) if concept.level == 0
    ]
    first, *others = walked.absent
    assert one.bring([first]) == {first: "cold"}
    (again,) = one.read(one.submit(states(1)))
    assert again.absent == tuple(others)
    assert set(again.concepts) - set(walked.concepts) == {
        i for i, concept in enumerate(tree.hierarchy.concepts) if concept.family == first
    }


def test_what_was_not_hot_is_said_and_a_second_call_finds_it_hot(tree: Lenses) -> None:
    one = device_walk(tree, threshold=0.0)
    first = one.score(states(2))
    assert set(first.origin.values()) == {"cold"}
    assert first.origin.keys() == families(first.walked)
    assert one.counts["steps"] == 3  # the base alone, one level more, all
    second = one.score(states(2))
    assert (second.origin, one.counts["steps"]) == ({}, 4)
    assert one.counts["reads"] == one.counts["promotions"] == len(first.origin)


def test_a_family_that_gave_way_comes_back_from_warm_pages_without_a_read(tree: Lenses) -> None:
    one = device_walk(tree, threshold=0.0, hot_lenses=3)
    assert one.bring([1]) == {1: "cold"}
    assert one.bring([2]) == {2: "cold"}
    reads = len(tree.reads)
    assert one.bring([1]) == {1: "warm"}
    assert len(tree.reads) == reads
    assert one.counts["evictions"] == 2


def test_families_brought_together_do_not_push_each_other_out(tree: Lenses) -> None:
    one = device_walk(tree, threshold=0.0, hot_lenses=7)
    assert list(one.bring([4, 2, 9])) == [4, 2]
    assert list(one.bring([9], spare=[2, 4])) == []
    assert list(one.bring([9])) == [9]
    assert one.bring([2]) == {}  # used last of the two, so it stayed


def test_reading_a_result_counts_as_use(tree: Lenses) -> None:
    one = device_walk(tree, top_k=1, threshold=0.0, max_level=1, hot_lenses=6)
    (walked,) = one.score(states(1)).walked
    ((wanted,),) = walked.opened
    others = [family.index for family in tree.hierarchy.families if family.index not in (0, wanted)]
    one.bring(others[:1])
    one.score(states(1))
    one.bring(others[1:2])
    assert one.bring([wanted]) == {}


def test_a_family_that_cannot_be_read_is_named_and_the_walk_goes_on(tree: Lenses) -> None:
    tree.damaged = frozenset({int(tree.hierarchy.opens[tree.hierarchy.index("c1")])})
    one = device_walk(tree, threshold=0.0, top_k=9)
    (walked,) = one.score(states(1)).walked
    assert walked.complete
    assert set(walked.failed) == tree.damaged == one.quarantined.keys()
    below = [concept.id for concept in tree.hierarchy.concepts if not concept.id.startswith("c1-")]
    assert sorted(tree.hierarchy.concepts[index].id for index in walked.concepts) == sorted(below)
    reads = len(tree.reads)
    one.score(states(1, seed=1))
    assert not tree.damaged & set(tree.reads[reads:])


def test_lanes_that_run_out_are_said_and_what_was_scored_is_right(tree: Lenses) -> None:
    one, wide = (device_walk(tree, threshold=0.0, lens_budget=budget) for budget in (7, None))
    (walked,), (whole,) = (each.score(states(1)).walked for each in (one, wide))
    assert whole.complete
    assert not walked.complete
    assert walked.opened == whole.opened[:1]
    assert walked.over_budget == whole.opened[0][2:]
    logits = dict(zip(whole.concepts.tolist(), whole.logits.tolist(), strict=True))
    assert {i: logits[i] for i in walked.concepts.tolist()} == dict(
        zip(walked.concepts.tolist(), walked.logits.tolist(), strict=True)
    )
    assert len(walked.concepts) == 3 + 6


@pytest.mark.parametrize("room", [{"hot_lenses": 2}, {"lens_budget": 2}])
def test_room_that_the_largest_family_does_not_fit_is_refused(tree: Lenses, room: dict[str, int]) -> None:
    with pytest.raises(BudgetError, match=r"2.* expected at least 3"):
        device_walk(tree, **room)


def test_a_position_gets_the_same_whatever_stands_beside_it(tree: Lenses) -> None:
    together = device_walk(tree).score(states(4)).walked
    for row, beside in enumerate(together):
        (alone,) = device_walk(tree).score(states(4)[row : row + 1]).walked
        assert (alone.opened, alone.logits.tobytes()) == (beside.opened, beside.logits.tobytes())


def test_results_wait_in_the_ring_until_they_are_read(tree: Lenses) -> None:
    one = device_walk(tree, results=3)
    one.bring(family.index for family in tree.hierarchy.families[1:])
    at_once = [one.read(one.submit(states(2, seed)))[1].logits.tobytes() for seed in range(5)]
    steps = [one.submit(states(2, seed)) for seed in range(3)]
    with pytest.raises(RuntimeError, match="all 3 results wait"):
        one.submit(states(1))
    assert all(one.ready(step) for step in steps)
    late = [one.read(steps[0])]
    steps.append(one.submit(states(2, 3)))
    late += [one.read(step) for step in steps[1:]]
    assert [walked[1].logits.tobytes() for walked in late] == at_once[:4]
    with pytest.raises(KeyError):
        one.read(steps[0])


def test_a_family_that_gives_way_does_not_change_results_that_wait(tree: Lenses) -> None:
    one = device_walk(tree, threshold=0.0, top_k=1, max_level=1, hot_lenses=3)
    (expected,) = one.score(states(1)).walked
    step = one.submit(states(1))
    one.bring(
        family.index for family in tree.hierarchy.families[1:] if family.index not in expected.opened[0]
    )
    (waited,) = one.read(step)
    assert waited.logits.tobytes() == expected.logits.tobytes()
    (after,) = one.read(one.submit(states(1)))
    assert after.absent == expected.opened[0]


def test_all_steps_read_and_write_the_same_memory(tree: Lenses) -> None:
    one = device_walk(tree, threshold=0.0, top_k=1, hot_lenses=6)
    one.capture()  # nothing to record here; steps go on through the same buffers

    def addresses() -> list[int]:
        tensors = [one.states_PD, one.packed_PW, *vars(one.step).values()]
        return [tensor.data_ptr() for tensor in tensors if torch.is_tensor(tensor)]

    before = addresses()
    assert len(before) > 8
    for seed in range(6):
        one.bring([1 + 2 * seed])
        one.score(states(2, seed))
    assert one.counts["evictions"] > 4
    assert addresses() == before


def test_the_step_is_one_graph_that_decides_nothing_in_python(tree: Lenses) -> None:
    """A graph traced on one state and one set of hot families is right for all others."""
    one = device_walk(tree, threshold=0.0, top_k=1, positions=2, hot_lenses=6)
    traced = make_fx(one.step, tracing_mode="fake", _allow_non_fake_inputs=True)(states(2))
    operations = {str(node.target) for node in traced.graph.nodes if node.op == "call_function"}
    # These would wait for the device, have shapes that depend on it, or bring a number to it from the host.
    refused = ("_local_scalar", "nonzero", "masked_select", "scalar_tensor", "lift_fresh", "where.Scalar")
    assert [name for name in operations if any(word in name for word in refused)] == []
    compiled = torch.compile(one.step, fullgraph=True, dynamic=False, backend="eager")
    different = set()
    for seed in range(8):
        one.score(states(1, seed))  # brings what the first of the two wants
        packed_PW = one.step(states(2, seed))
        assert torch.equal(traced(states(2, seed)), packed_PW)
        with torch._dynamo.config.patch(error_on_recompile=True):
            assert torch.equal(compiled(states(2, seed)), packed_PW)
        different.add(packed_PW.numpy().tobytes())
    assert len(different) == 8


class Late(_Streams):
    """Events that pass when the test says so, and what waited for which: the order that CUDA would keep."""

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"))
        self.marked = 0
        self.reached = 0
        self.waits: list[tuple[str, int]] = []

    def mark(self) -> Any:
        self.marked += 1
        return self.marked

    def passed(self, event: Any) -> bool:
        return event <= self.reached

    def wait(self, event: Any) -> None:
        self.reached = max(self.reached, event)

    def follow(self, event: Any) -> None:
        self.waits.append(("step", event))

    @contextmanager
    def copying(self, *, after: Any) -> Iterator[None]:
        self.waits.append(("copy", after))
        yield


def late_walk(tree: Lenses, **changes: int) -> tuple[DeviceWalk, Late]:
    one, late = device_walk(tree, threshold=0.0, **changes), Late()
    one._streams, one._last = late, late.mark()
    return one, late


def test_copies_come_after_the_last_step_and_the_next_step_after_them(tree: Lenses) -> None:
    one, late = late_walk(tree)
    first = one.submit(states(1))
    assert late.waits == []  # nothing was brought yet
    assert not one.ready(first)
    one.bring([1, 2])
    assert late.waits == [("copy", 2), ("copy", 2)]  # 2 is marked at the end of the step
    second = one.submit(states(1))
    assert late.waits[2:] == [("step", 4)]  # 3 and 4 are marked at the end of the copies
    one.submit(states(1))
    assert late.waits[3:] == []
    late.reached = 2
    assert one.ready(first)
    assert not one.ready(second)
    one.read(second)
    assert late.reached == 5


def test_pages_that_a_copy_still_reads_are_not_written(tree: Lenses) -> None:
    one, late = late_walk(tree, warm_lenses=3)
    one.bring([1])
    one.bring([2])  # its copy is made from what was read, since the copy of 1 may still be under way
    assert (1 in one._warm, 2 in one._warm) == (True, False)
    late.reached = late.marked
    one.bring([3])
    assert (1 in one._warm, 3 in one._warm) == (False, True)


@given(
    requests=st.lists(st.tuples(st.integers(0, 8), st.sets(st.integers(0, 8), max_size=4)), max_size=40),
    slots=st.integers(1, 14),
)
def test_pages_lose_no_slot_and_keep_the_families_used_last(
    requests: list[tuple[int, set[int]]], slots: int
) -> None:
    pages = Pages(torch.zeros(slots, 1, 1))
    here: list[int] = []  # longest unused first
    for family, spare in requests:
        rows = 1 + family % 5
        if family in here:
            here = [*(one for one in here if one != family), family]
            assert all(lens == family for lens in pages.use(family))
            continue
        free = slots - sum(1 + one % 5 for one in here)
        victims: list[int] = []
        for one in here:
            if free >= rows:
                break
            if one not in spare:
                victims.append(one)
                free += 1 + one % 5
        assert pages.make_room(rows, spare) == (victims if free >= rows else None)
        if free >= rows:
            pages.put(family, [torch.full((1, 1), float(family))] * rows)
            here = [*(one for one in here if one not in victims), family]
    for family in range(9):
        assert (family in pages) == (family in here)
    assert all(lens == family for family in here for lens in pages.use(family))
