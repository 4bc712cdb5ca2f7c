"""A sweep's report as Markdown, with its picture. Takes the report as its JSON holds it."""

from collections.abc import Mapping, Sequence
from typing import Any

from measuring.tables import TIMING, digits, floor_sentence, interval_cell, timing_cells
from pages.pictures import Axis, Stack, stacks
from pages.tables import made_with, table

from experiments.replay import COLUMNS
from experiments.theirs import DOCUMENT

Record = dict[str, Any]


def head(report: Record, title: str) -> str:
    """The title and what the run was."""
    run = report["run"]
    rows = [
        ("made by", f"`{run['command']}`"),
        ("run", f"`{run['run']}`, {run['seconds']:.0f} s"),
        ("configuration", f"`{run['configuration_sha256'][:16]}`"),
        *made_with(run),
    ]
    rows += [("about", about) for about in subjects(run["configuration"])]
    quick = (
        "**A quick try**: few tokens, few rounds. Nothing here is a result.\n\n" if report["quick"] else ""
    )
    return f"# {title}\n\n{quick}{table(('', ''), rows)}"


def subjects(configuration: Mapping[str, Any]) -> list[str]:
    """What an experiment is about, in a line each."""
    found = configuration.get("subjects") or [configuration["subject"]]
    return [
        f"{one['lenses']:,} lenses ({one['lens']}) in {one['families']:,} families on {one['hidden_size']} numbers, "
        f"pack `{one['pack']}` ({one['pack_identity'][:12]}"
        f"{', random weights' if one['synthetic'] else ''}), host `{one['host']}`"
        for one in found
    ]


WHAT_IS_TIMED = """\
**What is timed.** Rows of a real generation at the pack's site are recorded once; a replay tells a monitor what the
hook told it then: token ids, mask, rows, step by step. So input states, scoring, loading and events are in the figures,
the host is not. Every run begins cold, with a new monitor and its files dropped from the page cache ({pages_left} pages
stayed at most). Parts are exclusive times and sum to the whole; *other* is expansion, input states, hook and events.
The one-module-at-a-time baseline is handed input states and charged for its walk alone; its lenses are fp32 files of
their own. *Children loaded* are lenses read from disk, *children scored* those scored beyond the base. *Hit rate*: of
the requests of generated tokens, those served from memory; a request is a (position, family) pair, of the baseline a
(position, lens) pair. *Floor* is the time in which this machine reads the bytes of the lenses scored. *Change* is of
the mean time of a token against *{against}*, which runs twice: its second row shows what a change is worth.

Every run saw what the reference of its walk saw, bit for bit; the baseline within 1e-5 of the largest logit. Rows that
are off by 1e-3 were seen to give other contents.
"""


def sweep_page(
    report: Record,
    *,
    title: str,
    introduction: str,
    pictures: Sequence[str],
    more: Sequence[str] = (),
    twins: Sequence[str] = (),
) -> str:
    """The page of a sweep; `more` are sections of its own."""
    recorded = report["recordings"]
    texts = ", ".join(f"“{one['prompt']}” ({one['prompt_tokens']} tokens)" for one in recorded)
    rows_each = recorded[0]["generated_rows"]
    parts = [
        head(report, title),
        introduction,
        f"Texts: {texts}; {rows_each} generated rows each.\n",
        WHAT_IS_TIMED.format(pages_left=report["checks"]["pages_left"], against=report["against"]),
        floor_sentence(report["floor"]) + "\n",
        "## Where the time of a generated token goes\n",
        where_the_time_goes(report["rows"]),
        *(f"![milliseconds of a generated token]({name})\n" for name in pictures),
        *more,
        "## Counts, spread and floor\n",
        counts_and_spread(report["rows"]),
    ]
    if report["whole"]:
        parts += ["## Whole generations\n", whole_table(report["whole"])]
    if twins:
        parts += [f"## The reference's tables ({DOCUMENT}) and their twins\n", THEIRS, *twins]
    return "\n".join(parts)


THEIRS = """\
*Theirs* was measured on another machine (a GPU), one prompt of ten tokens, and is printed as it stands there; nothing
follows from holding it against ours but the shape. Their layers 0-2, 0-1 and 0 had 1,360, 267 and 10 lenses.
"""


def where_the_time_goes(rows: Sequence[Record]) -> str:
    """The reference's columns: means over tokens and runs, in milliseconds."""
    header = ("", "base lenses", "per-token overhead", *COLUMNS, "change")
    lines = [
        (
            row["name"],
            str(row["base_lenses"]),
            digits(row["token_ms"]["mean"]),
            *(digits(row["parts_ms"][part]) for part in COLUMNS),
            change_cell(row["change"]),
        )
        for row in rows
    ]
    return table(header, lines)


def counts_and_spread(rows: Sequence[Record]) -> str:
    """What was counted, and how the times of tokens lie."""
    header = (
        "",
        *TIMING,
        "first 10 tokens ms",
        "children scored a token",
        "children loaded a token",
        "hit rate",
        "prompt ms",
        "loaded before",
        "start ms",
        "ratio",
        "p",
    )
    lines = []
    for row in rows:
        change = row["change"]
        lines.append(
            (
                row["name"],
                *timing_cells(row["token_ms"], row["floor_ms"]),
                digits(row["first_ten_ms"]),
                digits(row["children_scored"]),
                digits(row["children_loaded"]),
                "—" if row["hit_rate"] is None else f"{row['hit_rate']:.3f}",
                digits(row["prompt_ms"]),
                digits(row["prompt_loaded"]),
                digits(row["start_ms"]),
                "—" if change is None else interval_cell(change["ratio"]),
                "—" if change is None else digits(change["p"]),
            )
        )
    note = (
        "*n* counts tokens of all runs; *ratio* and *p* (signed ranks, two-sided, uncorrected) are of runs, of the "
        "baseline of few.\n"
    )
    return f"{table(header, lines)}\n{note}"


def whole_table(rows: Sequence[Record]) -> str:
    """Whole generations beside the host alone."""
    header = (
        "",
        "runs",
        "first token ms",
        "a token after ms",
        "p95",
        "overhead by the clock ms",
        "more than the host alone ms",
        "in all ms",
    )
    lines = [
        (
            row["name"],
            str(row["runs"]),
            digits(row["first_token_ms"]["median"]),
            digits(row["token_ms"]["median"]),
            digits(row["token_ms"]["p95"]),
            "—" if row["overhead_ms"] is None else digits(row["overhead_ms"]["mean"]),
            "—" if row["more_than_bare_ms"] is None else interval_cell(row["more_than_bare_ms"]),
            digits(row["total_ms"]["median"]),
        )
        for row in rows
    ]
    note = (
        "From the call of `generate` on; the prompt is in the first token. All wrote the same tokens, and the events "
        "were those of the replays.\n"
    )
    return f"{table(header, lines)}\n{note}"


def change_cell(change: Record | None) -> str:
    """A change in per cent."""
    return "—" if change is None else f"{100 * (change['ratio'][0] - 1):+.1f} %"


def picture(report: Record, title: str, labels: Mapping[str, str] | None = None) -> str:
    """Milliseconds of a token, stacked by component; `labels` shortens names, and leaves out those that it has not."""
    shown = [row for row in report["rows"] if labels is None or row["name"] in labels]
    bars = [Stack((labels or {}).get(row["name"], row["name"]), row["parts_ms"]) for row in shown]
    most = max(sum(bar.parts.values()) for bar in bars)
    return stacks(title, bars, Axis.up_to("ms a generated token", most))
