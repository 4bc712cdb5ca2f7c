"""Writes what `profile_lens_overhead.py` found as a page to read, and its pictures.

It takes the report as its JSON holds it; knows nothing about how the numbers came about.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from measuring.tables import digits, floor_sentence, interval_cell

from pages.pictures import Axis, Stack, stacks
from pages.tables import made_with, table

Record = dict[str, Any]

HOST = "host"


def markdown(report: Record, pictures: Sequence[str] = ()) -> str:
    """The page; `pictures` are where they lie, as the page is to name them."""
    run = report["run"]
    head = [
        ("made by", f"`{run['command']}`"),
        ("run", f"`{run['run']}`, {run['seconds']:.0f} s"),
        ("configuration", f"`{run['configuration_sha256'][:16]}`"),
        *made_with(run),
        ("host", report["host"]),
        ("pack", report["pack"]),
        ("cache", _CACHE[report["cache"]]),
        ("texts", ", ".join(f"{one['prompt']} + {one['new']}" for one in report["texts"]) + " tokens"),
    ]
    parts = [f"# Where a token's time goes: {report['name']}\n"]
    if report["quick"]:
        parts.append("**A quick try**: few tokens, few rounds. Nothing here is a result.\n")
    parts += [_equality(report["equal"]), table(("", ""), head), _times(report)]
    for phase, title in (("generation", "A generated token"), ("prompt", "The prompt, and its first token")):
        parts.append(_components(report["components"][phase], title, report["floor"]))
    parts += [f"![{path}]({path})\n" for path in pictures]
    parts += [_loading(report["components"]), _cache(report["hits"]), _opportunities(report["opportunities"])]
    return "\n".join(parts)


def pictures(report: Record) -> dict[str, str]:
    """Per-token time stacked by component, by the picture's name: with the host, and lenses alone."""
    tokens = report["tokens"]
    return {
        "tokens": _stacked("Per-token time by component", tokens, ()),
        "lenses": _stacked("Per-token time by component, without the host", tokens, (HOST,)),
    }


def _stacked(title: str, tokens: Sequence[Record], without: Sequence[str]) -> str:
    found = [
        Stack(str(at), {name: ms for name, ms in token["parts_ms"].items() if name not in without})
        for at, token in enumerate(tokens, start=1)
    ]
    most = max(sum(stack.parts.values()) for stack in found)
    label = "token generated; the first, with the prompt in it, left out"
    return stacks(title, found, Axis.up_to("ms", max(most, 1e-3)), x_label=label)


_CACHE = {
    "warm": "warm: one monitor over all rounds; what the texts want was met before",
    "cold": "cold: a new monitor for each run, the pack's files dropped from the page cache before",
}


def _equality(equal: Record) -> str:
    found, control = equal["found"], equal["control"]
    seen = "differs" if control["seen_to_differ"] else "does **not** differ"
    verdict = "equal" if equal["equal"] else "**not shown to be equal**"
    sets = "the same lenses scored" if found["same_sets"] else "**other lenses scored**"
    return (
        f"Events at {found['positions']} positions are {verdict} to one lens at a time: {sets}, largest difference "
        f"{digits(found['largest'])} of the largest logit ({digits(equal['bound'])} is allowed). The control, states "
        f"1e-3 off, {seen} ({digits(control['largest'])}). Text and contents of all runs are the same.\n"
    )


_TIMES = ("n", "mean", "median", "p95", "p99", "max")


def _times(report: Record) -> str:
    times, table_of = report["times"], report["components"]
    rows = [(name, *_summary(way["token_ms"])) for name, way in times["ways"].items()]
    rows += [(f"*{name}*", *_summary(way["token_ms"])) for name, way in times["differences"].items()]
    rows.append(("lenses, as the clock saw them", *_summary(table_of["generation"]["lens_ms"])))
    whole = [_whole(name, way) for name, way in times["ways"].items()]
    whole += [
        (*_whole(f"*{name}*", way)[:-1], interval_cell(way["total_ratio"]))
        for name, way in times["differences"].items()
    ]
    start = report["start_up_ms"]
    return (
        "## Tokens after the first, ms\n\n"
        "Ways take turns, round by round; differences (in italics) are paired by round, text and token. *Off again* is "
        "*off* once more: what they differ by means nothing. *Overhead* is *on* - *off*; *clock* is what the clock "
        "itself costs.\n\n"
        + table(("", *_TIMES), rows)
        + "\n## First token, ending and whole runs, medians in ms\n\n"
        "The prompt is in the first token; the ending is from the last token to the return. A whole run is all texts "
        f"of a round. Start-up, before any run: {digits(start['median'])} ms (n = {start['n']}: opening the pack, "
        "reading the base).\n\n"
        + table(("", "first token", "p95", "ending", "whole run", "ratio (95 %)"), whole)
    )


def _whole(name: str, way: Record) -> tuple[str, ...]:
    first, ending, total = way["first_ms"], way["ending_ms"], way["total_ms"]
    return name, *(digits(x) for x in (first["median"], first["p95"], ending["median"], total["median"])), "—"


def _summary(found: Mapping[str, Any]) -> tuple[str, ...]:
    return (str(found["n"]), *(digits(found[name]) for name in _TIMES[1:]))


def _components(found: Record, title: str, floor: Record) -> str:
    on_device = any(row["device_ms"] is not None for row in found["rows"])
    header = ["component", "mean ms", "median ms", "p95 ms", "share", "MB moved", "floor ms", "times floor"]
    rows = [
        [
            row["component"],
            *(digits(row[name]) for name in ("mean_ms", "median_ms", "p95_ms")),
            _share(row["share"]),
            digits(row["moved_bytes"] / 1e6) if row["moved_bytes"] else "—",
            *(digits(row[name]) if row[name] else "—" for name in ("floor_ms", "times_floor")),
            *([_or_dash(row["device_ms"])] if on_device else []),
        ]
        for row in found["rows"]
    ]
    more = [""] * on_device
    remainder = [
        "*seen by no component*",
        digits(found["remainder_ms"]),
        "",
        "",
        _share(found["remainder_share"]),
    ]
    whole = ["**whole**", digits(found["whole_ms"]), "", "", "100 %", "", digits(found["floor_ms"]), ""]
    scored = found["scored"]
    within = "within" if abs(found["remainder_share"]) <= 0.05 else "**not** within"
    return (
        f"## {title}\n\n"
        f"{found['steps']} steps; {digits(scored['base lenses'])} base lenses and {digits(scored['lenses'])} others of "
        f"{digits(scored['families'])} families each. The components sum to the whole {within} 5 %; the whole is what "
        f"the token times say. {floor_sentence(floor)}\n\n"
        + table(
            [*header, *(["device ms"] if on_device else [])],
            [*rows, [*remainder, "", "", "", *more], [*whole, *more]],
        )
    )


def _loading(components: Mapping[str, Record]) -> str:
    rows = [
        (
            phase,
            row["origin"],
            *(digits(row[name]) for name in ("families", "lenses")),
            digits(row["bytes"] / 1e6),
            _or_dash(row["ms"]),
            _or_dash(row["ms_a_lens"]),
        )
        for phase, found in components.items()
        for row in found["loading"]
    ]
    return (
        "## Child loading, a step\n\n"
        "Where the families that were scored were found when their turn came; a family that serves several positions "
        "of a step counts once. *Read ahead* is what pre-warming read, which is found hot later; its time is what was "
        "waited for. Finding and pinning hot families is cache management, and on a CPU so is warm to hot, which moves "
        "a reference.\n\n" + table(("phase", "found", "families", "lenses", "MB", "ms", "ms a lens"), rows)
    )


def _cache(hits: Record) -> str:
    rows = []
    for phase in ("prompt", "generation"):
        found = hits[phase]
        counts = [str(found[name]) for name in ("requests", "hot_hits", "warm_hits", "cold_misses", "failed")]
        rows.append((phase, *counts, _share(found["hot_rate"]), _share(found["memory_rate"])))
    moves = [
        (name.replace("_", " "), str(hits[name]))
        for name in ("reads", "bytes_read", "prefetched", "promotions", "demotions", "evictions")
    ]
    held = [
        (f"{name.replace('_bytes', '').replace('_', ' ')}, MB", digits(hits[name] / 1e6))
        for name in (
            *("base_bytes", "hot_peak_bytes", "hot_budget_bytes"),
            *("warm_peak_bytes", "warm_budget_bytes"),
        )
    ]
    return (
        f"## The cache, counted over {hits['runs']} runs\n\n"
        "A request is a (position, family) pair; repeats within a position are not counted.\n\n"
        + table(("phase", "requests", "hot", "warm", "cold", "failed", "hot rate", "in memory"), rows)
        + "\n"
        + table(("", ""), [*moves, *held])
    )


def _opportunities(found: Mapping[str, Sequence[Record]]) -> str:
    parts = [
        "## What is left to gain, ranked\n\nMean milliseconds above the memory floor, if a component came to it.\n"
    ]
    for phase in ("generation", "prompt"):
        rows = [
            (
                str(rank),
                one["component"],
                *(digits(one[name]) for name in ("ms", "floor_ms", "gain_ms")),
                _share(one["gain_share"]),
                one["remedy"],
            )
            for rank, one in enumerate(found[phase], start=1)
        ]
        header = ("", "component", "ms", "floor ms", "gain ms", "of lens time", "what would remove it")
        parts.append(f"### {phase.capitalize()}\n\n" + table(header, rows))
    return "\n".join(parts)


def _share(value: float | None) -> str:
    return "—" if value is None else f"{100 * value:.1f} %"


def _or_dash(value: float | None) -> str:
    return "—" if value is None else digits(value)
