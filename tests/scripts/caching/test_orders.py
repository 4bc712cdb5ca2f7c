"""Orders by hand: what turns keeps where LRU drops it, and how each ranks."""

import numpy as np
import pytest
from caching.orders import BEFORE, EVERYWHERE, OPTIMA, ORDERS, SERVED, Ageing, Families, Turns
from caching.replay import replay
from caching.traces import Call, Step

from tests.scripts.caching.traces import families, singles, step


def hits(name: str, steps: list[Step], some: Families, budget: int) -> int:
    return replay(steps, some, ORDERS[name](some, steps), budget).phases["generation"].hits


def test_of_a_scan_that_goes_round_lru_keeps_nothing_and_turns_keeps_what_fits() -> None:
    # Two levels of two families each, asked for by every position; three fit.
    some = families([1] * 4, [1, 1, 2, 2])
    steps = [step([0, 1], [2, 3]) for _ in range(10)]
    assert hits("lru plain", steps, some, 3) == 0
    # One place is what the others pass through.
    assert hits("turns", steps, some, 3) == 9 * 2
    assert hits("belady", steps, some, 3) > 9 * 2
    assert hits("mru", steps, some, 3) > hits("lru", steps, some, 3)


def test_of_one_age_the_largest_leaves_first_and_of_two_the_older() -> None:
    some = families([1, 3, 2, 1], [1, 1, 1, 1])
    order, blind = Turns(some), ORDERS["turns without size"](some, [])
    for one in (order, blind):
        for walked in (step([3]), step([0, 1, 2])):
            one.ask(walked.calls[0])
    assert np.argsort(order.rank_F).tolist() == [3, 1, 2, 0]
    assert np.argsort(blind.rank_F).tolist() == [3, 2, 1, 0]


def test_an_age_is_counted_in_turns_of_the_familys_own_level() -> None:
    order = Turns(families([1] * 4, [1, 1, 2, 2]))
    for walked in (step([0, 1], [2]), step([0]), step([0])):
        for call in walked.calls:
            order.ask(call)
    assert order.age_F.tolist() == [0, 2, 0, 1]
    assert np.argmin(order.rank_F) == 1


def test_what_few_positions_of_a_prompt_wanted_is_older() -> None:
    order = Turns(families([1] * 3))
    order.ask(Call(1, (0, 1), (4, 1), (0.0, 0.0)))
    assert order.age_F.tolist() == [0, 0.75, 1]


def test_lfu_keeps_what_was_often_used_and_ageing_forgets_it() -> None:
    often, later = [0] * 12, [1, 2] * 11
    steps, some = singles(often + later + [0]), families([1] * 3)
    assert replay(steps, some, ORDERS["lfu"](some, steps), 2).phases["generation"].hits == 11 + 1
    ageing = Ageing(some)
    assert replay(steps, some, ageing, 2).phases["generation"].hits > 11 + 1


def test_ageing_may_go_on_for_ever() -> None:
    order = Ageing(families([1, 1]))
    for _ in range(20_000):
        order.begin(step([0]))
        order.serve(0, 0.0, True)
    assert np.isfinite(order.rank_F).all()


def test_scores_and_sizes_weigh_where_they_should() -> None:
    some = families([2, 1, 1])
    asked = Call(1, (0, 1, 2), (1, 1, 1), (5.0, 5.0, -5.0))
    wanted, probable = ORDERS["wanted a byte"](some, []), ORDERS["probable a byte"](some, [])
    for order in (wanted, probable):
        order.ask(asked)
    assert wanted.rank_F.tolist() == [0.5, 1, 1]
    assert np.argsort(probable.rank_F).tolist() == [2, 0, 1]


def test_gdsf_lets_what_is_new_overtake_what_is_old() -> None:
    some = families([1] * 3)
    steps = singles([0, 0, 0, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2])
    assert hits("gdsf", steps, some, 2) > hits("lfu", steps, some, 2)


def test_lru_2_is_not_fooled_by_a_single_use() -> None:
    some = families([1] * 4)
    steps = singles([0, 0, 1, 1, 2, 0, 3, 1])
    assert hits("lru-2", steps, some, 2) > hits("lru", steps, some, 2)


def test_belady_by_size_gives_a_large_family_up_for_two_small_ones() -> None:
    some = families([2, 1, 1])
    steps = singles([1, 2, 0, 1, 2, 0, 1, 2, 0])
    assert hits("belady by size", steps, some, 3) >= hits("belady", steps, some, 3)


@pytest.mark.parametrize("name", [BEFORE, SERVED, *OPTIMA])
def test_what_the_report_compares_is_replayed_at_every_budget(name: str) -> None:
    assert name in EVERYWHERE
