"""Times the ways to score a bank of lenses: one module at a time, compiled, stacked, in int8, and ours.

    python scripts/benchmark_lens_compilation.py                     writes reports/lens-compilation.json and .md
    python scripts/benchmark_lens_compilation.py --quick --out /tmp/try    a try of two minutes that proves nothing
    python scripts/benchmark_lens_compilation.py --rows 1 --rounds 200     more rounds, one state at a time only

What it does, for one state and for the 72 of a prompt:
1. makes random lenses (269 of 2560-128-64-1) and every way to score them; ours reads packs written
   to a temporary place;
2. compiles what is to be compiled, from an empty cache, and says how long that took;
3. runs all ways in turns, round by round, the memory floor read between the rounds, the baseline twice (an A/A pair);
   what is over ten times slower than the baseline does so in five rounds of its own, with the baseline;
4. compares the logits of every timed run with the baseline's;
5. writes what came out, good or bad. A way that cannot run here is a row that says why.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from baseline.ways import (
    ONE_AT_A_TIME,
    NotRun,
    Stack,
    Way,
    each_compiled,
    one_at_a_time,
    one_at_a_time_bf16,
    one_graph,
    stacked,
    start_compiler,
)
from measuring.comparing import ratio
from measuring.floor import MemoryFloor
from measuring.rounds import Rounds, Variant, alternate
from measuring.turns import turns
from pages.command import make_report
from pages.compilation_report import markdown
from pages.files import plain
from pages.report_files import page_alone
from pages.run_record import RunRecord
from rich.progress import Progress

from lenses.bank import Backend, Bank
from lenses.concept import Hierarchy
from lenses.config import HostConfig, InputConfig, LensConfig
from lenses.errors import ConfigError
from lenses.lens import Floats
from lenses.pack import LensPack

HIDDEN_SIZE, WIDTHS = 2560, (128, 64)
LENSES, ROUNDS, COMPILE_SECONDS = 269, 30, 600
QUICK_LENSES, QUICK_ROUNDS, QUICK_COMPILE_SECONDS = 32, 8, 40
ROWS = (1, 72)
SLOW, SLOW_ROUNDS = 10, 5
"""A way that is so many times slower than the baseline takes turns with it in a few rounds of their own."""
_PACKS: tuple[tuple[str, Backend], ...] = (
    ("fp32", "numba"),
    ("bf16", "numba"),
    ("int8", "numba"),
    ("bf16", "torch"),
)
_ITEM_BYTES = {"fp32": 4, "bf16": 2, "int8": 1}

Record = dict[str, object]


@dataclass(slots=True)
class Difference:
    """The largest difference of logits from the reference, over all runs of a way."""

    reference_BN: Floats
    largest: float = field(default=0.0)

    def add(self, logits_BN: Floats) -> None:
        """Compare one more result; a way of fewer lenses has the first ones."""
        expected_BN = self.reference_BN[:, : logits_BN.shape[1]]
        self.largest = max(self.largest, float(np.abs(logits_BN - expected_BN).max()))


def build(arguments: argparse.Namespace, command: Sequence[str], progress: Progress) -> Record:
    """Make all ways, time them; returns the report."""
    if arguments.lenses < 2 or min(arguments.rows) < 1 or arguments.rounds < 2:
        raise ConfigError(
            f"{arguments.lenses} lenses, {arguments.rows} rows, {arguments.rounds} rounds are too few to measure; "
            "give two lenses, one row, two rounds or more"
        )
    settings = {
        "lenses": arguments.lenses,
        "hidden_size": HIDDEN_SIZE,
        "widths": list(WIDTHS),
        "rows": list(arguments.rows),
        "rounds": arguments.rounds,
        "compile_seconds": arguments.compile_seconds,
        "seed": arguments.seed,
    }
    run = RunRecord.begin(command, settings)
    begin = time.perf_counter()
    stack = Stack.random(arguments.lenses, HIDDEN_SIZE, WIDTHS, arguments.seed)
    compiler_s, no_compiler = start_compiler()
    with tempfile.TemporaryDirectory(prefix="lens-compilation-") as place, ExitStack() as opened:
        ours = list(bank_ways(stack, Path(place), opened, progress))
        batches = [time_ways(stack, ours, rows, no_compiler, arguments, progress) for rows in arguments.rows]
    found = {
        "run": run.to_json() | {"seconds": round(time.perf_counter() - begin, 1)},
        "quick": arguments.quick,
        "compiler": {"start_s": compiler_s, "missing": no_compiler},
        "batches": batches,
    }
    report: Record = plain(found, 6)  # rounded first, so that the page can be made again from the JSON
    return report


def bank_ways(stack: Stack, place: Path, opened: ExitStack, progress: Progress) -> Iterator[Way | NotRun]:
    """Ours: the bank on packs of the same weights, in each dtype that packs have."""
    packs: dict[str, LensPack] = {}
    for dtype, backend in progress.track(_PACKS, description="packs"):
        name = f"lenses.bank, {backend}, {dtype}"
        try:
            pack = packs[dtype] if dtype in packs else make_pack(stack, place / dtype, dtype)
        except ConfigError as error:
            yield NotRun(name, str(error))
            continue
        packs[dtype] = pack
        bank = Bank(pack, range(len(pack.hierarchy.families)), backend=backend)
        opened.callback(bank.close)
        yield Way(name, partial(_score_bank, bank), stack.size_bytes(_ITEM_BYTES[dtype]), stack.lenses)


def _score_bank(bank: Bank, states_BD: Floats) -> Floats:
    return bank.score_base(bank.inputs(states_BD))


def make_pack(stack: Stack, directory: Path, dtype: str) -> LensPack:
    """A pack of the stack's lenses, in their order; raises ConfigError for a dtype that packs do not have."""
    lens = LensConfig("mlp", WIDTHS, dtype)  # type: ignore[arg-type]
    top = min(5, stack.lenses - 1)
    nodes: list[tuple[str, str, str | None]] = [(f"c{n}", f"c{n}", None) for n in range(top)]
    nodes += [(f"c{n}", f"c{n}", f"c{n % top}") for n in range(top, stack.lenses)]
    hierarchy = Hierarchy.build(nodes)
    return LensPack.create(
        directory,
        host=HostConfig("random", None, HIDDEN_SIZE, 1, "fp32"),
        site="resid_post.0",
        input=InputConfig(),
        lens=lens,
        base_levels=(0, 1),
        hierarchy=hierarchy,
        first_layers=[
            stack.weight1[family.first : family.first + family.rows].reshape(-1, HIDDEN_SIZE)
            for family in hierarchy.families
        ],
        heads=stack.heads(),
    )


def time_ways(
    stack: Stack,
    ours: Sequence[Way | NotRun],
    rows: int,
    no_compiler: str | None,
    arguments: argparse.Namespace,
    progress: Progress,
) -> Record:
    """All ways on so many states, in turns."""
    states_BD = np.random.default_rng(arguments.seed).standard_normal((rows, HIDDEN_SIZE), dtype=np.float32)
    task = progress.add_task(f"{rows} rows: compiling", total=None)
    compiled = list(compiled_ways(stack, states_BD, no_compiler, arguments.compile_seconds))
    progress.update(task, total=1, completed=1)
    baseline = one_at_a_time(stack)
    ways = [baseline, one_at_a_time_bf16(stack), *compiled, *stacked(stack), *ours]
    counts = {way.lenses for way in ways if isinstance(way, Way)} - {stack.lenses}
    same_lenses = {n: one_at_a_time(stack, n, name=f"{ONE_AT_A_TIME}, {n} lenses") for n in counts}
    ways += same_lenses.values()
    reference_BN = baseline.score(states_BD)
    timed = {way.name: way for way in ways if isinstance(way, Way)}
    differences = {name: Difference(reference_BN) for name in timed}
    variants = {
        name: Variant(name, partial(way.score, states_BD), check=differences[name].add)
        for name, way in timed.items()
    }
    again = variants[baseline.name].again()
    held_against = [baseline.name, *(way.name for way in same_lenses.values())]
    slow = slow_ones(variants, baseline.name) - set(held_against)
    fast_variants = [*(variants[name] for name in timed if name not in slow), again]
    turns = dict.fromkeys(
        timed, take_turns(f"{rows} rows", fast_variants, arguments.rounds, arguments.seed, progress)
    )
    turns[again.name] = turns[baseline.name]
    if slow:
        slow_variants = [variants[name] for name in (*held_against, *slow)]
        slow_rounds = min(SLOW_ROUNDS, arguments.rounds)
        in_few = take_turns(f"{rows} rows: slow ways", slow_variants, slow_rounds, arguments.seed, progress)
        turns |= dict.fromkeys(slow, in_few)

    def record(way: Way, name: str) -> Record:
        found, floor = turns[name]
        against = same_lenses.get(way.lenses, baseline).name
        estimate = ratio(found[name], found[against], seed=arguments.seed)
        return {
            "name": name,
            "lenses": way.lenses,
            "size_bytes": way.size_bytes,
            "ms": found.summary(name).to_json(),
            "floor_ms": floor.floor_ms(way.size_bytes),
            "compile_s": way.compile_s,
            "largest_difference": differences[way.name].largest,
            "against": against,
            "ratio": None if name == against else [estimate.value, estimate.low, estimate.high],
        }

    return {
        "rows": rows,
        "floor": turns[baseline.name][1].to_json(),
        "largest_logit": float(np.abs(reference_BN).max()),
        "ways": [
            {"name": way.name, "reason": way.reason} if isinstance(way, NotRun) else record(way, way.name)
            for way in ways
        ]
        + [record(baseline, again.name)],
    }


def slow_ones(variants: Mapping[str, Variant], baseline: str) -> set[str]:
    """Names of those that one call shows to be so slow that few rounds must do."""
    first = alternate(list(variants.values()), rounds=1, warm_up=1)
    return {name for name in variants if first[name][0] > SLOW * first[baseline][0]}


def take_turns(
    title: str, variants: Sequence[Variant], rounds: int, seed: int, progress: Progress
) -> tuple[Rounds, MemoryFloor]:
    """Time the variants in turns; returns their samples, and the floor read between the rounds."""
    with MemoryFloor() as floor:
        found = turns(
            variants, rounds=rounds, warm_up=2, seed=seed, title=title, progress=progress, floor=floor
        )
        return found, floor


def compiled_ways(
    stack: Stack, states_BD: Floats, no_compiler: str | None, seconds: float
) -> Iterator[Way | NotRun]:
    """What torch.compile makes; where it makes nothing here, rows that say why."""
    if no_compiler is not None:
        yield NotRun("one module at a time, each compiled", no_compiler)
        yield NotRun("one graph", no_compiler)
        return
    torch._dynamo.reset()
    with torch._inductor.utils.fresh_cache():
        yield each_compiled(stack, states_BD, seconds=seconds)
        yield from one_graph(stack, states_BD)


def summary(report: Record) -> Record:
    """What the last line says."""
    return {
        "quick": report["quick"],
        "batches": [
            {
                "rows": batch["rows"],
                "median_ms": {way["name"]: way["ms"]["median"] for way in batch["ways"] if "ms" in way},
                "not_run": {way["name"]: way["reason"] for way in batch["ways"] if "reason" in way},
            }
            for batch in report["batches"]  # type: ignore[attr-defined]
        ],
    }


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=Path("reports/lens-compilation"), help="the report's path without ending"
    )
    parser.add_argument("--lenses", type=int, default=None, help=f"how many (default {LENSES})")
    parser.add_argument(
        "--rows", type=int, nargs="+", default=ROWS, help="states scored in one call (default 1 72)"
    )
    parser.add_argument("--rounds", type=int, default=None, help=f"rounds that are timed (default {ROUNDS})")
    parser.add_argument(
        "--compile-seconds",
        type=float,
        default=None,
        help=f"stop compiling lenses one by one after so long; the rest stays out (default {COMPILE_SECONDS})",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"{QUICK_LENSES} lenses, {QUICK_ROUNDS} rounds: good for nothing but trying the program",
    )
    found = parser.parse_args(argv)
    quick = found.quick
    found.lenses = found.lenses or (QUICK_LENSES if quick else LENSES)
    found.rounds = found.rounds or (QUICK_ROUNDS if quick else ROUNDS)
    found.compile_seconds = found.compile_seconds or (QUICK_COMPILE_SECONDS if quick else COMPILE_SECONDS)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run; exit code 2 and one line for what the user can mend."""
    return make_report(
        "scripts/benchmark_lens_compilation.py",
        argv,
        parse(argv),
        build=build,
        write=page_alone(markdown),
        summary=summary,
    )


if __name__ == "__main__":
    sys.exit(main())
