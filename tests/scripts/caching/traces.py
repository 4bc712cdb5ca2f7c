"""Small traces by hand and by hypothesis, and the best that any eviction can do on them."""

from collections.abc import Sequence
from functools import cache
from itertools import combinations

import numpy as np
from caching.orders import Families
from caching.traces import Call, Step
from hypothesis import strategies as st


def families(sizes: Sequence[int], levels: Sequence[int] | None = None) -> Families:
    """Families of these sizes, all of level 1 unless levels are given."""
    return Families(np.array(sizes, np.float64), np.array(levels or [1] * len(sizes)))


def step(
    *calls: Sequence[int], phase: str = "generation", session: int = 0, near: Sequence[int] = ()
) -> Step:
    """A walk that asks for these families, a call a level."""
    return Step(
        session,
        phase,
        tuple(
            Call(level, tuple(wanted), (1,) * len(wanted), (0.0,) * len(wanted))
            for level, wanted in enumerate(calls, start=1)
        ),
        tuple(near),
    )


def singles(requests: Sequence[int]) -> list[Step]:
    """One family a step."""
    return [step([family]) for family in requests]


def most_hits(requests: Sequence[int], sizes: Sequence[int], budget: int) -> int:
    """The optimum, by trying every eviction: each family asked for must be there when it is served."""

    @cache
    def best(at: int, here: frozenset[int]) -> int:
        if at == len(requests):
            return 0
        family = requests[at]
        if family in here:
            return 1 + best(at + 1, here)
        kept = (
            frozenset(some) for count in range(len(here) + 1) for some in combinations(sorted(here), count)
        )
        room = budget - sizes[family]
        return max(best(at + 1, some | {family}) for some in kept if sum(sizes[f] for f in some) <= room)

    return best(0, frozenset())


@st.composite
def traces(draw: st.DrawFn, most_families: int = 7, most_steps: int = 25) -> tuple[list[Step], Families, int]:
    """Steps over families of unequal sizes and levels, some for several positions, and a budget that may be tight."""
    count = draw(st.integers(2, most_families))
    sizes = draw(st.lists(st.integers(1, 5), min_size=count, max_size=count))
    levels = draw(st.lists(st.integers(1, 3), min_size=count, max_size=count))
    budget = draw(st.integers(max(sizes), sum(sizes)))
    steps = []
    for _ in range(draw(st.integers(1, most_steps))):
        wanted = draw(st.lists(st.integers(0, count - 1), unique=True))
        positions = {family: draw(st.integers(1, 3)) for family in wanted}
        calls = []
        for level in sorted({levels[family] for family in wanted}):
            some = tuple(family for family in wanted if levels[family] == level)
            odds = tuple(float(draw(st.integers(-3, 3))) for _ in some)
            calls.append(Call(level, some, tuple(positions[family] for family in some), odds))
        near = draw(st.lists(st.integers(0, count - 1), unique=True))
        phase = draw(st.sampled_from(["prompt", "generation"]))
        steps.append(Step(0, phase, tuple(calls), tuple(f for f in near if f not in wanted)))
    return steps, families(sizes, levels), budget
