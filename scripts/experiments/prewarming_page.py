"""The report of pre-warming as Markdown, with its picture. Takes the report as its JSON holds it."""

from collections.abc import Sequence
from typing import Any

from measuring.tables import digits, floor_sentence, interval_cell
from pages.pictures import Axis, Stack, stacks
from pages.tables import table

from experiments import theirs, twins
from experiments.page import head, where_the_time_goes
from experiments.prewarming import LENGTHS, name_of
from experiments.verdict import JUDGED

Record = dict[str, Any]

_INTRODUCTION = """\
Pre-warming reads, after the prompt's forward, the families that any of its positions will want in overlapped batches,
before the first word is generated. It changes no event. Here it is crossed with the cache (off: the smallest hot
budget, no warm tier) and with the events of the prompt (off: nothing of the prompt would be scored but for
pre-warming).

**Cold generations.** Every run drops the pack's files from the page cache, opens the pack anew, so that the bytes of
every family are checked when first read, makes a monitor and generates greedily. All totals are from the opening of the
pack: start, prompt and first token are in them. Runs of one text and round are a pair; *ratio* and *difference* are
medians over pairs, with 95 % intervals. The time to the 10th token is
taken from the longer runs too. Within one round every variant wrote the same tokens and, of the same prompt events, saw
the same; a walk of width 1 was seen to see something else.

**Replays** are the same without the host: recorded rows, one text a run, from the same cold start.

Texts: {texts}.
"""


def markdown(report: Record, pictures: Sequence[str | None]) -> str:
    """The page; of each walk the name of its picture, if it has one."""
    parts = [head(report, "Pre-warming"), _INTRODUCTION.format(texts=_texts(report))]
    parts.append(floor_sentence(report["floor"]) + "\n")
    for walk, picture in zip(report["walks"], pictures, strict=True):
        parts += _walk(walk, picture)
    return "\n".join(parts)


def picture(walk: Record) -> str | None:
    """Milliseconds until the judged token, by what they went into, the cache on; None where no run is long enough."""
    reached = [str(n) for n in LENGTHS if n <= JUDGED and str(n) in walk["rows"][0]["until_ms"]]
    if not reached:
        return None
    length = reached[-1]
    bars = []
    for events in ("full", "off"):
        for prewarm in (False, True):
            row = next(row for row in walk["rows"] if row["name"] == name_of(prewarm, True, events))
            rest = row["until_ms"][length]["mean"] - row["first_token_ms"]["mean"]
            lenses = row["lenses_until_ms"][length]
            parts = {
                "start": row["start_ms"]["mean"],
                "first token: lenses": row["prompt_ms"]["mean"],
                "first token: host": max(
                    0.0, row["first_token_ms"]["mean"] - row["start_ms"]["mean"] - row["prompt_ms"]["mean"]
                ),
                "later tokens: lenses": lenses,
                "later tokens: host": max(0.0, rest - lenses),
            }
            bars.append(Stack(f"{events}, {'on' if prewarm else 'off'}", parts))
    most = max(sum(bar.parts.values()) for bar in bars)
    return stacks(
        f"Prompt + {length} tokens from a cold start",
        bars,
        Axis.up_to("ms", most),
        x_label="prompt events, pre-warming",
    )


def _texts(report: Record) -> str:
    return ", ".join(f"“{one['prompt']}” ({one['prompt_tokens']} tokens)" for one in report["recordings"])


def _walk(walk: Record, picture: str | None) -> list[str]:
    threshold = "the pack's own" if walk["load_threshold"] is None else f"{walk['load_threshold']:g}"
    return [
        f"## Load threshold: {threshold}\n",
        walk["verdict"]["sentence"] + "\n",
        *([f"![where the time goes]({picture})\n"] if picture else []),
        "### Cold generations: whole times\n",
        _totals(walk["rows"]),
        "### Cold generations: lens time\n",
        _lens_time(walk["rows"]),
        "### Pre-warming on against off, from the opening of the pack to the token of this number\n",
        _tests(walk["compared"]),
        "### Replays: where the time of a generated token goes\n",
        where_the_time_goes([row | {"change": None} for row in walk["replays"]]),
        "### Replays: the prompt, and what was loaded when\n",
        _prompts(walk["replays"]),
        f"## The reference's tables ({theirs.DOCUMENT}) and their twins, load threshold: {threshold}\n",
        "*Theirs* was measured on another machine (a GPU), on one prompt and ten tokens, without the cache of its "
        "section 2.\n",
        *_twins(walk),
    ]


def _totals(rows: Sequence[Record]) -> str:
    lengths = [length for length in LENGTHS if any(str(length) in row["until_ms"] for row in rows)]
    header = ["", "runs", "start ms", "first token ms", "p95"]
    for length in lengths:
        header += [f"until token {length}: n", "median ms", "p95 ms"]
    lines = []
    for row in rows:
        cells = [row["name"], str(row["runs"]), digits(row["start_ms"]["median"])]
        cells += [digits(row["first_token_ms"][name]) for name in ("median", "p95")]
        for length in lengths:
            ms = row["until_ms"].get(str(length))
            cells += ["—"] * 3 if ms is None else [str(ms["n"]), digits(ms["median"]), digits(ms["p95"])]
        lines.append(cells)
    return table(header, lines)


def _lens_time(rows: Sequence[Record]) -> str:
    header = (
        "",
        "prompt phase ms",
        "of it child loading",
        "children loaded in it",
        "per-token overhead ms",
        "median",
        "p95",
        "of it child loading",
        "children loaded a token",
    )
    lines = [
        (
            row["name"],
            digits(row["prompt_ms"]["mean"]),
            digits(row["prompt_parts_ms"]["child loading"]),
            digits(row["prompt_loaded"]),
            *(digits(row["token_ms"][name]) for name in ("mean", "median", "p95")),
            digits(row["parts_ms"]["child loading"]),
            digits(row["children_loaded"]),
        )
        for row in rows
        if "token_ms" in row
    ]
    return table(header, lines)


def _tests(tests: Sequence[Record]) -> str:
    header = ("token", "cache", "prompt events", "pairs", "ratio", "difference ms", "p", "after Holm", "")
    lines = [
        (
            str(test["length"]),
            "on" if test["cache"] else "off",
            test["prompt_events"],
            str(test["pairs"]),
            interval_cell(test["ratio"]),
            interval_cell(test["difference_ms"]),
            digits(test["p"]),
            digits(test["p_holm"]),
            test["outcome"],
        )
        for test in tests
    ]
    return table(header, lines)


def _prompts(rows: Sequence[Record]) -> str:
    header = (
        "",
        "prompt ms",
        "of it child loading",
        "loaded in the prompt",
        "loaded a token after",
        "scored a token",
        "hit rate",
        "n",
        "median ms",
        "p95 ms",
        "floor ms",
    )
    lines = [
        (
            row["name"],
            digits(row["prompt_ms"]),
            digits(row["prompt_parts_ms"]["child loading"]),
            digits(row["prompt_loaded"]),
            digits(row["children_loaded"]),
            digits(row["children_scored"]),
            "—" if row["hit_rate"] is None else f"{row['hit_rate']:.3f}",
            str(row["token_ms"]["n"]),
            digits(row["token_ms"]["median"]),
            digits(row["token_ms"]["p95"]),
            digits(row["floor_ms"]),
        )
        for row in rows
    ]
    return table(header, lines)


def _twins(walk: Record) -> list[str]:
    on, off = (name_of(prewarm, True, "off") for prewarm in (True, False))
    cold = {row["name"]: row for row in walk["rows"]}[on]
    ours = {
        "prompt phase": cold["first_token_ms"]["mean"] - cold["start_ms"]["mean"],
        "of that lens detection": cold["prompt_ms"]["mean"],
        "of that child loading": cold["prompt_parts_ms"]["child loading"],
        "children loaded": cold["prompt_loaded"],
        "amortised over 10 tokens": cold["prompt_ms"]["mean"] / 10,
    }
    units = {name: "" if name == "children loaded" else ", ms" for name in ours}
    prompt = [
        (f"{name}{units[name]}", digits(value), digits(ours[name]))
        for name, value in theirs.PROMPT_PHASE.items()
    ]
    return [
        twins.before_after(theirs.PREWARMING, walk["replays"], [(off, on)]),
        "### 3. Pre-Warming Strategy Results: Prompt Phase (One-time Cost)\n",
        table(("metric", "theirs", f"ours: {on}"), prompt),
        "### 3. Pre-Warming Strategy Results: Concept Overlap Validation\n",
        _overlap(walk["overlap"]),
        f"Theirs: {100 * theirs.OVERLAP:.0f} %, estimated from how many children were not loaded again; ours are "
        "counted where they are wanted.\n",
    ]


def _overlap(rows: Sequence[Record]) -> str:
    header = (
        "tokens",
        "texts",
        "families the prompt wants",
        "families the generation wants",
        "share of these wanted before",
        "share of its requests",
        "share of the prompt's that it wants",
    )
    lines = [
        (
            str(row["length"]),
            str(row["texts"]),
            digits(row["prompt_families"]),
            digits(row["generation_families"]),
            *(
                "—" if row[name] is None else f"{row[name]:.3f}"
                for name in ("of_families", "of_requests", "of_prompt")
            ),
        )
        for row in rows
    ]
    return table(header, lines)
