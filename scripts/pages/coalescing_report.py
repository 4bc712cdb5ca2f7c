"""Writes what `benchmark_coalescing.py` found as a page to read.

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
        head(report, "Calls that are answered together"),
        "Callers in one process, a connection each, ask again as soon as they are answered, for "
        f"{configuration['seconds']:g} s a cell, {configuration['rounds']} rounds in turns. *Joined*: as the server "
        "does, which answers all calls that wait in one pass; there is no timer. *Alone*: the same server, told to "
        "answer every call in a pass of its own. A call is one state (all lenses), or a text of "
        f"{configuration['text_words']} words. HTTP, on both sides, is in all figures.\n",
        "## What was asked for\n",
        requirements_table(report["requirements"]),
        *(f"## {route}\n\n{_cells(report, route)}" for route in ("score", "tokenize")),
        "## Throughput, round by round\n",
        table(
            ("route", "callers", "joined / alone", "joined / joined again", "latency, joined / alone"),
            [
                (
                    one["route"],
                    str(one["callers"]),
                    interval_cell(one["joined_to_alone"]),
                    interval_cell(one["joined_to_again"]),
                    digits(one["latency"]),
                )
                for one in report["ratios"]
            ],
        ),
        "The first answer of every caller in every cell is held against the same call alone: *off* is the largest "
        "difference, 1 being what the design allows (1e-5 of the largest logit).\n",
    ]
    return "\n".join(parts)


def _cells(report: Record, route: str) -> str:
    rows = []
    for cell in report["cells"]:
        if cell["route"] != route:
            continue
        per_s, latency = cell["per_s"], cell["latency_ms"]
        rows.append(
            (
                str(cell["callers"]),
                cell["mode"],
                str(per_s["n"]),
                digits(per_s["median"]),
                digits(per_s["spread"]),
                str(latency["n"]),
                *(digits(latency[name]) for name in ("median", "p95", "spread")),
                digits(cell["calls_a_pass"]),
                f"{cell['equal_bits']} of {cell['compared']}",
                digits(cell["largest"]),
                str(cell["void"]),
            )
        )
    header = (
        *(
            "callers",
            "",
            "rounds",
            "calls/s, median",
            "spread",
            "calls",
            "latency ms, median",
            "p95",
            "spread ",
        ),
        *("calls a pass", "equal to the bit", "off", "void"),
    )
    return table(header, rows)
