"""Writes what `benchmark_mixed.py` found as a page to read.

It takes the report as its JSON holds it; knows nothing about how the numbers came about.
"""

from typing import Any

from experiments.page import head
from experiments.requirements import requirements_table
from measuring.tables import digits, interval_cell

from pages.tables import table

Record = dict[str, Any]

_KINDS = ("generate", "tokenize", "score")


def markdown(report: Record) -> str:
    """The page."""
    configuration = report["run"]["configuration"]
    kinds = ", ".join(f"{count} {kind}" for kind, count in configuration["kinds"].items())
    cells = [cell for cell in report["cells"] if cell["n"]]
    seen = ", ".join(
        f"{kind} {'yes' if is_seen else '**no**'}" for kind, is_seen in report["control"].items()
    )
    parts = [
        head(report, "A mixed load"),
        f"One fixed list of {configuration['calls']} calls ({kinds}), worked off by callers in one process, a "
        "connection each, who take the next call as soon as they are answered; "
        f"{configuration['rounds']} rounds in turns. A generation is of {configuration['prompt_tokens']} "
        f"+ {configuration['new_tokens']} tokens, with "
        f"entries of {configuration['show']} concepts. *Joined*: as the server does, which answers all calls for "
        "scores or tokens that wait in one pass; there is no timer. *Alone*: the same server, told to answer each in a "
        "pass of its own. HTTP, on both sides, is in all figures.\n",
        "## What was asked for\n",
        requirements_table(report["requirements"]),
        "## The whole list\n",
        _totals(cells),
        table(
            ("callers", "time joined / alone (95 % interval)", "joined / joined again"),
            [
                (
                    str(one["callers"]),
                    *(
                        "—" if one[name] is None else interval_cell(one[name])
                        for name in ("joined_to_alone", "joined_to_again")
                    ),
                )
                for one in report["ratios"]
            ],
        ),
        "## By kind\n",
        _by_kind(cells),
        "## Where the callers' time goes, ms a list\n",
        _parts(cells),
        "Callers' time is of all of them, each from the list's beginning until it finds the list empty. *Remainder*: "
        "of no call, which is what taking the next one costs.\n",
        "## Contents\n",
        _contents(report["cells"]),
        "Every answer of every list is held against this process's (generations) or the same call alone (scores within "
        f"1e-5 of the largest, tokens equal). Another request's answer is seen to differ: {seen}.\n",
    ]
    return "\n".join(parts)


def _totals(cells: list[Record]) -> str:
    header = (
        *("callers", "", "lists", "ms, median", "p95", "spread", "calls/s, median", "spread "),
        *("calls for tokens a pass", "for scores"),
    )
    return table(
        header,
        [
            (
                str(cell["callers"]),
                cell["mode"],
                str(cell["n"]),
                *(digits(cell["total_ms"][name]) for name in ("median", "p95", "spread")),
                *(digits(cell["per_s"][name]) for name in ("median", "spread")),
                *(digits(cell["calls_a_pass"][kind]) for kind in ("tokenize", "score")),
            )
            for cell in cells
        ],
    )


def _by_kind(cells: list[Record]) -> str:
    header = (
        "callers",
        "",
        "kind",
        "calls",
        "latency ms, median",
        "p95",
        "spread",
        "calls/s while the list lasts",
    )
    lines = []
    for cell in cells:
        for kind in _KINDS:
            latency = cell["latency_ms"][kind]
            per_s = 1e3 * latency["n"] / cell["n"] / cell["total_ms"]["mean"]
            lines.append(
                (
                    str(cell["callers"]),
                    cell["mode"],
                    kind,
                    str(latency["n"]),
                    *(digits(latency[name]) for name in ("median", "p95", "spread")),
                    digits(per_s),
                )
            )
    return table(header, lines)


def _parts(cells: list[Record]) -> str:
    names = (*_KINDS, "remainder")
    return table(
        ("callers", "", *names, "sum", "callers' time"),
        [
            (
                str(cell["callers"]),
                cell["mode"],
                *(digits(cell["parts_ms"][name]) for name in names),
                digits(sum(cell["parts_ms"].values())),
                digits(cell["busy_ms"]),
            )
            for cell in cells
        ],
    )


def _contents(cells: list[Record]) -> str:
    return table(
        ("callers", "", "lists", "void", "why"),
        [
            (
                str(cell["callers"]),
                cell["mode"],
                str(cell["agreement"]["pairs"]),
                str(cell["agreement"]["void"]),
                "; ".join(cell["agreement"]["reasons"]) or "—",
            )
            for cell in cells
        ],
    )
