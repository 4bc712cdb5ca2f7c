"""Timings as tables: what has no floor says so, what did not run says so."""

import pytest
from measuring.samples import Summary
from measuring.tables import TIMING, digits, floor_sentence, interval_cell, timing_table

MS = Summary.of([1.0, 2.0, 3.0]).to_json()


def test_a_row_has_its_numbers_its_floor_and_how_far_above_it_is() -> None:
    lines = timing_table(
        "way", [("a", MS, 0.5), ("b", MS, None), ("c", None, None)], {"note": "xyz"}
    ).splitlines()
    assert lines[0] == f"| way | {' | '.join(TIMING)} | note |"
    assert lines[2] == "| a | 3 | 2 | 2.9 | 1 | 0.5 | 4 | x |"
    assert lines[3] == "| b | 3 | 2 | 2.9 | 1 | — | — | y |"
    assert lines[4] == "| c | — | — | — | — | — | — | z |"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (12345.6, "12300"),
        (1.2345, "1.23"),
        (0.000123456, "0.000123"),
        (2e-9, "2e-09"),
        (-3.0, "-3"),
    ],
)
def test_numbers_are_written_out(value: float, text: str) -> None:
    assert digits(value) == text


def test_an_interval_stands_beside_its_number() -> None:
    assert interval_cell([0.5, 0.25, 1]) == "0.5 (0.25 to 1)"


def test_a_floor_is_a_sentence() -> None:
    floor = {"threads": 2, "read_bytes": 268435456, "bytes_per_s": Summary.of([2e10, 3e10]).to_json()}
    assert floor_sentence(floor) == (
        "Memory floor: 25.0 GB/s (spread 5.0, n = 2), read by 2 threads over 268 MB between the rounds."
    )
