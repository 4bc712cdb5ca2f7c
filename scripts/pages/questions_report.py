"""Writes what `benchmark_questions.py` found as a page to read.

It takes the report as its JSON holds it; knows nothing about how the numbers came about.
"""

from typing import Any

from experiments.page import head
from experiments.requirements import requirements_table
from measuring.tables import digits, interval_cell

from pages.tables import table

Record = dict[str, Any]

_WHAT = {
    "tokenise": "text to ids (served: with the way to a thread and back)",
    "queue": "from the ids to the host's first forward (in process: `generate` prepares itself)",
    "prefill": "the host's forward over the prompt",
    "decode": "the host's forwards of one token",
    "lenses": "rows to events: input states, scoring, fetching",
    "draw": "a token out of logits, its text, its event (in process: in the remainder)",
    "remainder": "all else: HTTP, JSON, threads; in process `generate`'s own loop, events handed over",
}


def markdown(report: Record) -> str:
    """The page."""
    ways, configuration = report["ways"], report["run"]["configuration"]
    agreement = report["agreement"]["served"]
    parts = [
        head(report, f"{len(configuration['questions'])} questions, in process and served"),
        "Each question is answered in this process (`Monitor.stream`), then by `phoropter serve` in a process of its "
        "own over the loopback (server-sent events, read by httpx), then in this process again; as a chat where the "
        "host knows chats, greedy, at most "
        f"{configuration['new_tokens']} tokens, events of all positions with {configuration['show']} concepts each. "
        "Both had answered every question once before. Timers are in the server: what they take is counted against "
        "it.\n",
        "## What was asked for\n",
        requirements_table(report["requirements"]),
        f"## Times of {report['pairs']} pairs\n",
        _times(ways),
        "Per question is the mean response: there is nothing else in the total.\n",
        "## Ratios, pair by pair\n",
        table(
            ("", "median (95 % interval)"),
            [
                ("served / in process (mean of the runs before and after)", interval_cell(report["ratio"])),
                (
                    "in process again / in process: what no difference looks like",
                    interval_cell(report["ratio_again"]),
                ),
                ("time to first token, served / in process", interval_cell(report["first_ratio"])),
            ],
        ),
        "## Where the time goes, seconds of all questions\n",
        _parts(ways),
        "## Contents\n",
        f"{agreement['pairs']} pairs, {agreement['void']} void"
        + (f" ({'; '.join(agreement['reasons'])})" if agreement["reasons"] else "")
        + f". Tokens are equal; probabilities differ by {agreement['largest_difference']:.1e} at the most; "
        f"{agreement['near_cuts']} positions opened other families, next to what decides. A question behind other "
        f"words is seen to differ: {report['control'] or '**not seen**'}.\n\n"
        f"An answer took {digits(1e3 * report['mb_an_answer'])} kB on the wire, both ways, counted at the client's "
        "socket.\n",
    ]
    return "\n".join(parts)


def _times(ways: Record) -> str:
    lines = []
    for name, way in ways.items():
        response, first = way["response_ms"], way["first_ms"]
        lines.append(
            (
                name,
                str(response["n"]),
                digits(way["total_ms"] / 1e3),
                digits(response["mean"]),
                *(digits(response[one]) for one in ("median", "p95", "spread")),
                *(digits(first[one]) for one in ("mean", "median", "p95")),
                digits(way["tokens_per_s"]),
            )
        )
    header = (
        *("", "n", "total s", "per question ms", "response, median ms", "p95", "spread"),
        *("first token, mean ms", "median", "p95 ", "tokens/s"),
    )
    return table(header, lines)


def _parts(ways: Record) -> str:
    rows = [
        (part, *(digits(way["parts_ms"][part] / 1e3) for way in ways.values()), what)
        for part, what in _WHAT.items()
    ]
    rows.append(("total", *(digits(way["total_ms"] / 1e3) for way in ways.values()), ""))
    return table(("part", *ways, "what"), rows)
