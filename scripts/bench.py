"""A short fixed set of ratios and counters, held against the committed ones: `make bench`, a minute and a half.

    python scripts/bench.py            measure and compare with reports/bench.json
    python scripts/bench.py --quick    the same in fewer rounds, as continuous integration runs it
    python scripts/bench.py --update   measure, compare, and write reports/bench.json

Everything is measured in one run on one machine, and only ratios are kept. Exit code 0 whatever the times, 1 with one
line where contents differ or a counter that must move does not, 2 for what the user can mend.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from guarding.committed import Record, compare, format_lines, read_committed
from guarding.ratios import Broken
from guarding.reading import reading_ratios
from guarding.scoring import scoring_ratios
from guarding.watching import watching_counters, watching_ratios
from pages.files import plain
from pages.report_files import json_text
from pages.run_record import RunRecord
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from lenses.errors import PhoropterError
from lenses.files import write_atomically
from lenses.pack import LensPack
from runtime.host import load_host

PACK = Path("lens_packs/wordnet-mini")
ROUNDS, QUICK_ROUNDS = 20, 4


def measure(rounds: int, command: Sequence[str], progress: Progress) -> Record:
    """Run the whole set; raises Broken."""
    run = RunRecord.begin(command, {"rounds": rounds})
    begin = time.perf_counter()
    task = progress.add_task("bench", total=3 * rounds)

    def between() -> None:
        progress.advance(task)

    pack = LensPack.from_pretrained(PACK)
    host = load_host(PACK / "host", device="cpu")
    counters = watching_counters(host, pack)
    with tempfile.TemporaryDirectory(prefix="bench-") as place:
        ratios = scoring_ratios(Path(place), rounds=rounds, between=between)
        of_files, not_measured = reading_ratios(
            LensPack.from_pretrained(Path(place) / "bf16"), rounds=rounds, between=between
        )
    ratios += of_files + watching_ratios(host, pack, rounds=rounds, between=between)
    found: Record = plain(
        {
            "run": run.to_json() | {"seconds": round(time.perf_counter() - begin, 1)},
            "ratios": {ratio.name: ratio.to_json() for ratio in ratios},
            "not_measured": not_measured,
            "counters": counters,
        }
    )
    return found


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds instead of {ROUNDS}")
    parser.add_argument("--update", action="store_true", help="write what was measured as the committed run")
    parser.add_argument("--committed", type=Path, default=Path("reports/bench.json"))
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run; see above for the exit code."""
    arguments = parse(argv)
    command = ["python", "scripts/bench.py", *(sys.argv[1:] if argv is None else argv)]
    columns = TextColumn("{task.description}"), BarColumn()
    try:
        then = read_committed(arguments.committed)
        with Progress(*columns, console=Console(stderr=True)) as progress:
            now = measure(QUICK_ROUNDS if arguments.quick else ROUNDS, command, progress)
        if arguments.update:
            write_atomically(arguments.committed, json_text(now))
    except Broken as error:
        print(f"broken: {error}", file=sys.stderr)
        return 1
    except PhoropterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    lines = compare(then, now)
    print(format_lines(lines))
    for name, reason in now["not_measured"].items():
        print(f"not measured: {name}: {reason}")
    print(
        json.dumps(
            {"seconds": now["run"]["seconds"], "changed": [line.name for line in lines if line.stands_out]}
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
