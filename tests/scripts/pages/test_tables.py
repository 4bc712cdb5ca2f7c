"""Numbers as cells: what was not measured says so, an interval stands beside its estimate."""

from pages.tables import number, spread, table


def test_a_number_has_its_interval_beside_it() -> None:
    assert number([0.5, 0.25, 0.75]) == "0.500 (0.250 to 0.750)"
    assert (number(0.5), number(7), number(None)) == ("0.500", "7", "unmeasured")


def test_a_spread_of_nothing_is_unmeasured() -> None:
    assert spread({"n": 0}) == ("0", *["unmeasured"] * 3)
    assert spread({"n": 3, "p10": 0.1, "median": [0.2, 0.1, 0.3], "p90": 0.3}) == (
        "3",
        "0.100",
        "0.200",
        "0.300",
    )


def test_a_table_has_a_line_a_row_under_its_header() -> None:
    assert table(("a", "b"), [("1", "2")]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n"
