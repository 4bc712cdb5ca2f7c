"""Writes what `compare_packs.py` found as a page to read, with its picture. Knows nothing of how it was found."""

from pathlib import Path
from typing import Any

from measuring.tables import digits, floor_sentence, timing_table
from pages.pictures import Axis, Line, lines
from pages.report_files import picture_name
from pages.tables import made_with, table

Record = dict[str, Any]


def markdown(report: Record, out: Path) -> str:
    """The page."""
    return "\n".join([_head(report, out), _ways(report), _lenses(report), _stored(report), _means(report)])


def pictures(report: Record, out: Path) -> dict[str, str]:
    """The curve: what is found against what it costs."""
    groups: dict[str, list[Record]] = {}
    for name, way in report["ways"].items():
        kind, _, lenses = name.partition(": ")
        groups.setdefault("walk" if kind.startswith("walk") else lenses, []).append(way | {"note": kind})
    drawn_lines = [
        Line(
            label,
            [way["milliseconds"]["median"] for way in ways],
            [way["finds"] for way in ways],
            [way["note"].removeprefix("walk at ") if label == "walk" else "" for way in ways],
        )
        for label, ways in groups.items()
    ]
    most = max(x for line in drawn_lines for x in line.x)
    drawn = lines(
        "What is found for what it costs",
        drawn_lines,
        Axis.up_to("milliseconds a position", most),
        Axis.up_to("found", 1),
    )
    return {picture_name(out, "curve"): drawn}


def _head(report: Record, out: Path) -> str:
    run, counts = report["run"], report["counts"]
    rows = [("command", f"`{run['command']}`"), ("run", f"`{run['run']}`")]
    rows += [("configuration", f"sha256 `{run['configuration_sha256'][:16]}`"), *made_with(run)]
    return (
        "# All lenses at every token, or a walk: quality, recall, cost, memory\n\n"
        + table(("", ""), rows)
        + f"\n{counts['texts']} held-out texts, {counts['positions']} positions; what is said is compared at "
        f"{counts['compared_at']} of them. {floor_sentence(report['floor'])}\n\n"
        f"![what is found for what it costs]({picture_name(out, 'curve')})\n"
    )


def _ways(report: Record) -> str:
    ways = report["ways"]
    more = {
        "finds": [f"{way['finds']:.3f}" for way in ways.values()],
        "true": [f"{way['true']:.3f}" for way in ways.values()],
        "agrees": [f"{way['agrees']:.3f}" for way in ways.values()],
        "beyond": [f"{way['beyond']:.3f}" for way in ways.values()],
        "scored": [f"{way['scored']:.1%}" for way in ways.values()],
        "MB read a position": [digits(way["bytes_a_position"] / 1e6) for way in ways.values()],
        "MB to hold": [digits(way["bytes_to_hold"] / 1e6) for way in ways.values()],
    }
    rows = [(name, way["milliseconds"], way["floor_ms"]) for name, way in ways.items()]
    return (
        "## What each way finds, and what it costs\n\n"
        "A way *says* a concept where it scored it with probability 1/2 or more. It *finds* that share of what is true "
        "(of concepts with a measured lens) and that share of what it says is *true*. It *agrees* with that share of "
        f"what the reference says ({report['reference']}), and says that share *beyond* it. Everything hot, one "
        "position at a time, the ways taking turns; the floor is the bytes of what it scores.\n\n"
        + timing_table("way", rows, more)
    )


def _lenses(report: Record) -> str:
    names = ("auroc_text_median", "auroc_text_p10", "auroc_token_median", "auroc_token_p10")
    rows = [
        (name, one["lens"], str(one["lenses"]), *(f"{one[key]:.4f}" for key in names))
        for name, one in report["lenses"].items()
    ]
    header = ("pack", "lens", "lenses", "AUROC text", "p10", "AUROC token", "p10")
    return "## The lenses themselves, everything scored\n\n" + table(header, rows)


def _stored(report: Record) -> str:
    rows = [
        (name, *(digits(one["difference"][key]) for key in ("median", "p99", "largest", "median_of_spread")))
        for name, one in report["lenses"].items()
        if "difference" in one
    ]
    header = ("pack", "median", "99 %", "largest", "as a share of a lens's spread")
    return "## What int8 changes: |difference| of logits\n\n" + table(header, rows)


def _means(report: Record) -> str:
    lenses = list(report["lenses"].items())
    first_name, first = lenses[0]
    said = []
    for name, one in lenses[1:]:
        loss = first["auroc_text_median"] - one["auroc_text_median"]
        said.append(f"- {name}: median AUROC at a text's end {-loss:+.4f} against {first_name}\n")
    return "## Against the reference\n\n" + "".join(said)
