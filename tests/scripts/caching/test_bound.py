"""The bound: never below what can be reached, and not far above it."""

import pytest
from caching.bound import most_hits
from caching.orders import OPTIMA, ORDERS, Families
from caching.replay import replay
from caching.traces import Step
from hypothesis import given
from hypothesis import strategies as st

from tests.scripts.caching import traces as small
from tests.scripts.caching.traces import families, singles, traces


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=9),
    st.lists(st.integers(1, 3), min_size=4, max_size=4),
    st.integers(3, 9),
)
def test_nothing_exceeds_it(requests: list[int], sizes: list[int], budget: int) -> None:
    bound = most_hits(singles(requests), families(sizes), budget, "generation", iterations=20)
    assert small.most_hits(requests, sizes, budget) <= bound * len(requests) + 1e-9


@given(traces())
def test_no_replay_exceeds_it(trace: tuple[list[Step], Families, int]) -> None:
    steps, some, budget = trace
    bound = most_hits(steps, some, budget, "generation", iterations=20)
    for name in (*OPTIMA, "turns"):
        one = replay(steps, some, ORDERS[name](some, steps), budget)
        assert one.phases["generation"].hit_rate <= bound + 1e-9
    assert bound <= 1 + 1e-9


def test_of_one_size_it_is_close_to_the_optimum() -> None:
    requests = [n % 7 for n in range(200)]
    steps, some = singles(requests), families([1] * 7)
    best = replay(steps, some, ORDERS["belady"](some, steps), 4).phases["generation"].hit_rate
    # A family that only passes through takes a place, which the bound does not see: it is that of one place more.
    more = replay(steps, some, ORDERS["belady"](some, steps), 5).phases["generation"].hit_rate
    bound = most_hits(steps, some, 4, "generation")
    assert best <= bound <= more + 0.01


def test_with_room_for_all_it_is_the_share_of_later_requests() -> None:
    steps, some = singles([0, 1, 0, 1, 2]), families([1] * 3)
    assert most_hits(steps, some, 3, "generation") == pytest.approx(2 / 5, abs=1e-6)
    assert most_hits(singles([0, 1]), some, 3, "generation") == 0
    assert most_hits(steps, some, 3, "prompt") == 1
