"""Writes what `benchmark_training.py` found as a page to read.

It takes the report as its JSON holds it; knows nothing about how the numbers came about.
"""

from typing import Any

from experiments.requirements import requirements_table
from measuring.tables import digits

from pages.tables import made_with, number, table

Record = dict[str, Any]


def markdown(report: Record) -> str:
    """The page."""
    run, samples = report["run"], report["samples"]
    low, median, high = report["positives"]
    head = [
        ("made by", f"`{run['command']}`"),
        ("run", f"`{run['run']}`, {run['seconds']:.0f} s"),
        ("configuration", f"`{run['configuration_sha256'][:16]}`"),
        *made_with(run),
        ("lenses", f"{report['lenses']} in {report['families']} families"),
        (
            "states",
            f"{samples['train']} to train on, {samples['validation']} for validation, {samples['held_out']} held out, "
            f"of {run['configuration']['hidden_size']} numbers each",
        ),
        (
            "positives of a lens",
            f"{median:.0f} samples in the middle; {low:.0f} to {high:.0f} for four in five lenses",
        ),
    ]
    parts = ["# Training a thousand lenses\n"]
    if report["quick"]:
        parts.append("**A quick try**: few lenses, few steps. Nothing here is a result.\n")
    parts += [
        table(("", ""), head),
        "Concepts are planted in random states whose variances fall as 1/i (`scripts/synthetic/planted.py`): times are "
        "those of real states of this size, AUROC is worth a comparison between rows and nothing else, all the less "
        "since the planted world was changed five times until linear lenses had about 0.97 in it. Seconds are of the "
        "whole call from ready states, validation included.\n",
    ]
    if report["requirements"]:
        parts += ["## What was asked for\n", requirements_table(report["requirements"])]
    parts += [
        "## All lenses\n",
        table(("way", "seconds", "steps", "GFLOP/s", "peak MiB", *_AUROC), _ways(report)),
    ]
    if report["comparison"]:
        lenses = report["comparison"][0]["lenses"]
        rows = [(row["name"], digits(row["seconds"]), *_quality(row)) for row in report["comparison"]]
        parts += [
            f"## What the short cuts cost\n\nThe {lenses} lenses of one branch, mlp of 128-64: trained in the leading "
            "directions of the states, in all their numbers, and in the plain way (every sample to every lens, by "
            "autograd, without early stopping).\n",
            table(("way", "seconds", *_AUROC), rows),
        ]
    return "\n".join(parts)


_AUROC = ("measured", "AUROC, median", "lowest tenth", "among siblings, median", "lowest tenth ")


def _ways(report: Record) -> list[tuple[str, ...]]:
    return [
        (
            row["name"],
            digits(row["seconds"]),
            "—" if row["steps"] is None else str(row["steps"]),
            digits(row["gflop_per_s"]),
            digits(row["peak_mib"]),
            *_quality(row),
        )
        for row in report["ways"]
    ]


def _quality(row: Record) -> tuple[str, ...]:
    names = ("auroc_median", "auroc_p10", "auroc_siblings_median", "auroc_siblings_p10")
    return (str(row["measured"]), *(number(row[name]) for name in names))
