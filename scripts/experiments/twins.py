"""A table of the reference's and its twin: their numbers, ours, the baseline's. Takes rows as JSON has them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from measuring.tables import digits
from pages.tables import table

from experiments.replay import COLUMNS
from experiments.theirs import BeforeAfter, Breakdown

Record = dict[str, Any]

ONE_AT_A_TIME = "one at a time"
"""How the names of the baseline's rows begin."""

METRICS: Mapping[str, tuple[str, Callable[[Record], float | None]]] = {
    "base lenses": ("", lambda row: row["base_lenses"]),
    "per-token overhead": ("ms", lambda row: row["token_ms"]["mean"]),
    **{name: ("ms", lambda row, name=name: row["parts_ms"][name]) for name in COLUMNS},  # type: ignore[misc]
    "children scored a token": ("", lambda row: row["children_scored"]),
    "children loaded a token": ("", lambda row: row["children_loaded"]),
    "hit rate": ("", lambda row: row["hit_rate"]),
}
"""What a table holds against what: its unit, and where a row has it."""


def before_after(theirs: BeforeAfter, rows: Sequence[Record], pairs: Sequence[tuple[str, str]]) -> str:
    """One table; `pairs` names our rows before and after. A pair whose rows are not there is left out."""
    by_name = {row["name"]: row for row in rows}
    there = [pair for pair in pairs if pair[0] in by_name and pair[1] in by_name]
    header = ["metric", f"theirs: {theirs.before}", f"theirs: {theirs.after}", "theirs: change"]
    for before, after in there:
        header += [_title(before), _title(after), "change"]
    names = list(theirs.metrics)
    if "per-token overhead" in theirs.metrics:  # a table of the whole: what they did not print follows
        names += [name for name in METRICS if name not in theirs.metrics]
    lines = []
    for name in names:
        unit, value = METRICS[name]
        cells = _change(*theirs.metrics.get(name, (None, None)))
        for before, after in there:
            cells += _change(value(by_name[before]), value(by_name[after]))
        lines.append((f"{name}, {unit}" if unit else name, *cells))
    note = f"\n{theirs.note}\n" if theirs.note else ""
    return f"### {theirs.title}\n\n{table(header, lines)}{note}"


def breakdown(theirs: Breakdown, rows: Sequence[Record], ours: Sequence[str]) -> str:
    """One table of components with their shares; `ours` names our rows."""
    by_name = {row["name"]: row for row in rows}
    there = [by_name[name] for name in ours if name in by_name]
    header = ["component", "theirs: ms", "theirs: share"]
    for row in there:
        header += [f"{_title(row['name'])}, ms", "share"]
    total = sum(theirs.parts_ms.values())
    lines = []
    for part in COLUMNS:
        cells = [part, digits(theirs.parts_ms[part]), _share(theirs.parts_ms[part], total)]
        for row in there:
            ms = row["parts_ms"][part]
            cells += [digits(ms), _share(ms, sum(row["parts_ms"].values()))]
        lines.append(cells)
    sums = ["sum", digits(total), "100 %"]
    for row in there:
        sums += [digits(sum(row["parts_ms"].values())), "100 %"]
    return f"### {theirs.title}\n\n{table(header, [*lines, sums])}\n{theirs.note}\n"


def _title(name: str) -> str:
    return name if name.startswith(ONE_AT_A_TIME) else f"ours: {name}"


def _change(before: float | None, after: float | None) -> list[str]:
    known = before is not None and after is not None and before
    change = f"{100 * (after / before - 1):+.0f} %" if known else "—"  # type: ignore[operator]
    return ["—" if value is None else digits(value) for value in (before, after)] + [change]


def _share(part: float, total: float) -> str:
    return f"{100 * part / total:.1f} %" if total else "—"
