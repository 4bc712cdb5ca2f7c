import pytest
from hypothesis import given
from hypothesis import strategies as st

from lenses.grade import CRITERIA, LETTERS, UNMEASURED, grade, may_alarm, reason, rule, worst_first


@pytest.mark.parametrize(
    ("metrics", "letter"),
    [
        ({"auroc": 0.99}, "A"),
        ({"auroc": 0.98, "positives": 20}, "A"),
        ({"auroc": 0.99, "positives": 19}, "B"),
        ({"auroc": 0.9799, "positives": 40}, "B"),
        ({"auroc": 0.9}, "C"),
        ({"auroc": 0.8}, "D"),
        ({"auroc": 0.79}, "F"),
        ({"auroc": 0.3}, "F"),
        ({"auroc": 0.99, "auroc_siblings": 0.95, "tpr_at_1fpr": 0.8, "calibration_error": 0.05}, "A"),
        ({"auroc": 0.99, "auroc_siblings": 0.69}, "F"),
        ({"auroc": 0.99, "tpr_at_1fpr": 0.5}, "C"),
        ({"auroc": 0.99, "calibration_error": 0.13}, "D"),
        ({"auroc": 0.99, "positives": 9}, "unmeasured"),
        ({"positives": 50}, "unmeasured"),
        ({}, "unmeasured"),
    ],
)
def test_a_grade_is_the_worst_that_its_card_earns_and_only_where_it_was_measured(
    metrics: dict[str, float], letter: str
) -> None:
    assert grade(metrics) == letter
    assert may_alarm(metrics) is (letter in "ABCD")


@given(st.fixed_dictionaries({one.metric: st.floats(0, 1) for one in CRITERIA if one.metric != "positives"}))
def test_no_measure_that_gets_better_makes_a_grade_worse(metrics: dict[str, float]) -> None:
    for one in CRITERIA:
        if one.metric in metrics:
            better = metrics | {one.metric: 0.0 if one.is_error else 1.0}
            assert grade(better) <= grade(metrics)
    assert grade(metrics) in LETTERS
    assert grade({"auroc": metrics["auroc"]}) <= grade(metrics)  # what a card lacks takes nothing away


def test_a_reason_names_what_decided() -> None:
    said = reason({"auroc": 0.99, "auroc_siblings": 0.72, "positives": 30})
    assert said == "AUROC against siblings' texts alone is 0.72"
    assert "every measure" in reason({"auroc": 0.99})
    assert "fewer than 10" in reason({"auroc": 0.99, "positives": 3})
    assert grade({}) == UNMEASURED
    assert [row[1] for row in rule()] == ["from 0.98", "from 0.95", "from 0.8", "at most 0.05", "from 20"]


def test_the_worst_error_is_the_largest_and_the_worst_area_the_smallest() -> None:
    assert worst_first("auroc", [0.9, 0.7, 0.8]) == [0.7, 0.8, 0.9]
    assert worst_first("calibration_error", [0.01, 0.3, 0.02]) == [0.3, 0.02, 0.01]
