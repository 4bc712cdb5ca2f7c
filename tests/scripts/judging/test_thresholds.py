"""What the lenses must show: the estimate decides, and what was not measured is not met."""

from typing import Any

from judging.thresholds import must_show


def report(**changed: Any) -> dict[str, Any]:
    """A report in which everything is as it should be, but for `changed`."""
    reached = {
        "auroc": [0.97, 0.95, 0.98],
        "p10": 0.9,
        "siblings": 0.9,
        "error": [0.05, 0.04, 0.06],
        "above": {"lenses": 10, "difference_median": 0.01, "lens_above_share": [0.6, 0.4, 0.7]},
        "recall": 0.95,
        "scored": 0.25,
    } | changed
    place = {
        "auroc": {"median": reached["auroc"], "p10": reached["p10"]},
        "auroc_siblings": {} if reached["siblings"] is None else {"median": reached["siblings"]},
        "brier_skill": {"above_constant": [1.0, 0.99, 1.0]},
        "calibration_error": {"median": reached["error"]},
    }
    return {
        "counts": {"measured": 500},
        "summary": {"text": place, "tokens": place, "words_absent": reached["above"]},
        "expansion": {"recall": {"recall": reached["recall"]}, "share_scored": {"mean": reached["scored"]}},
    }


def verdicts(found: dict[str, Any], verdict: str) -> list[str]:
    return [row["what"] for row in must_show(found) if row["verdict"] == verdict]


def test_the_estimate_decides_and_the_edge_is_good_enough() -> None:
    assert len(verdicts(report(), "met")) == len(must_show(report()))
    assert verdicts(report(error=[0.0501, 0.03, 0.07], scored=0.26), "not met") == [
        "balanced calibration error at the text, median",
        "the same at every token",
        "share of lenses scored a position",
    ]


def test_no_better_than_bag_of_words_is_not_above_it() -> None:
    level = {"lenses": 10, "difference_median": 0.0, "lens_above_share": [0.5, 0.4, 0.6]}
    assert len(verdicts(report(above=level), "not met")) == 2


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    found = report(siblings=None, above={"lenses": 0}, recall=None)
    assert len(verdicts(found, "unmeasured")) == 4
    assert not verdicts(found, "not met")
