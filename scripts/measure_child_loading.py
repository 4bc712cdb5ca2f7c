"""What it takes to load the children of a concept: from the page cache and cold, against the disk's own speed.

    python scripts/measure_child_loading.py                   writes reports/child-loading.json and .md
    python scripts/measure_child_loading.py --quick --out /tmp/try       the travelling pack, a try that proves nothing

The same families, spread over one file of the pack, are loaded in every way and take turns: one family at a time, as
they are met; several overlapped, as prefetch reads them; and a pickle a lens, as the one-module-at-a-time baseline has
it. *Cold* is after the file was dropped from the page cache, which is looked up. The disk's own time for the same bytes
is read between the rounds.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.loading import READERS, choose, measure
from experiments.page import head
from experiments.requirements import Requirement, requirements_table
from experiments.subject import TRAVELLING, WORK, pack_json, synthetic_pack
from measuring.floor import MemoryFloor
from measuring.tables import digits, floor_sentence, interval_cell, timing_table
from pages.command import make_report
from pages.files import plain
from pages.report_files import page_alone
from pages.run_record import RunRecord
from rich.progress import Progress

from lenses.errors import ConfigError
from lenses.pack import LensPack

FAMILIES, ROUNDS = 12, 24
QUICK_ROUNDS = 3
WARM_LENS_MS, TIMES_DISK = 0.2, 1.5
_ALONE, _OVERLAPPED = "a family at a time", "through the cache, overlapped"

Record = dict[str, Any]


def build(arguments: argparse.Namespace, command: Sequence[str], progress: Progress) -> Record:
    """Make the report; raises PhoropterError."""
    if arguments.rounds < 2:
        raise ConfigError(f"{arguments.rounds} rounds are too few to measure; give 2 or more")
    begin = time.perf_counter()
    pack = (
        synthetic_pack(arguments.work, progress)
        if arguments.pack is None
        else LensPack.from_pretrained(arguments.pack)
    )
    chosen = choose(pack, arguments.families, arguments.seed)
    settings = {
        "subject": pack_json(pack),
        "families": arguments.families,
        "rounds": arguments.rounds,
        "seed": arguments.seed,
    }
    made = RunRecord.begin(command, settings)
    task = progress.add_task("child loading", total=arguments.rounds)
    with MemoryFloor() as floor:
        found = measure(
            pack,
            chosen,
            arguments.work / f"{pack.path.name}-one-by-one",
            rounds=arguments.rounds,
            seed=arguments.seed,
            floor=floor,
            between=lambda: progress.advance(task),
        )
        floor_json = floor.to_json()
    rows = {row["name"]: row for row in found["rows"]}
    asked = [
        Requirement(
            "child loading, warm (page cache), a lens",
            rows[f"page cache: {_ALONE}"]["lens_ms"],
            "ms",
            most=WARM_LENS_MS,
        ),
        *(
            Requirement(
                f"cold, {way}, of the disk's own time",
                rows[f"cold: {way}"]["ms"]["median"] / rows[f"cold: {way}"]["floor_ms"],
                most=TIMES_DISK,
            )
            for way in (_ALONE, _OVERLAPPED)
        ),
    ]
    report: Record = plain(
        {
            "run": made.to_json() | {"seconds": round(time.perf_counter() - begin, 1)},
            "quick": arguments.quick,
            "floor": floor_json,
            "requirements": [one.to_json() for one in asked],
            **found,
        },
        6,
    )
    return report


def markdown(report: Record) -> str:
    """The page."""
    rows = report["rows"]
    found = timing_table(
        "way",
        [(row["name"], row["ms"], row["floor_ms"]) for row in rows],
        {
            "floor is": [row["floor"] for row in rows],
            "ms a lens": [digits(row["lens_ms"]) for row in rows],
            "ms a family": [digits(row["family_ms"]) for row in rows],
            "ratio to a pickle a lens": [interval_cell(row["ratio"]) for row in rows],
        },
    )
    parts = [
        head(report, "Child loading"),
        f"{report['families']} families, {report['lenses']} lenses, {report['size_bytes'] / 1e6:.1f} MB of first "
        "layers, loaded all together in each run; *ms a lens* and *ms a family* are the median's share.\n",
        _INTRODUCTION,
        floor_sentence(report["floor"]),
        _disk(report) + "\n",
        "## What was asked for\n",
        requirements_table(report["requirements"]),
        "## Ways to load\n",
        found,
        _THEIRS,
    ]
    return "\n".join(parts)


_INTRODUCTION = f"""\
*Bytes checked*: the first read of a family in a process compares its sha256; all other ways have read it before.
*Through the cache, when met* finds room, reads and pins as a walk does; *overlapped* hands all to its {READERS} readers
at once, as pre-warming does. *Warm tier to hot*: families in memory already, of which a reference is moved. The pickles
hold the same lenses in fp32, so twice the bytes of bf16; their *floor* is still that of the pack's bytes. What each run
gave was compared with the pack's bytes, off the clock; families in another order were seen to differ.
"""

_THEIRS = """
The reference printed 2.4 ms for a `torch.load` of one lens (“cold storage”), 2.36 ms over ten tokens, and 0 for its
warm cache: `lens-performance-results.md`, section 2, another machine, page cache unknown.
"""


def _disk(report: Record) -> str:
    told = []
    for readers, disk in report["disk"].items():
        direct = disk["direct_ms"]
        past = disk["direct_refused"] if direct is None else f"{digits(direct['median'])} ms past it"
        told.append(
            f"{readers} readers {digits(disk['own_ms'])} ms ({disk['size_bytes'] / disk['own_ms'] / 1e6:.2f} GB/s; "
            f"through the page cache {digits(disk['buffered_ms']['median'])} ms, {past})"
        )
    return f"The disk's own time for these ranges: {'; '.join(told)}."


def summary(report: Record) -> Record:
    """What the last line says."""
    return {
        "quick": report["quick"],
        "lens_ms": {row["name"]: row["lens_ms"] for row in report["rows"]},
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
    add("--out", type=Path, default=Path("reports/child-loading"), help="the report's path without ending")
    add("--pack", type=Path, help="a pack's directory; default: the synthetic one of the reference's size")
    add("--work", type=Path, default=WORK, help="where packs and per-lens files are made and kept")
    add("--families", type=int, default=FAMILIES, help="how many are loaded in a run (default %(default)s)")
    add("--rounds", type=int, help=f"rounds that are timed (default {ROUNDS})")
    add("--seed", type=int, default=0)
    add("--quick", action="store_true", help="the travelling pack, three rounds: good for trying only")
    found = parser.parse_args(argv)
    found.rounds = found.rounds or (QUICK_ROUNDS if found.quick else ROUNDS)
    if found.quick and found.pack is None:
        found.pack = TRAVELLING
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run; exit code 2 and one line for what the user can mend."""
    return make_report(
        "scripts/measure_child_loading.py",
        argv,
        parse(argv),
        build=build,
        write=page_alone(markdown),
        summary=summary,
    )


if __name__ == "__main__":
    sys.exit(main())
