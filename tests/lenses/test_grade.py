import pytest

from lenses.grade import grade


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
