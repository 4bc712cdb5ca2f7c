"""Kills what writes packs, fifty times each at random: the pack must be absent or whole, and no debris may stay.

    python scripts/kill_at_random.py                          all cases: conversion, import, training, download
    python scripts/kill_at_random.py --case import --times 6 --out /tmp/interruptions

A case is a function in CASES that makes what the command needs in a directory of its own and says what to run, where it
writes, and which places must be clean in the end (`interrupting.kills.Case`).

The last line of standard output is one JSON document.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from foreign.state_dicts import tree_keys, write_directory
from interrupting.downloads import kill_downloads
from interrupting.kills import Case, interrupt
from pages.command import make_report
from pages.files import plain
from pages.report_files import page_alone
from pages.run_record import RunRecord
from pages.tables import made_with, table
from rich.progress import Progress
from synthetic.tree import synthetic_tree
from synthetic.weights import FirstLayers, random_heads

from lenses.config import HostConfig, InputConfig, LensConfig
from lenses.errors import ConfigError
from lenses.pack import LensPack

Record = dict[str, Any]

TIMES = 50
PHOROPTER = (sys.executable, "-c", "import sys; from runtime.cli import main; sys.exit(main())")
"""The command line, as it is started by whatever Python runs this."""


def conversion(directory: Path) -> Case:
    """`phoropter pack convert` of a pack of a few hundred lenses to int8."""
    lens, size = LensConfig("mlp", (64, 32), "fp32"), 1024
    hierarchy = synthetic_tree((5, 20, 100, 200), 0)
    LensPack.create(
        directory / "source",
        host=HostConfig("no-host", None, size, 1, "fp32"),
        site="resid_post.0",
        input=InputConfig(),
        lens=lens,
        base_levels=[0, 1],
        hierarchy=hierarchy,
        first_layers=FirstLayers(hierarchy, lens.h1, size, 0),
        heads=random_heads(lens, size, len(hierarchy), 0),
        provenance={"synthetic": "random weights, to be killed"},
    )
    place = directory / "out"
    place.mkdir()
    target = place / "pack"
    argv = [
        *PHOROPTER,
        *("pack", "convert", str(directory / "source"), "--dtype", "int8", "--out", str(target)),
    ]
    return Case("conversion", argv, target, [place])


def importing(directory: Path) -> Case:
    """`phoropter pack import` of 144 state dicts with a LayerNorm."""
    write_directory(directory / "source", tree_keys((4, 5, 6)), norm=True, size=512, widths=(64, 32))
    place = directory / "out"
    place.mkdir()
    target = place / "pack"
    facts = ("--site", "resid_post.1", "--blocks", "4", "--host-dtype", "bf16", "--pooling", "token")
    argv = [*PHOROPTER, "pack", "import", str(directory / "source"), *facts, "--out", str(target)]
    return Case("import", argv, target, [place])


def training(directory: Path) -> Case:
    """`phoropter train` of linear lenses for a tiny host of random weights."""
    nodes = [
        ("animal", None),
        ("tool", None),
        ("dog", "animal"),
        ("cat", "animal"),
        ("saw", "tool"),
        ("axe", "tool"),
    ]
    concepts, texts = directory / "concepts.jsonl", directory / "texts.jsonl"
    concepts.write_text(
        "".join(json.dumps({"id": id, "name": id, "parent": above}) + "\n" for id, above in nodes)
    )
    told = [
        {"text": f"The {id} of number {n} is here.", "concepts": [id]}
        for n in range(200)
        for id, _ in nodes[2:]
    ]
    texts.write_text("".join(json.dumps(one) + "\n" for one in told))
    place = directory / "out"
    place.mkdir()
    target = place / "pack"
    argv = [*PHOROPTER, "train", "--model", "random:gemma-3-tiny", "--kind", "linear", "--device", "cpu"]
    argv += [
        "--site",
        "resid_post.1",
        "--pooling",
        "token",
        "--concepts",
        str(concepts),
        "--texts",
        str(texts),
    ]
    return Case("training", [*argv, "--out", str(target)], target, [place])


CASES: Mapping[str, Callable[[Path], Case]] = {
    "conversion": conversion,
    "import": importing,
    "training": training,
}
"""What is killed, by name; and `DOWNLOAD`, which needs a hub."""
DOWNLOAD = "download"
TRAVELLING = Path("lens_packs/wordnet-mini")


def build(arguments: argparse.Namespace, command: Sequence[str], progress: Progress) -> Record:
    """Kill each case's command; returns the report."""
    if arguments.times < 1:
        raise ConfigError(f"{arguments.times} kills show nothing; give 1 or more")
    names = arguments.case or [*CASES, DOWNLOAD]
    run = RunRecord.begin(command, {"cases": names, "times": arguments.times, "seed": arguments.seed})
    begin = time.perf_counter()
    found, downloads = [], None
    for name in names:
        bar = progress.add_task(name, total=arguments.times)
        if name == DOWNLOAD:
            downloads = Counter({"absent": 0, "whole": 0})
            for state in kill_downloads(TRAVELLING, arguments.times, arguments.seed):
                downloads[state] += 1
                progress.advance(bar)
            continue
        with tempfile.TemporaryDirectory() as directory:
            case = CASES[name](Path(directory))
            one = interrupt(case, arguments.times, arguments.seed, partial(progress.advance, bar))
            one["command"] = [word.replace(directory, "DIR") for word in one["command"]]
        found.append(one)
    seconds = round(time.perf_counter() - begin, 1)
    report: Record = plain(
        {"cases": found, "downloads": downloads, "run": run.to_json() | {"seconds": seconds}}, 4
    )
    return report


def markdown(report: Record) -> str:
    """The page."""
    run = report["run"]
    head = [
        ("made by", f"`{run['command']}`"),
        ("run", f"`{run['run']}`, {run['seconds']:.0f} s"),
        ("configuration", f"`{run['configuration_sha256'][:16]}`"),
        *made_with(run),
    ]
    columns = ("command", "usual s", "writes, s", "killed", "had ended", "absent", "whole", "put back")
    rows = [
        (
            one["case"],
            " to ".join(f"{seconds:.1f}" for seconds in sorted(one["usual_s"])),
            " to ".join(f"{seconds:.1f}" for seconds in one["writing_s"]),
            *(str(one[name]) for name in ("killed", "ended_before", "absent", "whole", "put_back")),
            str(one["debris_seen"]),
            str(len(one["broken"])),
            "yes" if _is_clean(one) else "**no**",
        )
        for one in report["cases"]
    ]
    parts = [
        "# Packs that were interrupted\n",
        table(("", ""), head),
        "A command's process group is killed at a random moment. Then its pack is *absent*, *whole* (every byte as the "
        "command writes it without being killed), or *put back*: it was there before, was caught as the new one took "
        "its place, and is there again after the next start. *Debris seen* is how often a kill left something aside, "
        "that is, met the command as it wrote. In the end the command ran once more to its end; *clean* is whether "
        "then exactly the pack was there.\n",
        table((*columns, "debris seen", "broken", "clean in the end"), rows),
    ]
    if (downloads := report["downloads"]) is not None:
        parts.append(
            "A download from a hub on this machine, killed in the same way at a moment while bytes come, left the pack "
            f"absent {downloads['absent']} times and whole {downloads['whole']} times; each time the next start had it "
            "whole and left no debris.\n"
        )
    parts += [f"- {one['case']}, broken {said}\n" for one in report["cases"] for said in one["broken"]]
    return "\n".join(parts)


def _is_clean(one: Record) -> bool:
    return one["same_in_the_end"] and not one["debris_in_the_end"] and not one["missing_in_the_end"]


def summary(report: Record) -> Record:
    """What the last line says."""
    found: Record = {} if report["downloads"] is None else {DOWNLOAD: report["downloads"]}
    return found | {
        one["case"]: {
            "kills": one["kills"],
            "debris_seen": one["debris_seen"],
            "broken": len(one["broken"]),
            "clean_in_the_end": _is_clean(one),
        }
        for one in report["cases"]
    }


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--case", choices=[*CASES, DOWNLOAD], action="append", help="may be given again; default: all")
    add("--times", type=int, default=TIMES, help="kills of each; default %(default)s")
    add("--seed", type=int, default=0)
    add(
        "--out",
        type=Path,
        default=Path("reports/interruptions"),
        help="the report's path without ending; default %(default)s",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run; exit code 2 and one line for what the user can mend."""
    return make_report(
        "scripts/kill_at_random.py",
        argv,
        parse(argv),
        build=build,
        write=page_alone(markdown),
        summary=summary,
    )


if __name__ == "__main__":
    sys.exit(main())
