"""Holds promises of false positives and of alarms against texts that they were not made on.

    python scripts/measure_calibration.py                      the travelling pack, dictionary and manual pages
    python scripts/measure_calibration.py --pack runs/big --out reports/calibration-big
    python scripts/measure_calibration.py --quick --out /tmp/try   a try that proves nothing

What it does:
1. reads two null corpora, gcide's entries and manual pages (`runtime/training/null_texts.py`), and scores every lens at
   every token of them with the pack's host;
2. several times makes thresholds and alarm budgets of some texts (`lenses/null.py`, `lenses/alarms.py`) and counts on
   others: half of both against the other half, a second null corpus of the mixture that packs are calibrated on; half
   of the dictionary against its other half, the control in which nothing differs; the dictionary's against the
   manual's, to see what a promise is worth on a kind of text that it was not made on;
3. writes reports/calibration.json and .md.

Lenses that may alarm are judged: those that the pack's card grades A to D. Scores go through a temporary file of four
bytes a token and lens. The last line of standard output is one JSON document.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from calibrating.corpora import Corpus, score_corpus
from calibrating.promises import Part, compare, graded
from pages.calibration_report import markdown
from pages.command import make_report
from pages.files import plain
from pages.report_files import page_alone
from pages.run_record import RunRecord
from profiling.opening import add_arguments, describe, open_host, open_pack
from rich.progress import Progress

from lenses.errors import SourceError
from lenses.null import LEAST_TEXTS, LEAST_TOKENS
from runtime.training.null_texts import GCIDE, MANUAL, gcide, manual

Record = dict[str, Any]

TEXTS, QUICK_TEXTS = 4000, 300
SPLITS = 5
BUDGETS = (1.0, 5.0, 20.0, 100.0)
COMPARISONS = ("both kinds", "one kind", "another kind")


def build(arguments: argparse.Namespace, command: Sequence[str], progress: Progress) -> Record:
    """Score both corpora, compare three times; returns the report."""
    pack, where = open_pack(arguments)
    host = open_host(arguments, pack, where)
    texts = {
        "gcide": gcide(arguments.gcide, limit=arguments.texts),
        "manual": manual(arguments.man, limit=arguments.texts),
    }
    settings = {
        "pack": pack.identity,
        "host": host.id,
        "texts": {name: len(some) for name, some in texts.items()},
        "budgets": list(arguments.budgets),
        "splits": arguments.splits,
        "seed": arguments.seed,
    }
    run = RunRecord.begin(command, settings)
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        corpora = {
            name: score_corpus(name, some, pack, host, Path(scratch), progress)
            for name, some in texts.items()
        }
        for corpus in corpora.values():
            if not arguments.quick and (corpus.tokens < LEAST_TOKENS or corpus.texts < LEAST_TEXTS):
                raise SourceError(
                    f"the corpus {corpus.name} has {corpus.tokens:,} tokens in {corpus.texts:,} texts, expected "
                    f"{LEAST_TOKENS:,} in {LEAST_TEXTS:,}: install more of it (manual pages: manpages-dev), or give "
                    "another directory"
                )
        rng = np.random.default_rng(arguments.seed)
        task = progress.add_task("comparisons", total=2 * arguments.splits + 1)

        def compared(first: list[Part], second: list[Part]) -> Record:
            one = compare(first, second, pack.hierarchy, pack.heads, arguments.budgets)
            progress.advance(task)
            return one

        splits: list[dict[str, tuple[Part, Part]]] = [
            {name: _halves(corpus, rng) for name, corpus in corpora.items()} for _ in range(arguments.splits)
        ]
        both = [
            compared([first for first, _ in split.values()], [second for _, second in split.values()])
            for split in splits
        ]
        one = [compared([split["gcide"][0]], [split["gcide"][1]]) for split in splits]
        other = compared(*([(corpora[name], np.ones(corpora[name].texts, np.bool_))] for name in texts))
        found: Record = {
            "comparisons": {
                name: runs[0] | {"splits": _over_splits(runs)}
                for name, runs in zip(COMPARISONS, (both, one, [other]), strict=True)
            }
        }
    grades = graded(pack.hierarchy)
    return plain(  # type: ignore[no-any-return]
        {
            "quick": arguments.quick,
            "run": run.to_json() | {"seconds": round(time.perf_counter() - begin, 1)},
            "host": host.id,
            "pack": describe(pack),
            "grades": dict(sorted(Counter(grades.values()).items())),
            "grade_of": grades,
            **found,
        },
        5,
    )


def _halves(corpus: Corpus, rng: np.random.Generator) -> tuple[Part, Part]:
    half = np.zeros(corpus.texts, np.bool_)
    half[rng.permutation(corpus.texts)[: corpus.texts // 2]] = True
    return (corpus, half), (corpus, ~half)


def _over_splits(runs: Sequence[Record]) -> Record:
    """Of every threshold the shares of lenses inside, and of every budget whether it was kept, split by split."""
    return {
        "inside": {key: [run["rates"][key]["inside"] for run in runs] for key in runs[0]["rates"]},
        "kept": [
            [bool(run["alarms"][place].get("kept")) for run in runs]
            for place in range(len(runs[0]["alarms"]))
        ],
    }


def summary(report: Record) -> Record:
    """What the last line says."""
    return {"quick": report["quick"]} | {
        name: {key: round(float(np.mean(shares)), 3) for key, shares in one["splits"]["inside"].items()}
        | {"budgets_kept": round(float(np.mean(one["splits"]["kept"])), 3)}
        for name, one in report["comparisons"].items()
    }


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument(
        "--gcide", type=Path, default=GCIDE, help="directory of gcide.index and gcide.dict.dz"
    )
    parser.add_argument("--man", type=Path, default=MANUAL, help="directory of man1/, man2/ ...")
    parser.add_argument(
        "--texts", type=int, default=None, help=f"of each corpus, at the most (default {TEXTS})"
    )
    parser.add_argument("--budgets", type=float, nargs="+", default=BUDGETS, help="alarms per 1,000 tokens")
    parser.add_argument("--splits", type=int, default=SPLITS, help="random halves that are compared")
    parser.add_argument("--seed", type=int, default=0, help="of the halves")
    parser.add_argument("--scratch", type=Path, default=None, help="where the file of scores goes meanwhile")
    parser.add_argument(
        "--out", type=Path, default=None, help="the report's path (default reports/calibration)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="few texts, no files but with --out: good for nothing but trying"
    )
    found = parser.parse_args(argv)
    found.texts = found.texts or (QUICK_TEXTS if found.quick else TEXTS)
    if found.out is None and not found.quick:
        found.out = Path("reports/calibration")
    return found


def write(report: Record, out: Path | None) -> Sequence[Path]:
    """Write the report's files; returns their paths."""
    return [] if out is None else page_alone(markdown)(report, out)


def main(argv: Sequence[str] | None = None) -> int:
    """Run; exit code 2 and one line for what the user can mend."""
    return make_report(
        "scripts/measure_calibration.py", argv, parse(argv), build=build, write=write, summary=summary
    )


if __name__ == "__main__":
    sys.exit(main())
