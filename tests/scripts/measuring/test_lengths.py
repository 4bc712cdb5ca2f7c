"""Fixed cost and cost an item are found again."""

import numpy as np
import pytest
from measuring.lengths import two_lengths

from lenses.errors import ConfigError


def test_both_parts_of_a_cost_are_found_within_their_intervals() -> None:
    rng = np.random.default_rng(0)
    short, long = (230 + 4.0 * items + rng.normal(0, 2, 30) for items in (10, 200))
    found = two_lengths(short, long, short_items=10, long_items=200)
    assert found.fixed_ms.low <= 230 <= found.fixed_ms.high
    assert found.per_item_ms.low <= 4 <= found.per_item_ms.high
    assert found.expected_ms(50) == pytest.approx(430, abs=3)
    assert found.expected_ms(10) == pytest.approx(np.median(short))
    assert found.expected_ms(200) == pytest.approx(np.median(long))
    assert found.to_json()["fixed_ms"] == [found.fixed_ms.value, found.fixed_ms.low, found.fixed_ms.high]


@pytest.mark.parametrize(("short", "long", "runs"), [(10, 10, 3), (20, 10, 3), (10, 20, 2)])
def test_lengths_that_say_nothing_are_refused(short: int, long: int, runs: int) -> None:
    with pytest.raises(ConfigError, match="two lengths"):
        two_lengths(np.ones(3), np.ones(runs), short_items=short, long_items=long)
