"""Writes what `benchmark_decode.py` found as a page to read.

It takes the report as its JSON holds it; knows nothing about how the numbers came about.
"""

from typing import Any

from experiments.page import head
from experiments.requirements import requirements_table
from measuring.tables import digits, interval_cell

from pages.tables import table

Record = dict[str, Any]

_CAUSES = ("ids", "text", "logits", "states", "events", "framing", "total")


def markdown(report: Record) -> str:
    """The page."""
    configuration = report["run"]["configuration"]
    rows = report["rows"]
    link = "no link between them but the loopback"
    if configuration["delay_ms"] or configuration["mbit"]:
        width = "any number of" if configuration["mbit"] is None else f"{configuration['mbit']:g}"
        link = f"a link of {configuration['delay_ms']:g} ms and {width} Mbit/s each way between them, in user space"
    parts = [
        head(report, "Decoding over the network"),
        f"{configuration['prompt_tokens']} tokens of prompt and {configuration['new_tokens']} new ones, greedy, "
        f"{configuration['runs']} rounds over {len(configuration['prompts'])} prompts; {link}. *Native*: "
        "`Monitor.stream` in this process, which has transformers' `generate` do it. *Engine*: the engine of "
        "`phoropter serve` in this process. *Blind*: a server that recomputes the whole sequence for every token and "
        "sends logits of all positions as raw fp32. *Partial*: the same with logits of the last position alone. "
        "*Full*: `phoropter serve`, with a session that is opened and closed within the time. All have an event of "
        "every generated token; native, engine and full of the prompt's as well.\n",
        "## What was asked for\n",
        requirements_table(report["requirements"]),
        "## Times\n",
        _times(rows),
        "## MB a run by cause, counted at the client's socket, both ways\n",
        _bytes(rows),
        "## Ratios, round by round\n",
        table(
            ("", "median (95 % interval)"),
            [(name, "—" if one is None else interval_cell(one)) for name, one in report["ratios"].items()],
        ),
        "## Contents\n",
        _contents(rows),
        "\nHeld against this process's run of the same prompt. A client that sends the last token without its context "
        f"is seen to differ: {report['control'] or '**not seen**'}.\n",
    ]
    return "\n".join(parts)


def _times(rows: list[Record]) -> str:
    header = (
        "way",
        "n",
        "mean ms (95 % interval)",
        "median",
        "p95",
        "spread",
        "per token ms",
        "first token ms",
    )
    return table(
        header,
        [
            (
                one["name"],
                str(one["ms"]["n"]),
                interval_cell(one["mean_ms"]),
                *(digits(one["ms"][name]) for name in ("median", "p95", "spread")),
                digits(one["token_ms"]),
                digits(one["first_ms"]["median"]),
            )
            if one["ms"]
            else (one["name"], "0", "**void**", *["—"] * 5)
            for one in rows
        ],
    )


def _bytes(rows: list[Record]) -> str:
    lines = [
        (one["name"], *(digits(one["mb"][cause]) if one["mb"][cause] else "—" for cause in _CAUSES))
        for one in rows
        if one["ms"]
    ]
    return table(("way", *_CAUSES), lines)


def _contents(rows: list[Record]) -> str:
    lines = []
    for one in rows:
        agreement = one["agreement"]
        lines.append(
            (
                one["name"],
                str(agreement["pairs"]),
                str(agreement["void"]),
                f"{agreement['largest_difference']:.1e}",
                str(agreement["near_cuts"]),
                "; ".join(agreement["reasons"]) or "—",
            )
        )
    header = ("way", "runs", "void", "largest difference of a probability", "near cuts", "why void")
    return table(header, lines)
