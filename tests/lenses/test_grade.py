import pytest

from lenses.grade import grade, worst_first


@pytest.mark.parametrize(
    ("metrics", "letter"),
    [
        ({"auroc": 0.99}, "A"),
        ({"auroc": 0.98, "positives": 10}, "A"),
        ({"auroc": 0.9799, "positives": 10}, "B"),
        ({"auroc": 0.9}, "C"),
        ({"auroc": 0.8}, "D"),
        ({"auroc": 0.79}, "F"),
        ({"auroc": 0.3}, "F"),
        ({"auroc": 0.99, "positives": 9}, "unmeasured"),
        ({"positives": 50}, "unmeasured"),
        ({}, "unmeasured"),
    ],
)
def test_a_lens_is_graded_only_where_it_was_measured(metrics: dict[str, float], letter: str) -> None:
    assert grade(metrics) == letter


def test_the_worst_error_is_the_largest_and_the_worst_area_the_smallest() -> None:
    assert worst_first("auroc", [0.9, 0.7, 0.8]) == [0.7, 0.8, 0.9]
    assert worst_first("calibration_error", [0.01, 0.3, 0.02]) == [0.3, 0.02, 0.01]
