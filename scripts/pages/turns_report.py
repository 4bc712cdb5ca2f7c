"""Writes what `benchmark_turns.py` found as a page to read.

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
    rows = [one for one in report["rows"] if one["repeats"]]
    parts = [
        head(report, "A chat, turn by turn"),
        f"{configuration['turns']} turns over HTTP, each of which sends {len(configuration['sent'][0][-1])} tokens and "
        f"has {configuration['new_tokens']} generated, greedy, with an event of each; {configuration['repeats']} "
        f"repeats over {len(configuration['sent'])} chats, in turns. *Session*: a turn sends what is new. *Whole*: "
        "without a session, a turn sends all that was said. Times are the client's, from sending to the last byte.\n",
        "## What was asked for\n",
        requirements_table(report["requirements"]),
        "## Whether it grows\n",
        _trends(rows),
        "The line is through all repeats, each one a cluster; *change* is the line's last turn beyond its first, of "
        "the mean. Intervals are of repeats drawn anew.\n",
        "## Milliseconds a new token, by turn\n",
        _by_turn(report, rows, "token_ms"),
        "The whole time of a turn, reading what was sent in it, over the tokens that it generated.\n",
        "## Milliseconds to the first token, by turn\n",
        _by_turn(report, rows, "first_ms"),
        "## Whole chats\n",
        _chats(rows),
        table(
            ("ratio, repeat by repeat", "median (95 % interval)"),
            [(name, "—" if one is None else interval_cell(one)) for name, one in report["ratios"].items()],
        ),
        "## Contents\n",
        _contents(report["rows"]),
        "Each turn is held against this process's run of the same whole text. A turn without its context is seen to "
        f"differ: {report['control'] or '**not seen**'}.\n",
    ]
    return "\n".join(parts)


def _trends(rows: list[Record]) -> str:
    header = (
        "way",
        "repeats",
        "a new token: ms more a turn",
        "change, %",
        "first token: ms more a turn",
        "change, % ",
    )
    lines = []
    for one in rows:
        cells = []
        for name in ("token_trend", "first_trend"):
            found = one[name]
            cells += [interval_cell(found["slope"]), interval_cell([100 * part for part in found["change"]])]
        lines.append((one["name"], str(one["repeats"]), *cells))
    return table(header, lines)


def _by_turn(report: Record, rows: list[Record], measure: str) -> str:
    ways = [one["name"] for one in rows]
    header = ("turn", "tokens before", *(f"{way}: median, p95, spread" for way in ways))
    lines = []
    for turn, before in enumerate(report["before"]):
        cells = [
            ", ".join(digits(one[measure][turn][name]) for name in ("median", "p95", "spread"))
            for one in rows
        ]
        lines.append((str(turn + 1), str(before), *cells))
    return table(header, lines)


def _chats(rows: list[Record]) -> str:
    header = ("way", "n", "ms, median", "p95", "spread", "of it opening and closing", "kept, turn by turn")
    return table(
        header,
        [
            (
                one["name"],
                str(one["total_ms"]["n"]),
                *(digits(one["total_ms"][name]) for name in ("median", "p95", "spread")),
                digits(one["around_ms"]["median"]),
                " ".join(map(str, one["kept"])),
            )
            for one in rows
        ],
    )


def _contents(rows: list[Record]) -> str:
    header = ("way", "turns", "void", "largest difference of a probability", "near cuts", "why void")
    return table(
        header,
        [
            (
                one["name"],
                str(one["agreement"]["pairs"]),
                str(one["agreement"]["void"]),
                f"{one['agreement']['largest_difference']:.1e}",
                str(one["agreement"]["near_cuts"]),
                "; ".join(one["agreement"]["reasons"]) or "—",
            )
            for one in rows
        ],
    )
