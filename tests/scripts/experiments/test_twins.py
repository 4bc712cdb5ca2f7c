"""A twin has the reference's numbers as printed, ours beside them, and leaves out rows that are not there."""

from experiments import theirs, twins
from experiments.replay import COLUMNS
from experiments.requirements import Requirement, requirements_table


def row(name: str, ms: float) -> dict[str, object]:
    return {
        "name": name,
        "base_lenses": 7,
        "token_ms": {"mean": ms},
        "parts_ms": dict.fromkeys(COLUMNS, ms / len(COLUMNS)),
        "children_scored": 3.0,
        "children_loaded": 0.0,
        "hit_rate": None,
    }


def test_theirs_and_ours_are_told_apart_and_changes_are_of_each() -> None:
    page = twins.before_after(
        theirs.BASE_REDUCTION, [row("a", 10.0), row("b", 5.0)], [("a", "b"), ("a", "not there")]
    )
    assert theirs.BASE_REDUCTION.title in page
    overhead = next(line for line in page.splitlines() if line.startswith("| per-token overhead"))
    assert overhead == "| per-token overhead, ms | 102 | 60.9 | -40 % | 10 | 5 | -50 % |"
    assert "ours: a" in page
    assert "not there" not in page


def test_what_they_did_not_print_is_a_dash_and_nothing_is_divided_by_zero() -> None:
    page = twins.before_after(theirs.TEN_TOKENS, [row("a", 10.0), row("b", 5.0)], [("a", "b")])
    assert "| hit rate | — | 0.7 | — | — | — | — |" in page
    assert "| children loaded a token | 25.8 | 34.2 | +33 % | 0 | 0 | — |" in page


def test_shares_of_a_breakdown_sum_to_the_whole() -> None:
    page = twins.breakdown(theirs.AFTER_CACHING, [row("one at a time, cache", 5.0)], ["one at a time, cache"])
    assert page.count("| 1 | 20.0 % |") == len(COLUMNS)
    assert "| sum | 37.8 | 100 % | 5 | 100 % |" in page


def test_requirements_are_met_or_not() -> None:
    asked = [
        Requirement("small", 1.0, most=1.0),
        Requirement("too large", 1.1, "ms", most=1.0),
        Requirement("large", 4.0, least=4.0),
        Requirement("too small", 3.9, least=4.0),
    ]
    assert [one.met for one in asked] == [True, False, True, False]
    page = requirements_table([one.to_json() for one in asked])
    assert page.count("| met |") == page.count("| **not met** |") == 2
    assert "| too large | at most 1 ms | 1.1 ms | **not met** |" in page
