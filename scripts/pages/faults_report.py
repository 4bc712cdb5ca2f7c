"""Writes what `benchmark_faults.py` found as a page to read.

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
        head(report, "Requests that break, and clients that try again"),
        f"{configuration['callers']} callers ask {configuration['requests']} completions of "
        f"{' to '.join(map(str, configuration['new_tokens']))} tokens a row and round, {configuration['rounds']} "
        "rounds in turns. A request breaks the engine's forward over its prompt with the row's probability, drawn with "
        "a seed; each attempt is a request of its own. After two broken steps in a row it waits for the next one, "
        "since three would end the engine. *Retry*: after a 5xx or the end of a connection, with waits that grow and "
        f"are jittered, at most {configuration['attempts']} attempts in all; never after a 4xx.\n",
        "## What was asked for\n",
        requirements_table(report["requirements"]),
        "## What succeeded, and what it took\n",
        _rows(report["rows"]),
        "*Expected* is arithmetic: with a rate p, 1 - p succeed at once, "
        f"1 - p^{configuration['attempts']} within {configuration['attempts']}. *With collateral*: the same, p being "
        "the share of attempts that failed. Milliseconds are of calls that succeeded, attempts and waits in them; "
        "throughput is of these calls.\n",
        "## Counted on both sides\n",
        _counts(report["rows"]),
        "*To break*: what the client draws from rate and seed. *Planted*: what broke, counted in the server. *Spared*: "
        "was over before it could break without being the third broken step in a row. *Collateral*: others that took "
        "part in a step that broke, counted there. *Seen*: attempts that failed at the client. A request that is wrong "
        f"was answered with {report['wrong']['status']} and tried {report['wrong']['attempts']} time(s) by a client "
        "that tries again.\n",
        "## Against no faults and no retries, round by round\n",
        table(
            ("row", "ms (95 % interval)", "calls/s"),
            [
                (
                    _name(one),
                    "—" if one["ms"] is None else interval_cell(one["ms"]),
                    interval_cell(one["per_s"]),
                )
                for one in report["ratios"]
            ],
        ),
        "## Contents\n",
        _contents(report["rows"]),
        "Tokens and entries are held against this process's run. Another text's answer is seen to differ: "
        f"{report['control'] or '**not seen**'}.\n",
    ]
    return "\n".join(parts)


def _name(one: Record) -> str:
    again = f" ({one['name']})" if one["name"] else ""
    return f"{one['percent']:g} %, {'retry' if one['retries'] else 'no retry'}{again}"


def _rows(rows: list[Record]) -> str:
    header = (
        *(
            "row",
            "requests",
            "succeeded %",
            "expected %",
            "with collateral",
            "attempts a request",
            "expected",
            "most",
        ),
        *("ms, mean", "median", "p95", "calls/s, median", "spread"),
    )
    lines = []
    for one in rows:
        ms = one["ms"]
        lines.append(
            (
                _name(one),
                str(one["calls"]),
                digits(one["succeeded"]),
                f"{one['expected']:.4g}",
                f"{one['expected_with_collateral']:.4g}",
                digits(one["attempts"]),
                digits(one["attempts_expected"]),
                str(one["attempts_most"]),
                *(("—",) * 3 if ms is None else (digits(ms[name]) for name in ("mean", "median", "p95"))),
                digits(one["per_s"]["median"]),
                digits(one["per_s"]["spread"]),
            )
        )
    return table(header, lines)


def _counts(rows: list[Record]) -> str:
    names = ("told", "planted", "spared", "collateral", "seen")
    return table(
        ("row", "to break", *names[1:]),
        [(_name(one), *(str(one[name]) for name in names)) for one in rows],
    )


def _contents(rows: list[Record]) -> str:
    header = ("row", "answers", "void", "largest difference of a probability", "near cuts", "why void")
    return table(
        header,
        [
            (
                _name(one),
                str(one["agreement"]["pairs"]),
                str(one["agreement"]["void"]),
                f"{one['agreement']['largest_difference']:.1e}",
                str(one["agreement"]["near_cuts"]),
                "; ".join(one["agreement"]["reasons"]) or "—",
            )
            for one in rows
        ],
    )
