"""What the page says of numbers that are known: the best, what is noise, and where the shipped choice falls behind."""

from typing import Any

import pytest
from pages.choices_report import choices, markdown

Report = dict[str, Any]


def metrics(score: float, **more: float) -> dict[str, float]:
    return {
        "lenses": 20,
        "score": score,
        "auroc_text_median": score,
        "calibration_error_text_median": 0.05,
        "active": 3.0,
        **more,
    }


def made(shipped_score: float = 0.90, widths_score: float = 0.93, **changed: float) -> Report:
    training = {"widths": [16, 8], "dropout": 0.1, "seed": 0, "steps": 600}
    inputs = [
        {"site": "resid_post.0", "pooling": "token", "metrics": metrics(0.85)},
        {"site": "resid_post.0", "pooling": "mean", "metrics": metrics(0.88)},
        {"site": "resid_post.1", "pooling": "token", "metrics": metrics(shipped_score)},
        {"site": "resid_post.1", "pooling": "mean", "metrics": metrics(0.91, auroc_text_median=0.92)},
    ]
    variants = [
        {"name": "default", "field": None, "value": None, "metrics": metrics(0.90)},
        {"name": "seed 1", "field": "seed", "value": 1, "metrics": metrics(0.91, active=3.5)},
        {
            "name": "widths 32-16",
            "field": "widths",
            "value": [32, 16],
            "metrics": metrics(widths_score, **changed),
        },
        {"name": "dropout 0", "field": "dropout", "value": 0.0, "metrics": metrics(0.905)},
        {"name": "dropout 0.3", "field": "dropout", "value": 0.3, "metrics": metrics(0.85, active=2.0)},
    ]
    results = [{"seconds": 1.0, "run": "now", "commit": "abc", **one} for one in (*inputs, *variants)]
    asked = {
        "sample": None,
        "seed": 0,
        "positions_per_text": 4,
        **{f"{name}_sha256": "0" * 64 for name in ("host", "concepts", "wordnet")},
        "ridge": {"penalty": 1e-3},
        "training": {
            "site": "resid_post.1",
            "pooling": "token",
            "steps": 600,
            "walked_positions": 9,
            "calibrated_on": "some",
        },
    }
    return {
        "run": {
            "command": "python it",
            "run": "now",
            "configuration": asked,
            "commit": "abc",
            "configuration_sha256": "1" * 64,
            "hardware": {},
            "versions": {},
        },
        "host": "tiny",
        "concepts": 40,
        "branches": ["a"],
        "branch_concepts": 20,
        "shipped": {"site": "resid_post.1", "pooling": "token", "training": training | {"steps": 2000}},
        "inputs": results[:4],
        "variants": [{"training": training, **one} for one in results[4:]],
    }


def page(report: Report) -> str:
    return markdown(report | {"choices": choices(report)})


def row(text: str, name: str) -> list[str]:
    """The cells of the first table row of this name."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
    return [cell.strip() for cell in line.split("|")[2:-1]]


def test_the_shipped_input_is_named_where_it_is_behind() -> None:
    found = choices(made())["input"]
    assert (found["site"], found["pooling"], found["shipped_rank"]) == ("resid_post.1", "mean", 2)
    assert "rank 2 of 4" in found["says"]
    assert "best is resid_post.1, mean (+0.0100)" in found["says"]
    assert "text (resid_post.1, mean, +0.0200)" in found["says"]
    assert row(page(made()), "resid_post.1, token (shipped)") == ["0.9000", "0.9000"]
    assert row(page(made()), "resid_post.1, mean") == ["**0.9100**", "**0.9200**"]


def test_the_shipped_input_may_be_the_best_in_all_and_best_in_part() -> None:
    assert "the best in every column" in choices(made(0.95))["input"]["says"]
    assert "rank 1 of 4, the best." in choices(made(0.915))["input"]["says"]
    assert "Others are ahead in: text (resid_post.1, mean" in choices(made(0.915))["input"]["says"]


def test_a_shipped_input_that_was_not_compared_is_said() -> None:
    report = made()
    report["shipped"]["pooling"] = "ema:0.5"
    assert "what is shipped is not among them" in choices(report)["input"]["says"]


@pytest.mark.parametrize(("score", "chosen"), [(0.93, [32, 16]), (0.908, [16, 8]), (0.80, [16, 8])])
def test_a_value_is_chosen_only_where_it_gains_more_than_another_seed(
    score: float, chosen: list[int]
) -> None:
    widths, dropout = choices(made(widths_score=score))["training"]
    assert widths["chosen"] == chosen
    assert dropout["chosen"] == 0.1
    assert "dropout: 0.1 stays" in dropout["says"]


def test_what_a_better_score_costs_is_said() -> None:
    (better, _) = choices(made())["training"]
    assert "nothing is worse" in better["says"]
    (dearer, _) = choices(made(calibration_error_text_median=0.08))["training"]
    assert dearer["chosen"] == [32, 16]
    assert "worse by more than noise: calibration error, text +0.0300" in dearer["says"]


def test_no_more_than_another_seed_makes_is_called_noise() -> None:
    text = page(made())
    score, auroc, _ = row(text, "dropout 0")
    assert (score, auroc) == ("0.9050 (+0.0050, noise)", "0.9050 (+0.0050, noise)")
    assert row(text, "widths 32-16")[0] == "**0.9300** (+0.0300)"
    assert row(text, "default, seed 1")[0] == "0.9100 (+0.0100, noise)"
    assert row(text, "dropout 0.3")[0] == "0.8500 (-0.0500)"
    # How many are active is neither good nor bad: no value of it is the best.
    walk = text.split("Probabilities and the walk:")[1]
    assert "**3.0" not in walk
    assert row(walk, "dropout 0.3")[1] == "2.0000 (-1.0000)"
    assert row(walk, "default, seed 1")[1] == "3.5000 (+0.5000, noise)"


def test_results_of_earlier_runs_are_named() -> None:
    report = made()
    assert "results kept of earlier runs | none" in page(report)
    report["variants"][0] |= {"run": "before", "commit": "old"}
    assert "`before, commit old`" in page(report)
