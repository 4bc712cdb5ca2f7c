"""Keeps the ledger of one watched generation: what each change does to prefill, generation and their total.

    python scripts/ledger.py                              writes reports/ledger.json and .md, about five minutes
    python scripts/ledger.py --quick --out runs/try       the travelling pack, short runs: a try that proves nothing
    python scripts/ledger.py --pack DIR [--int8-pack DIR] another pack and its host

What it does:
1. makes the packs of random lenses that it needs, where they are missing: for a Gemma-3 of the true shape and
   vocabulary, some blocks of it, weights random (bf16, and the same in int8);
2. runs every variant at two lengths, all in turns, round by round, the default twice (an A/A pair);
3. compares what every run wrote and saw with the default's first run, and shows that rows which are a little off
   are seen to differ;
4. writes a row a variant, good or bad. One that cannot run here is a row that says why.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import make_synthetic_pack
from baseline.files import export_baseline
from baseline.ways import start_compiler
from ledgers.compiled import CompiledBlocks
from ledgers.fused import FusedQKV
from ledgers.one_at_a_time import OneAtATimeMonitor
from ledgers.rows import Record, Timed, ledger_rows
from ledgers.timing import Samples, Subject, control, generation_ms, prefill_ms, time_subjects, total_ms
from ledgers.variants import DEFAULT, VARIANTS, HostChange, Variant
from measuring.comparing import fewest_rounds
from pages.command import make_report
from pages.files import plain
from pages.ledger_report import markdown
from pages.report_files import page_alone
from pages.run_record import RunRecord
from profiling.runs import Task
from rich.progress import Progress

from lenses.errors import ConfigError, HostError
from lenses.pack import LensPack
from runtime.config import MonitorConfig
from runtime.host import Host, load_host
from runtime.monitor import Monitor

HOST, LEVELS = "random:gemma-3-270m:4", "5,23,241,400"
"""269 lenses in the base, 400 below it."""
QUICK_PACK = Path("lens_packs/wordnet-mini")
ROUNDS, LENGTHS, QUICK_LENGTHS = 10, (6, 24), (2, 6)
PROMPT, QUICK_PROMPT = "A violin is small.", "A violin is"
NOT_COMPILED = "a quick try compiles nothing: that takes a minute or two"
NO_INT8 = (
    "no int8 pack given: make one (scripts/make_synthetic_pack.py --dtype int8) and give it as --int8-pack"
)


def build(arguments: argparse.Namespace, command: Sequence[str], progress: Progress) -> Record:
    """Make everything ready, time it; returns the report."""
    prompt = QUICK_PROMPT if arguments.quick else PROMPT
    short, long = (Task(prompt, tokens) for tokens in arguments.new_tokens)
    if not 1 < short.new_tokens < long.new_tokens:
        raise ConfigError(
            f"lengths of {short.new_tokens} and {long.new_tokens} tokens; give two or more, and then more"
        )
    begin = time.perf_counter()
    pack, int8_pack = packs(arguments, progress)
    host = load_host(pack.host_dir or pack.config.host.id, device="cpu")
    not_compiled = NOT_COMPILED if arguments.quick else start_compiler()[1]
    settings = {
        "host": host.id,
        "host_dtype": str(host.model.dtype).removeprefix("torch."),
        "pack": pack.identity,
        "int8_pack": None if int8_pack is None else int8_pack.identity,
        "lenses": pack.config.concepts,
        "prompt": prompt,
        "new_tokens": [short.new_tokens, long.new_tokens],
        "rounds": arguments.rounds,
        "seed": arguments.seed,
    }
    run = RunRecord.begin(command, settings)
    with ExitStack() as opened:
        ready = Ready(host, pack, int8_pack, not_compiled, opened)
        made = [(variant, ready.subject(variant)) for variant in VARIANTS]
        subjects = [found for _, found in made if isinstance(found, Subject)]
        rounds = max(arguments.rounds, fewest_rounds(len(subjects) - 1))
        task = progress.add_task(f"{len(subjects)} variants", total=rounds)
        samples = time_subjects(
            subjects,
            (short, long),
            rounds=rounds,
            seed=arguments.seed,
            between=lambda: progress.advance(task),
        )
        differs = control(subjects[0], short)
    rows = ledger_rows(
        [timed(one, short, long, rounds) for one in samples],
        short_tokens=short.new_tokens,
        long_tokens=long.new_tokens,
        seed=arguments.seed,
    )
    by_name = {row["name"]: row for row in rows}
    found = {
        "run": run.to_json() | {"seconds": round(time.perf_counter() - begin, 1)},
        "quick": arguments.quick,
        "events": samples[0].runs[long.new_tokens][0].events,
        "base_lenses": ready.base_count,
        "rounds": rounds,
        "baseline": DEFAULT.name,
        "control": differs,
        "rows": [
            by_name[variant.name]
            if isinstance(subject, Subject)
            else {"name": variant.name, "changes": variant.changes, "reason": subject}
            for variant, subject in made
        ],
    }
    report: Record = plain(found, 6)  # rounded first, so that the page can be made again from the JSON
    return report


def timed(samples: Samples, short: Task, long: Task, rounds: int) -> Timed:
    """The numbers of one variant's timed runs."""
    return Timed(
        samples.variant.name,
        samples.variant.changes,
        samples.ms(long.new_tokens, prefill_ms, rounds),
        samples.ms(long.new_tokens, generation_ms, rounds),
        samples.ms(short.new_tokens, total_ms, rounds),
        samples.agreement,
    )


class Ready:
    """Makes subjects of variants; those that watch alike share a monitor, and those that change the host alike that."""

    def __init__(
        self,
        host: Host,
        pack: LensPack,
        int8_pack: LensPack | None,
        not_compiled: str | None,
        opened: ExitStack,
    ) -> None:
        self._host, self._pack, self._int8_pack, self._opened = host, pack, int8_pack, opened
        self._not_compiled = not_compiled
        self._monitors: dict[object, Monitor] = {}
        self._changes: dict[HostChange, AbstractContextManager[object]] = {}
        self.base_count = 0

    def subject(self, variant: Variant) -> Subject | str:
        """The variant ready to run, or why it cannot."""
        if "compiled" in variant.host and self._not_compiled is not None:
            return self._not_compiled
        if variant.int8 and self._int8_pack is None:
            return NO_INT8
        try:
            changes = tuple(self._change(name) for name in variant.host)
        except HostError as error:
            return str(error)
        return Subject(variant, self._host, self._monitor(variant) if variant.watched else None, changes)

    def _change(self, name: HostChange) -> AbstractContextManager[object]:
        if name not in self._changes:
            model = self._host.model
            self._changes[name] = FusedQKV(model) if name == "fused QKV" else CompiledBlocks(model)
        return self._changes[name]

    def _monitor(self, variant: Variant) -> Monitor:
        key = variant.banked, variant.int8, variant.little_memory, variant.settings
        if key not in self._monitors:
            self._monitors[key] = self._make_monitor(variant)
            self._opened.callback(self._monitors[key].close)
        return self._monitors[key]

    def _make_monitor(self, variant: Variant) -> Monitor:
        pack = self._int8_pack if variant.int8 and self._int8_pack is not None else self._pack
        settings = dict(variant.settings) | (little_memory(pack) if variant.little_memory else {})
        config = MonitorConfig(**settings)  # type: ignore[arg-type]
        if variant.banked:
            monitor = Monitor(pack, config)
            self.base_count = monitor.engine.base_count
            return monitor
        directory = Path(self._opened.enter_context(tempfile.TemporaryDirectory(prefix="ledger-")))
        export_baseline(pack, directory)
        return OneAtATimeMonitor(pack, config, directory)


def little_memory(pack: LensPack) -> dict[str, int]:
    """Budgets for the base and a quarter of the other families, or the largest of them, and nothing warm."""
    base = set(pack.hierarchy.base_families(pack.config.base_levels))
    sizes = {family.index: pack.family_bytes(family.index) for family in pack.hierarchy.families}
    rest = [size for family, size in sizes.items() if family not in base]
    room = max(sum(rest) // 4, max(rest, default=0))
    return {"hot_budget_bytes": sum(sizes[family] for family in base) + room, "warm_budget_bytes": 0}


def packs(arguments: argparse.Namespace, progress: Progress) -> tuple[LensPack, LensPack | None]:
    """The pack, and the one in int8 if there is one."""
    if arguments.pack is not None:
        int8 = arguments.int8_pack
        return (
            LensPack.from_pretrained(arguments.pack),
            None if int8 is None else LensPack.from_pretrained(int8),
        )
    return synthetic_pack("bf16", progress), synthetic_pack("int8", progress)


def synthetic_pack(dtype: str, progress: Progress) -> LensPack:
    """The pack of random lenses for the default host, made where it is missing."""
    name = f"ledger-{HOST}-{LEVELS}-{dtype}".replace("random:", "").replace(":", "-").replace(",", "-")
    directory = Path("runs") / name
    if directory.exists():
        return LensPack.from_pretrained(directory)
    told = ["--host", HOST, "--levels", LEVELS, "--dtype", dtype, "--out", str(directory)]
    return make_synthetic_pack.build(make_synthetic_pack.parse(told), progress)[0]


def summary(report: Record) -> Record:
    """What the last line says."""
    return {
        "quick": report["quick"],
        "baseline": report["baseline"],
        "total_ms": {row["name"]: row["ms"]["total"]["mean"] for row in report["rows"] if "ms" in row},
        "verdicts": {row["name"]: row["verdict"]["outcome"] for row in report["rows"] if row.get("verdict")},
        "not_run": {row["name"]: row["reason"] for row in report["rows"] if "reason" in row},
    }


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("reports/ledger"), help="the report's path without ending")
    add("--pack", type=Path, help=f"default: random lenses for {HOST}, made under runs/")
    add("--int8-pack", type=Path, help="the same lenses in int8, with --pack")
    add("--rounds", type=int, default=ROUNDS, help="more are run where a verdict needs more")
    add("--new-tokens", type=int, nargs=2, help=f"the two lengths (default {LENGTHS[0]} {LENGTHS[1]})")
    add("--seed", type=int, default=0)
    add("--quick", action="store_true", help="the travelling pack, short runs: only to try the program")
    found = parser.parse_args(argv)
    if found.quick:
        found.pack = found.pack or QUICK_PACK
    found.new_tokens = found.new_tokens or (QUICK_LENGTHS if found.quick else LENGTHS)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run; exit code 2 and one line for what the user can mend."""
    return make_report(
        "scripts/ledger.py", argv, parse(argv), build=build, write=page_alone(markdown), summary=summary
    )


if __name__ == "__main__":
    sys.exit(main())
