"""Writes what `ledger.py` found as a page to read.

It takes the report as its JSON holds it; knows nothing about how the numbers came about.
"""

from typing import Any

from measuring.tables import digits, interval_cell

from pages.tables import made_with, table

Record = dict[str, Any]

_HEADER = (
    *("variant", "changes", "n", "prefill ms", "generation ms", "total ms"),
    *("Δ prefill", "Δ generation", "Δ total", "verdict", "p", "interpretation"),
)


def markdown(report: Record) -> str:
    """The page."""
    run = report["run"]
    settings = run["configuration"]
    head = [
        ("made by", f"`{run['command']}`"),
        ("run", f"`{run['run']}`, {run['seconds']:.0f} s"),
        ("configuration", f"`{run['configuration_sha256'][:16]}`"),
        *made_with(run),
        ("host", f"`{settings['host']}`, {settings['host_dtype']}"),
        (
            "pack",
            f"`{settings['pack'][:12]}`: {settings['lenses']} lenses, {report['base_lenses']} at every token",
        ),
        ("task", f"{_prompt_tokens(report)} tokens of prompt, {settings['new_tokens'][1]} new ones, greedy"),
    ]
    parts = ["# The ledger: what each change does to one watched generation\n"]
    if report["quick"]:
        parts.append("**A quick try**: short runs. Nothing here is a result.\n")
    parts += [table(("", ""), head), _introduction(report), _times(report["rows"])]
    parts += [_FIXED, _fixed(report["rows"]), _AGREEMENT, _agreement(report)]
    return "\n".join(parts)


def _introduction(report: Record) -> str:
    return f"""\
All variants take turns, {report["rounds"]} rounds, each at two lengths; the table is of the longer. *Prefill* is from
the call of `generate` to the first token, monitoring of the prompt included; *generation* from there to the return.
Mean ± standard deviation. Δ is of means against *{report["baseline"]}*. The verdict is Wilcoxon's signed-rank test on
the totals of paired rounds, *p* after Holm's correction over all rows: `noise` where it is above 0.05. What a row is
worth depends on the baseline; *{report["baseline"]} (again)* shows what a difference is worth.
"""


_FIXED = """
## Fixed and per token

From runs of two lengths, with 95 % intervals: what a call costs before its first new token (the prompt is in it), and
what each new token adds.
"""
_AGREEMENT = """
## What was compared

Tokens and contents of every run, those of the warm-up too, with the default's first run. *Largest difference* is of a
lens's logit; *near cuts* are positions that opened other families because a probability lies within 1e-4 of what
decides, *near ties* texts that part where the host's two best logits lie within 1e-3, both over all runs. Compiling
falls in the warm-up and is in no row.
"""


def _prompt_tokens(report: Record) -> int:
    """One event a token, but for the last one generated."""
    new_tokens: int = report["run"]["configuration"]["new_tokens"][1]
    return int(report["events"]) - new_tokens + 1


def _times(rows: list[Record]) -> str:
    return table(_HEADER, [_time_cells(row) for row in rows])


def _time_cells(row: Record) -> tuple[str, ...]:
    if "reason" in row:
        return (row["name"], row["changes"], *("—",) * 9, f"not run: {row['reason']}")
    parts = [f"{digits(row['ms'][p]['mean'])} ± {digits(row['ms'][p]['std'])}" for p in _PARTS]
    cells = (row["name"], row["changes"], str(row["n"]), *parts)
    if row["verdict"] is None:
        return (*cells, *("—",) * 5, row["interpretation"])
    deltas = [f"{row['delta'][p]['ms']:+.1f} ({row['delta'][p]['percent']:+.1f} %)" for p in _PARTS]
    verdict = row["verdict"]
    return (*cells, *deltas, verdict["outcome"], digits(verdict["p_holm"]), row["interpretation"])


_PARTS = ("prefill", "generation", "total")


def _fixed(rows: list[Record]) -> str:
    return table(
        ("variant", "fixed ms", "per token ms"),
        [
            (row["name"], interval_cell(row["fixed_ms"]), interval_cell(row["per_item_ms"]))
            for row in rows
            if "ms" in row
        ],
    )


def _agreement(report: Record) -> str:
    cells = [
        (row["name"], digits(found["largest_difference"]), str(found["near_cuts"]), str(found["near_ties"]))
        for row in report["rows"]
        if (found := row.get("agreement")) is not None
    ]
    found = table(("variant", "largest difference", "near cuts", "near ties"), cells)
    control = "The control, rows with noise of a thousandth of their size, was seen to differ"
    return f"{found}\n{control}: {report['control']}.\n"
