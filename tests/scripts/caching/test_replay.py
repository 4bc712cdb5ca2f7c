"""Replays against the real cache, against the optimum by trying everything, and against what must always hold."""

import pytest
from caching.orders import COMMON, ORDERS, SERVED, Families, LeastRecentPlain
from caching.replay import Replayed, replay, through_cache
from caching.traces import Step
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.scripts.caching.traces import families, most_hits, singles, step, traces

UNIT = 64
"""Bytes of a family of size 1."""
REQUESTS = st.lists(st.integers(0, 3), min_size=1, max_size=9)


def counts(one: Replayed) -> list[tuple[int, int]]:
    return [(phase.requests, phase.hits) for phase in one.phases.values()]


@settings(max_examples=50, deadline=None)
@given(traces())
def test_the_served_order_counts_what_the_real_cache_counts(trace: tuple[list[Step], Families, int]) -> None:
    steps, small, budget = trace
    some = families([int(size) * UNIT for size in small.bytes_F], list(small.level_F))
    one = replay(steps, some, ORDERS[SERVED](some, steps), budget * UNIT)
    stats = through_cache(steps, some, [], budget * UNIT, 0)
    found = [(phase.requests, phase.hot_hits) for phase in (stats.prompt, stats.generation)]
    assert counts(one) == found
    assert one.reads == stats.reads
    assert sum(phase.bytes_read for phase in one.phases.values()) == stats.bytes_read
    assert one.peak_bytes == stats.hot_peak_bytes


def test_the_order_of_before_counts_something_else() -> None:
    """The control: that the counts are equal says something."""
    some = families([UNIT] * 3, [1, 2, 3])
    steps = [step([0], [1], [2]) for _ in range(10)]
    counted = through_cache(steps, some, [], 2 * UNIT, 0)
    assert counted.reads == replay(steps, some, ORDERS[SERVED](some, steps), 2 * UNIT).reads == 30 - 9
    assert replay(steps, some, ORDERS[COMMON](some, steps), 2 * UNIT).reads == 30


@pytest.mark.parametrize("name", ORDERS)
@settings(max_examples=30, deadline=None)
@given(trace=traces(), near=st.booleans())
def test_whatever_the_order_nothing_is_counted_twice_and_the_budget_holds(
    name: str, trace: tuple[list[Step], Families, int], near: bool
) -> None:
    steps, some, budget = trace
    one = replay(steps, some, ORDERS[name](some, steps), budget, near=near)
    asked = dict.fromkeys(one.phases, 0)
    for walked in steps:
        asked[walked.phase] += sum(sum(call.counts) for call in walked.calls)
    for phase, found in one.phases.items():
        assert found.requests == asked[phase]
        assert found.requests == found.hits + found.reads
    assert one.peak_bytes <= budget
    assert one.ahead.used <= one.ahead.reads
    assert near or one.ahead.reads == 0
    if not near:
        first = {family for walked in steps for call in walked.calls for family in call.families}
        assert one.reads >= len(first)


@settings(max_examples=50, deadline=None)
@given(REQUESTS, st.integers(1, 4))
def test_belady_is_optimal_where_all_have_one_size(requests: list[int], budget: int) -> None:
    some, steps = families([1] * 4), singles(requests)
    best = most_hits(requests, [1] * 4, budget)
    for name in ORDERS:
        hits = replay(steps, some, ORDERS[name](some, steps), budget).phases["generation"].hits
        assert hits <= best
        if name.startswith("belady"):
            assert hits == best


@settings(max_examples=50, deadline=None)
@given(REQUESTS, st.lists(st.integers(1, 3), min_size=4, max_size=4), st.integers(3, 9))
def test_no_order_exceeds_the_optimum_of_unequal_sizes(
    requests: list[int], sizes: list[int], budget: int
) -> None:
    some, steps = families(sizes), singles(requests)
    best = most_hits(requests, sizes, budget)
    for make in ORDERS.values():
        assert replay(steps, some, make(some, steps), budget).phases["generation"].hits <= best


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=40), st.integers(1, 5))
def test_lru_with_more_room_holds_what_it_held_with_less(requests: list[int], budget: int) -> None:
    some, steps = families([1] * 6), singles(requests)
    less, more = (
        replay(steps, some, LeastRecentPlain(some), room).phases["generation"].hits
        for room in (budget, budget + 1)
    )
    assert less <= more


def test_fifo_need_not_gain_by_room() -> None:
    """Belady's anomaly: the control for the property of LRU."""
    steps, some = singles([0, 1, 2, 3, 0, 1, 4, 0, 1, 2, 3, 4]), families([1] * 5)
    hits = [
        replay(steps, some, ORDERS["fifo"](some, steps), room).phases["generation"].hits for room in (3, 4)
    ]
    assert hits == [3, 2]


def test_what_the_call_still_wants_is_spared_and_textbook_lru_spares_nothing() -> None:
    some = families([1] * 3)
    steps = [step([0]), step([1]), step([2, 0])]
    assert replay(steps, some, ORDERS["lru"](some, steps), 2).phases["generation"].hits == 1
    assert replay(steps, some, ORDERS["lru plain"](some, steps), 2).phases["generation"].hits == 0


def test_a_near_miss_read_ahead_is_used_wasted_or_left_where_it_would_push_out_what_is_wanted() -> None:
    some = families([1] * 4)
    steps = [step([0], near=[1, 2]), step([1]), step([0, 1], near=[3])]
    one = replay(steps, some, ORDERS["lru"](some, steps), 2, near=True)
    # 2 and 3 find no room: both places are wanted, or read ahead themselves.
    assert (one.ahead.reads, one.ahead.used, one.reads) == (1, 1, 2)
    plainly = replay(steps, some, ORDERS["lru"](some, steps), 2)
    assert plainly.phases["generation"].hits + 1 == one.phases["generation"].hits
    wasted = replay([step([0], near=[1]), step([0])], some, ORDERS["lru"](some, steps), 2, near=True)
    assert (wasted.ahead.reads, wasted.ahead.used) == (1, 0)


def test_several_positions_of_a_call_miss_once() -> None:
    some = families([1, 1])
    prompt = step([0], phase="prompt")
    (call,) = prompt.calls
    many = Step(0, "prompt", (type(call)(1, (0,), (5,), (0.0,)),))
    one = replay([many], some, ORDERS["lru"](some, [many]), 1)
    assert counts(one) == [(5, 4), (0, 0)]
