"""Writes what `measure_tail.py` found as a page to read, and its picture of memory.

It takes the report as its JSON holds it; knows nothing about how the numbers came about.
"""

from collections.abc import Sequence
from typing import Any

from measuring.tables import digits

from pages.pictures import Axis, Line, lines
from pages.tables import made_with, table

Record = dict[str, Any]


def markdown(report: Record, pictures: Sequence[str] = ()) -> str:
    """The page; `pictures` are where they lie, as the page is to name them."""
    run, tail, memory = report["run"], report["tail"], report["memory"]
    head = [
        ("made by", f"`{run['command']}`"),
        ("run", f"`{run['run']}`, {run['seconds']:.0f} s"),
        ("configuration", f"`{run['configuration_sha256'][:16]}`"),
        *made_with(run),
        ("host", report["host"]),
        ("pack", report["pack"]),
    ]
    names = ("n", "median", "mean", "p95", "p99", "max")
    times = [
        (
            name,
            *(digits(tail[name]["ms"][one]) if one != "n" else str(tail[name]["ms"]["n"]) for one in names),
            digits(tail[name]["p99_to_median"]),
        )
        for name in ("engine", "empty loop")
    ]
    grown = [
        (
            name,
            str(found["tokens"]),
            *(digits(found[one]) for one in ("first_mib", "last_mib", "most_mib", "growth_bytes_a_token")),
            "yes" if found["flat"] else "**no**",
        )
        for name, found in memory.items()
    ]
    parts = ["# The engine's slow tokens, and its memory\n"]
    if report["quick"]:
        parts.append("**A quick try**: few tokens. Nothing here is a result.\n")
    parts += [
        table(("", ""), head),
        f"The engine alone scores {report['states']} recorded states of the host, one at a time, again and again, all "
        f"families hot ({_rate(tail)} of {tail['requests']} requests). The *empty loop* is as long as the engine's "
        "median, uses as many threads and no memory, and takes turns with it token by token: its tail is the "
        "machine's.\n\n"
        "## Milliseconds a token\n",
        table(("", *names, "p99 / median"), times),
        "## Memory\n\nThe process's resident set. Growth is from the median of the second quarter of the samples to "
        f"that of the last; up to {report['flat_bytes']} bytes a token count as flat. The control keeps "
        f"{report['leak_bytes']} bytes of every token and must not be flat.\n",
        table(("", "tokens", "first MiB", "last MiB", "most MiB", "growth, bytes a token", "flat"), grown),
        *(f"![{path}]({path})\n" for path in pictures),
    ]
    return "\n".join(parts)


def pictures(report: Record) -> dict[str, str]:
    """Memory over tokens, of the engine and of the control, by the picture's name."""
    found = [
        Line(name, one["tokens_T"], [mib - one["mib_T"][0] for mib in one["mib_T"]])
        for name, one in report["memory"].items()
    ]
    longest = max(max(line.x) for line in found)
    most = max(1.0, *(max(line.y) for line in found))
    x, y = Axis.up_to("tokens scored", longest), Axis.up_to("MiB above the first sample", most)
    return {"memory": lines("The process's memory while tokens are scored", found, x, y)}


def _rate(tail: Record) -> str:
    return "—" if tail["hot_rate"] is None else f"{100 * tail['hot_rate']:.1f} %"
