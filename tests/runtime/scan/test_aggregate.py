"""One number out of many positions, as the slow, obvious way has it."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lenses.concept import Hierarchy
from lenses.errors import ConfigError
from runtime.scan.aggregate import Aggregation, Course

NAMES = ["mean", "max", "ema:0.9", "ema:0.25"]
HIERARCHY = Hierarchy.build([(id, id, None) for id in "dacb"])


def slowly(name: str, values: list[float]) -> float:
    if name == "mean":
        return sum(values) / len(values)
    if name == "max":
        return max(values)
    decay, ema = float(name.removeprefix("ema:")), values[0]
    for value in values[1:]:
        ema = decay * ema + (1 - decay) * value
    return ema


positions = st.lists(st.dictionaries(st.integers(0, 3), st.floats(0, 1, width=32), max_size=4), max_size=12)


@settings(max_examples=60)
@pytest.mark.parametrize("name", NAMES)
@given(positions)
def test_it_is_what_the_reference_says_over_the_positions_with_a_score(
    name: str, told: list[dict[int, float]]
) -> None:
    course = Course(Aggregation.parse(name), 4)
    for scores in told:
        concepts = sorted(scores)
        course.add(np.array(concepts, np.int32), np.array([scores[c] for c in concepts], np.float32))
    of = {c: [scores[c] for scores in told if c in scores] for c in range(4)}
    expected = {c: slowly(name, values) for c, values in of.items() if values}
    found = course.values()
    assert {c: pytest.approx(found[c]) for c in expected} == expected
    assert course.count_N.tolist() == [len(of[c]) for c in range(4)]
    share = {c: 1.0 if name == "max" else len(of[c]) / len(told) for c in expected}
    order = course.strongest(HIERARCHY, None)
    weights = [expected[c] * share[c] for c in order]
    assert sorted(order) == sorted(expected)
    assert all(a >= b - 1e-9 for a, b in pairwise(weights))
    assert course.strongest(HIERARCHY, 2) == order[:2]


def test_ties_go_by_id() -> None:
    course = Course(Aggregation.parse("max"), 4)
    course.add(np.arange(4, dtype=np.int32), np.full(4, 0.5, np.float32))
    assert [HIERARCHY.concepts[c].id for c in course.strongest(HIERARCHY, None)] == list("abcd")


@pytest.mark.parametrize("name", NAMES)
def test_an_aggregation_is_its_name(name: str) -> None:
    assert str(Aggregation.parse(name)) == name


@pytest.mark.parametrize("name", ["median", "ema", "ema:1.5", "ema:0.0", "ema:x", ""])
def test_another_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="give mean, max, or ema"):
        Aggregation.parse(name)
