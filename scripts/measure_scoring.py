"""Scoring with everything in memory against the memory floor: one row, the rows of a prompt, all lenses of a pack.

    python scripts/measure_scoring.py                         writes reports/scoring.json and .md
    python scripts/measure_scoring.py --quick --out /tmp/try         the travelling pack, a try that proves nothing

1. one row, 269 base lenses and about 50 children, bf16 and int8: scoring alone, the engine, and all that a monitor
   does, beside one module at a time with its cache on;
2. the 72 positions of a prompt in one call: the base alone and the whole walk, beside one lens at a time over the same;
3. all 7,947 lenses of a compact pack (R = 256, widths 16 and 8) at one row.

The packs are made under `--work` where they are missing (minutes, once). Contents are compared in every run.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import make_synthetic_pack
from experiments.all_lenses import all_lenses
from experiments.many_rows import ONE_AT_A_TIME, many_rows
from experiments.one_row import CACHED, CHILDREN, one_row, threshold_for
from experiments.page import head
from experiments.recording import record
from experiments.requirements import Requirement, requirements_table
from experiments.subject import (
    PROMPTS,
    TRAVELLING,
    Subject,
    add_options,
    open_subject,
    pack_json,
    stored_as_int8,
    synthetic_pack,
)
from experiments.timings import times_floor
from measuring.floor import MemoryFloor
from measuring.tables import digits, floor_sentence, interval_cell, timing_table
from pages.command import make_report
from pages.files import plain
from pages.report_files import page_alone
from pages.run_record import RunRecord
from pages.tables import table
from profiling.runs import Task
from rich.progress import Progress

from lenses.errors import ConfigError
from lenses.pack import LensPack
from runtime.random_host import is_random

POSITIONS = 72
ROUNDS, MANY_ROUNDS, TOKENS = 150, 20, 33
QUICK_ROUNDS, QUICK_MANY_ROUNDS, QUICK_TOKENS = 6, 3, 9
FAST_BYTES_PER_S = 28e9
"""Where memory is so fast, a whole token has a limit in milliseconds."""

Record = dict[str, Any]


def build(arguments: argparse.Namespace, command: Sequence[str], progress: Progress) -> Record:
    """Make the report; raises PhoropterError."""
    if min(arguments.rounds, arguments.many_rounds) < 2 or arguments.tokens < 3:
        raise ConfigError(
            f"{arguments.rounds} and {arguments.many_rounds} rounds, {arguments.tokens} tokens; give 2 rounds and "
            "3 tokens or more"
        )
    begin = time.perf_counter()
    subject = open_subject(arguments.pack, arguments.host, arguments.work, progress)
    pack = subject.pack
    packs = {"bf16": pack, "int8": stored_as_int8(pack, arguments.work, progress)}
    compact = compact_pack(subject, arguments.work, progress)
    compacts = {"compact, bf16": compact, "compact, int8": stored_as_int8(compact, arguments.work, progress)}
    settings = {
        "subjects": [pack_json(one) for one in (*packs.values(), *compacts.values())],
        "rounds": arguments.rounds,
        "many_rounds": arguments.many_rounds,
        "tokens": arguments.tokens,
        "positions": POSITIONS,
        "seed": arguments.seed,
    }
    made = RunRecord.begin(command, settings)
    files = arguments.work / f"{pack.path.name}-one-by-one"
    recording = record(subject.host, pack.config.site, Task(PROMPTS[0], arguments.tokens))
    long = record(subject.host, pack.config.site, Task(" ".join(PROMPTS * 2), 1))
    prompt_PD = long.states(pack.config.input)[0][:POSITIONS]
    states_GD, compact_states_GD = (recording.states(one.config.input)[1] for one in (pack, compact))
    load_threshold = threshold_for(pack, states_GD, CHILDREN, progress)
    with MemoryFloor() as floor:
        rows = one_row(
            packs,
            subject.host,
            recording,
            files,
            load_threshold=load_threshold,
            rounds=arguments.rounds,
            warm_up=min(recording.generated_rows, arguments.rounds),
            seed=arguments.seed,
            progress=progress,
            floor=floor,
        )
        many = many_rows(
            packs,
            prompt_PD,
            files,
            rounds=arguments.many_rounds,
            seed=arguments.seed,
            progress=progress,
            floor=floor,
        )
        everything = all_lenses(
            {name: (one, compact_states_GD) for name, one in compacts.items()},
            rounds=arguments.rounds,
            seed=arguments.seed,
            progress=progress,
            floor=floor,
        )
        floor_json = floor.to_json()
        bytes_per_s = floor.bytes_per_s.median
    found = {
        "run": made.to_json() | {"seconds": round(time.perf_counter() - begin, 1)},
        "quick": arguments.quick,
        "floor": floor_json,
        "positions": len(prompt_PD),
        "load_threshold": load_threshold,
        "one_row": rows,
        "many_rows": many,
        "all_lenses": everything,
        "requirements": [one.to_json() for one in requirements(rows, many, everything, bytes_per_s)],
    }
    report: Record = plain(found, 6)  # rounded first, so that the page can be made again from the JSON
    return report


def compact_pack(subject: Subject, work: Path, progress: Progress) -> LensPack:
    """A synthetic compact pack on the subject's numbers: of the reference's tree, or for another host's width small."""
    if is_random(subject.host.id):
        return synthetic_pack(work, progress, kind="compact", host=subject.host.id)
    hidden_size = subject.pack.config.host.hidden_size
    path = work / f"compact-{hidden_size}"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        widths = f"{max(1, hidden_size // 10)},16,8"
        options = [f"--hidden-size={hidden_size}", "--kind=compact", f"--widths={widths}", f"--out={path}"]
        arguments = make_synthetic_pack.parse([*options, "--levels=5,23,241"])
        make_synthetic_pack.build(arguments, progress)
    return LensPack.from_pretrained(path)


def requirements(
    rows: Sequence[Record], many: Sequence[Record], everything: Sequence[Record], bytes_per_s: float
) -> list[Requirement]:
    """What was asked for, held against these rows."""
    one = {row["name"]: row for row in rows}
    whole_ms = {name: row["whole"]["ms"]["median"] for name, row in one.items()}
    scoring_ms = {name: row["scoring"]["ms"]["median"] for name, row in one.items()}
    compact = everything[0]["engine"]
    found = [
        Requirement("one row, bf16: scoring, of its floor", times_floor(one["bf16"]["scoring"]), most=1.4),
        Requirement(
            "one row, bf16: whole overhead, of its floor", times_floor(one["bf16"]["whole"]), most=1.6
        ),
        Requirement("one row: scoring in int8, of bf16", scoring_ms["int8"] / scoring_ms["bf16"], most=0.6),
        Requirement(
            "one row, bf16: faster than one at a time, cached", whole_ms[CACHED] / whole_ms["bf16"], least=4
        ),
        Requirement(
            "one row, int8: faster than one at a time, cached", whole_ms[CACHED] / whole_ms["int8"], least=8
        ),
    ]
    if bytes_per_s >= FAST_BYTES_PER_S:
        found.append(Requirement("one row, bf16: whole overhead", whole_ms["bf16"], "ms", most=10))
    for part in dict.fromkeys(row["part"] for row in many):
        ms = {row["name"]: row["ms"]["median"] for row in many if row["part"] == part}
        found += [
            Requirement(
                f"rows of a prompt, {part}, {dtype}: of one lens at a time",
                ms[dtype] / ms[ONE_AT_A_TIME],
                most=most,
            )
            for dtype, most in (("bf16", 0.45), ("int8", 0.25))
        ]
    return [
        *found,
        Requirement("all lenses, compact bf16: of their floor", times_floor(compact), most=2),
        Requirement("all lenses, compact bf16", compact["ms"]["median"], "ms", most=6),
    ]


def markdown(report: Record) -> str:
    """The page."""
    parts = [
        head(report, "Scoring"),
        _INTRODUCTION,
        floor_sentence(report["floor"]) + "\n",
        "## What was asked for\n",
        requirements_table(report["requirements"]),
        "## One row\n",
        f"Families are opened at {report['load_threshold']} or more here: of the thresholds tried, the one at which a "
        f"token opens nearest to {CHILDREN} children. Elsewhere the pack's own holds.\n",
        _one_row(report["one_row"]),
        f"## {report['positions']} rows of a prompt in one call\n",
        _many_rows(report["many_rows"]),
        "## All lenses of a compact pack at one row\n",
        _all_lenses(report["all_lenses"]),
    ]
    return "\n".join(parts)


_INTRODUCTION = """\
All that is wanted is in memory before the first run that is timed, and all ways take turns on the same rows. *Floor*:
the time in which this machine reads the bytes of the lenses scored, all layers, from memory; a small pack stays in the
processor's cache and can be faster. *Scoring* is initial and child detection, *engine* adds the walk and the
cache, *whole* is all that a monitor does of a token: ids, rows, input states, scoring, events. The baseline is charged
for its walk. Each way gave the same in every run, ours bit for bit, the baseline within 1e-5 of the largest logit;
logits that are off by 1e-3 were seen to differ. Sets of int8 may differ from those of bf16: lenses are counted.
"""


def _one_row(rows: Sequence[Record]) -> str:
    lines = [
        (f"{row['name']}: {part}", row[part]["ms"], row[part]["floor_ms"], row)
        for row in rows
        for part in ("scoring", "engine", "whole")
        if row[part] is not None
    ]
    found = timing_table(
        "way",
        [line[:3] for line in lines],
        {
            "lenses scored": [digits(row["lenses"]) for *_, row in lines],
            "loaded": [digits(row["loaded"]) for *_, row in lines],
            "ratio of the whole to bf16": [
                interval_cell(row["ratio"]) if row["ratio"] and name.endswith("whole") else "—"
                for name, _, _, row in lines
            ],
        },
    )
    ours = [row for row in rows if row["parts_ms"]]
    names = [name for name in ours[0]["parts_ms"] if any(row["parts_ms"][name] for row in ours)]
    components = table(
        ("component, mean ms a token", *(row["name"] for row in ours)),
        [(name, *(digits(row["parts_ms"][name]) for row in ours)) for name in names],
    )
    return f"{found}\n{components}"


def _many_rows(rows: Sequence[Record]) -> str:
    return timing_table(
        "way",
        [(f"{row['part']}: {row['name']}", row["ms"], row["floor_ms"]) for row in rows],
        {
            "distinct lenses": [str(row["lenses"]) for row in rows],
            "ratio to one at a time": [interval_cell(row["ratio"]) if row["ratio"] else "—" for row in rows],
        },
    )


def _all_lenses(rows: Sequence[Record]) -> str:
    lines = [
        (f"{row['name']}: {part}", row[part]["ms"], row[part]["floor_ms"], row)
        for row in rows
        for part in ("scoring", "engine")
    ]
    return timing_table(
        "way",
        [line[:3] for line in lines],
        {
            "lenses": [f"{row['lenses']:,}" for *_, row in lines],
            "MB read": [f"{row['size_bytes'] / 1e6:.1f}" for *_, row in lines],
        },
    )


def summary(report: Record) -> Record:
    """What the last line says."""
    return {
        "quick": report["quick"],
        "whole_ms": {row["name"]: row["whole"]["ms"]["median"] for row in report["one_row"]},
        "requirements": report["requirements"],
        "contents_equal": True,
        "control_differs": True,
    }


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("reports/scoring"), help="the report's path without ending")
    add_options(parser)
    add("--rounds", type=int, help=f"tokens that are timed (default {ROUNDS})")
    add("--many-rounds", type=int, help=f"rounds of the rows of a prompt (default {MANY_ROUNDS})")
    add("--tokens", type=int, help=f"tokens that are recorded and go round (default {TOKENS})")
    add("--seed", type=int, default=0)
    add("--quick", action="store_true", help="the travelling pack, few rounds: good for trying only")
    found = parser.parse_args(argv)
    quick = found.quick
    found.rounds = found.rounds or (QUICK_ROUNDS if quick else ROUNDS)
    found.many_rounds = found.many_rounds or (QUICK_MANY_ROUNDS if quick else MANY_ROUNDS)
    found.tokens = found.tokens or (QUICK_TOKENS if quick else TOKENS)
    if quick and found.pack is None:
        found.pack = TRAVELLING
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run; exit code 2 and one line for what the user can mend."""
    return make_report(
        "scripts/measure_scoring.py",
        argv,
        parse(argv),
        build=build,
        write=page_alone(markdown),
        summary=summary,
    )


if __name__ == "__main__":
    sys.exit(main())
