"""Writes what `benchmark_switching.py` found as a page to read.

It takes the report as its JSON holds it; knows nothing about how the numbers came about.
"""

from typing import Any

from experiments.page import head
from experiments.requirements import requirements_table
from measuring.tables import digits, interval_cell

from pages.tables import table

Record = dict[str, Any]


def markdown(report: Record) -> str:
    """The page."""
    configuration = report["run"]["configuration"]
    parts = [
        head(report, "Models that take turns"),
        f"One client asks for {configuration['new_tokens']} tokens, greedily, with events, {configuration['requests']} "
        f"times a round; every request names another of three models than the one before. {configuration['rounds']} "
        "rounds, the servers in turns. *Hosts*: three hosts with a pack each. *Packs*: three packs of one host, which "
        "is in memory once. The first model is pinned. *Room for all but one*: the budget is a byte below what all "
        "takes. A load of a host is, here, drawing its random weights; one from a disk takes what its disk takes. "
        "Every answer was held against the model's first one.\n",
        "## What must hold\n",
        requirements_table(report["requirements"]),
        "## Requests\n",
        table(
            (
                *("models", "memory", "switches", "n", "total s", "p95 s", "request ms, median", "p95"),
                *("loads a round", "gave way a round"),
            ),
            [_row(one) for one in report["rows"] if one["seconds"]],
        ),
        "*Loads* count hosts, packs and engines.\n",
        "## Against room for all, round by round\n",
        table(
            ("models", "memory", "total, ratio"),
            [
                (one["kind"], one["of"], interval_cell(one["ratio"]))
                for one in report["ratios"]
                if one["ratio"] is not None
            ],
        ),
        *(f"## In memory: {kind}\n\n{_memory(here)}" for kind, here in report["memory"].items()),
        "Engines stand with what they may take at the most: keys and values of all sequences, and the lenses.\n",
    ]
    return "\n".join(parts)


def _row(one: Record) -> tuple[str, ...]:
    seconds, request = one["seconds"], one["request_ms"]
    return (
        one["kind"],
        one["mode"],
        str(one["switches"]),
        str(seconds["n"]),
        digits(seconds["median"]),
        digits(seconds["p95"]),
        digits(request["median"]),
        digits(request["p95"]),
        digits(one["loads"]),
        digits(one["evictions"]),
    )


def _memory(here: list[Record]) -> str:
    return table(("what", "MB"), [(one["name"], digits(one["size_bytes"] / 1e6)) for one in here])
