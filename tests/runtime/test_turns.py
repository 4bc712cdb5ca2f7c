"""The order of leaving against the slow, obvious one, and by hand."""

from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.turns import Turns

FAMILIES = 6


class PlainTurns:
    """Ages the slow way: every call goes over all families."""

    def __init__(self, levels: Sequence[int], sizes: Sequence[int]) -> None:
        self.levels, self.sizes = levels, sizes
        self.ages = [0.0] * len(levels)

    def call(self, positions: dict[int, int], new: Sequence[int]) -> None:
        turned = {self.levels[family] for family in new}
        for family, level in enumerate(self.levels):
            self.ages[family] += level in turned
        for family, count in positions.items():
            self.ages[family] = min(self.ages[family], 1 - count / max(positions.values()))

    def expect(self, families: Sequence[int]) -> None:
        for family in families:
            self.ages[family] = 0.0

    def leaving(self, candidates: Sequence[int]) -> list[int]:
        return sorted(candidates, key=lambda family: (-self.ages[family], -self.sizes[family], family))


def leaving(turns: Turns, candidates: Sequence[int]) -> list[int]:
    may_leave_F = np.zeros(len(turns), np.bool_)
    may_leave_F[list(candidates)] = True
    return list(turns.leaving(may_leave_F))


some = st.lists(st.integers(0, FAMILIES - 1), unique=True)
# Of four positions: quarters are exact, so that the slow sums are too.
calls = st.tuples(st.dictionaries(st.integers(0, FAMILIES - 1), st.sampled_from([1, 2, 4])), some | st.none())


@settings(max_examples=200, deadline=None)
@given(
    levels=st.lists(st.integers(0, 3), min_size=FAMILIES, max_size=FAMILIES),
    sizes=st.lists(st.integers(1, 3), min_size=FAMILIES, max_size=FAMILIES),
    told=st.lists(calls | some, max_size=12),
    candidates=some,
)
def test_families_leave_in_the_order_of_ages_counted_one_by_one(
    levels: list[int],
    sizes: list[int],
    told: list[tuple[dict[int, int], list[int] | None] | list[int]],
    candidates: list[int],
) -> None:
    turns, plain = Turns(levels, sizes), PlainTurns(levels, sizes)
    for one in told:
        if isinstance(one, list):
            turns.expect(one)
            plain.expect(one)
        else:
            positions, asked = one
            new = None if asked is None else [family for family in asked if family in positions]
            turns.call(positions, new)
            plain.call(positions, list(positions) if new is None else new)
        assert leaving(turns, range(FAMILIES)) == plain.leaving(range(FAMILIES))
    assert leaving(turns, candidates) == plain.leaving(candidates)


def test_an_age_is_counted_in_turns_of_the_familys_own_level() -> None:
    turns = Turns([1, 1, 2, 2], [1] * 4)
    for family in (2, 3, 0, 1, 0, 1):
        turns.call({family: 1})
    # 2 is one turn of its level old, as 0 is of its own, though four calls have gone by since; 3 is of the last turn.
    assert leaving(turns, range(4)) == [0, 2, 1, 3]


def test_of_one_age_the_largest_leaves_first() -> None:
    turns = Turns([1] * 3, [1, 3, 2])
    turns.call(dict.fromkeys(range(3), 1))
    assert leaving(turns, range(3)) == [1, 2, 0]


def test_what_few_positions_of_a_prompt_wanted_is_older() -> None:
    turns = Turns([1, 1, 1, 2], [1, 1, 1, 9])
    turns.call({3: 1})
    turns.call({0: 4, 1: 1, 2: 3})
    assert leaving(turns, range(4)) == [1, 2, 3, 0]


def test_who_asks_once_more_is_no_turn_and_makes_nothing_older() -> None:
    turns = Turns([1, 1], [1, 2])
    turns.call({0: 1})
    turns.call({1: 1})
    turns.call({1: 1}, [])
    assert leaving(turns, [0, 1]) == [0, 1]
    turns.call({0: 4, 1: 1}, [])
    assert leaving(turns, [0, 1]) == [1, 0]


def test_ages_are_equal_however_many_turns_their_levels_had() -> None:
    # In floating point a third of a turn is not the same after three turns as after three hundred.
    turns = Turns([1, 1, 2, 2], [1, 1, 2, 1])
    for _ in range(300):
        turns.call({0: 1})
    turns.call({0: 3, 1: 1})
    turns.call({2: 1, 3: 3})
    assert leaving(turns, range(4))[:2] == [2, 1]
