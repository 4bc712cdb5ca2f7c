"""Writes what `benchmark_lens_compilation.py` found as a page to read.

It takes the report as its JSON holds it; knows nothing about how the numbers came about.
"""

from typing import Any

from measuring.tables import digits, floor_sentence, interval_cell, timing_table

from pages.tables import made_with, table

Record = dict[str, Any]


def markdown(report: Record) -> str:
    """The page."""
    run = report["run"]
    settings = run["configuration"]
    widths = "-".join(map(str, (settings["hidden_size"], *settings["widths"], 1)))
    head = [
        ("made by", f"`{run['command']}`"),
        ("run", f"`{run['run']}`, {run['seconds']:.0f} s"),
        ("configuration", f"`{run['configuration_sha256'][:16]}`"),
        *made_with(run),
        ("lenses", f"{settings['lenses']} random ones of {widths}"),
        ("compiler", _compiler(report["compiler"])),
    ]
    parts = ["# Scoring a bank of lenses: compiled, stacked, one at a time\n"]
    if report["quick"]:
        parts.append("**A quick try**: few lenses, few rounds. Nothing here is a result.\n")
    parts += [table(("", ""), head), _INTRODUCTION]
    parts += [_batch(batch) for batch in report["batches"]]
    return "\n".join(parts)


_INTRODUCTION = """\
All ways score the same random lenses on the same states and take turns, round by round. *Floor* is the time in which
this machine reads the bytes of the weights, all layers, as each way holds them; weights that stay in the processor's
cache can be read faster. *Largest difference* is of |logit - the baseline's logit| over all timed runs: what is stored
in bf16 or int8 differs by what was rounded away. *Ratio* is median over the baseline's median, with its 95 % interval
over the rounds: below 1 is faster. The baseline timed again shows what a ratio is worth. *Compile* is the time of
compiling from an empty cache. A way over ten times slower than the baseline takes turns with it in few rounds of their
own; one over fewer lenses than there are is held against the baseline over the same.
"""


def _compiler(compiler: Record) -> str:
    if compiler["missing"]:
        return f"none: {compiler['missing']}"
    return f"{compiler['start_s']:.1f} s for a process's first compilation, not in the rows below"


def _batch(batch: Record) -> str:
    rows = batch["rows"]
    title = "One state" if rows == 1 else f"{rows} states in one call"
    ways = batch["ways"]
    found = timing_table(
        "way",
        [(way["name"], way.get("ms"), way.get("floor_ms")) for way in ways],
        {
            "lenses": [str(way.get("lenses", "—")) for way in ways],
            "compile s": [_digits(way.get("compile_s")) for way in ways],
            "largest difference": [_digits(way.get("largest_difference")) for way in ways],
            "ratio to the baseline": [
                interval_cell(way["ratio"]) if way.get("ratio") else "—" for way in ways
            ],
            "note": [_note(way) for way in ways],
        },
    )
    floor = floor_sentence(batch["floor"])
    return f"## {title}\n\n{floor} The largest |logit| is {batch['largest_logit']:.3g}.\n\n{found}"


def _note(way: Record) -> str:
    if "reason" in way:
        return f"not run: {way['reason']}"
    return "" if way["ratio"] is None or "lenses" not in way["against"] else f"against *{way['against']}*"


def _digits(value: float | None) -> str:
    return "—" if value is None else digits(value)
