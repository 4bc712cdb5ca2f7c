"""When bytes arrive on a slow link."""

import pytest
from serving.link import Direction


def test_a_delay_is_added_to_everything() -> None:
    way = Direction(0.5, None)
    assert [way.arrives_s(10**9, now) for now in (1.0, 1.0, 2.0)] == [1.5, 1.5, 2.5]


def test_bytes_queue_for_the_width() -> None:
    way = Direction(0.5, 100.0)
    assert way.arrives_s(100, 0.0) == pytest.approx(1.5)
    assert way.arrives_s(100, 0.0) == pytest.approx(2.5), "behind the first"
    assert way.arrives_s(100, 9.0) == pytest.approx(10.5), "the link was idle"
