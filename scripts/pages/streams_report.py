"""Writes what `benchmark_streams.py` found as a page to read.

It takes the report as its JSON holds it; knows nothing about how the numbers came about.
"""

from typing import Any

from experiments.page import head
from experiments.requirements import requirements_table
from measuring.tables import digits, interval_cell

from pages.tables import table

Record = dict[str, Any]

_CAUSES = ("ids", "text", "events", "vectors", "framing", "total")


def markdown(report: Record) -> str:
    """The page."""
    configuration = report["run"]["configuration"]
    lengths, asked = configuration["lengths"], configuration["lengths_asked_for"]
    cut = (
        ""
        if sorted(set(asked)) == lengths
        else f" ({', '.join(map(str, asked))} were asked for; the host's context has room for {max(lengths)})"
    )
    parts = [
        head(report, "Streams, and what telling costs"),
        f"Streams of {' and '.join(map(str, lengths))} tokens{cut} over server-sent events, drawn at temperature "
        f"{configuration['temperature']:g} with a seed, {configuration['rounds']} rounds in turns. "
        f"*Events*: an entry of {configuration['show']} concepts a token, as JSON. *Vectors*: all logits beside them, "
        "as base64 of float16. *Slow*: a reader that takes a pause after every few kilobytes, so "
        f"that it reads at {configuration['slow']:g} of the speed at which the fast one was served. "
        "Sockets hide hundreds of small messages: a slow reader of a short stream holds nobody up.\n",
        "## What was asked for\n",
        requirements_table(report["requirements"]),
        "## Is a binary stream worth it?\n",
        _shares(report),
        "*By the clock*: the same stream with entries and without, the same lenses scored in both, round by round. *By "
        "CPU*: the same of the server's CPU time, all threads. *Made*: milliseconds counted in the server from an "
        "event to the bytes of its message, without sending. *Planted*: a millisecond of the processor's for every "
        "entry, what of it is counted there, and what the clock sees of it. The verdict goes by the clock: a binary "
        "stream can save at most this share, and is thought of where it is certainly above 5 %, and a pair of equal "
        "streams is not seen to differ.\n",
        table(
            ("ratio, round by round", "time (95 % interval)", "server's CPU"),
            [
                (name, *("—" if found[which] is None else interval_cell(found[which]) for which in found))
                for name, found in report["ratios"].items()
            ],
        ),
        "## What was held against each other\n",
        _sharing(report["sharing"]),
        "## One entry to bytes, in this process\n",
        table(
            ("payload", "form", "rounds", "us, median", "p95", "spread", "bytes"),
            [
                (
                    one["payload"],
                    one["form"],
                    str(one["us"]["n"]),
                    *(digits(one["us"][name]) for name in ("median", "p95", "spread")),
                    digits(one["bytes"]),
                )
                for one in report["encoding"]
            ],
        ),
        *(
            ["msgpack is not installed here: its row is missing.\n"]
            if not any(one["form"] == "msgpack" for one in report["encoding"])
            else []
        ),
        "## Streams\n",
        _streams(report["streams"]),
        "*Gap*: from one token's message to the next, as the reader has it.\n",
        "## Bytes a token by cause, from the server\n",
        _bytes(report["streams"]),
        "Causes are counted in the server, the total at the client's socket; *framing* is what is left: heads, chunks, "
        "JSON around. *Ids* are the names of concepts, once a stream with vectors.\n",
        "## Contents\n",
        _contents([*report["streams"], *report["sharing"]]),
        "Text, tokens, entries and vectors are held against this process's run. A stream of another seed is "
        f"seen to differ: {report['control'] or '**not seen**'}.\n",
    ]
    return "\n".join(parts)


def _percent(estimate: list[float]) -> str:
    return interval_cell([100 * part for part in estimate])


def _shares(report: Record) -> str:
    header = (
        "of a stream with",
        "by the clock, %",
        "by CPU, %",
        "made, %",
        "of a planted millisecond counted, %",
        "of it by the clock, %",
        "against 5 %",
    )
    return table(
        header,
        [
            (
                one["payload"],
                _percent(one["by_clock"]),
                _percent(one["by_cpu"]),
                digits(100 * one["made"]),
                digits(100 * one["planted_counted"]),
                digits(100 * one["planted_by_clock"]),
                one["verdict"],
            )
            for one in report["shares"]
        ],
    )


def _sharing(rows: list[Record]) -> str:
    header = (
        "stream",
        "n",
        "tokens",
        "ms, median",
        "p95",
        "spread",
        "CPU ms a token",
        "of it making messages",
        "bytes a token",
    )
    return table(
        header,
        [
            (
                one["name"],
                str(one["n"]),
                str(one["tokens"]),
                *(digits(one["total_ms"][name]) for name in ("median", "p95", "spread")),
                digits(one["cpu_ms"]["mean"]),
                digits(one["making_ms"]["mean"]),
                digits(one["bytes"]["total"]),
            )
            for one in rows
            if one["n"]
        ],
    )


def _kind(one: Record) -> tuple[str, ...]:
    return (str(one["tokens"]), one["payload"], one["reader"], one["policy"])


def _streams(rows: list[Record]) -> str:
    header = (
        *("tokens", "payload", "reader", "policy", "n", "tokens/s, median", "spread"),
        *("gap ms, median", "p95", "most", "CPU ms a token", "entries dropped a stream"),
    )
    return table(
        header,
        [
            (
                *_kind(one),
                str(one["n"]),
                digits(one["per_s"]["median"]),
                digits(one["per_s"]["spread"]),
                *(digits(one["gap_ms"][name]) for name in ("median", "p95", "max")),
                digits(one["cpu_ms"]["mean"]),
                digits(one["dropped"]),
            )
            for one in rows
            if one["n"]
        ],
    )


def _bytes(rows: list[Record]) -> str:
    return table(
        ("tokens", "payload", "reader", "policy", *_CAUSES),
        [
            (
                *_kind(one),
                *(digits(one["bytes"][cause]) if one["bytes"][cause] else "—" for cause in _CAUSES),
            )
            for one in rows
            if one["n"]
        ],
    )


def _contents(rows: list[Record]) -> str:
    header = ("stream", "n", "void", "largest difference of a probability", "near cuts", "why void")
    lines = []
    for one in rows:
        agreement = one["agreement"]
        lines.append(
            (
                one["name"] or ", ".join(_kind(one)),
                str(agreement["pairs"]),
                str(agreement["void"]),
                f"{agreement['largest_difference']:.1e}",
                str(agreement["near_cuts"]),
                "; ".join(agreement["reasons"]) or "—",
            )
        )
    return table(header, lines)
