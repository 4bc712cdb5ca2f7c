"""Says where the time of a watched token goes, component by component, and how far that is from the memory's limit.

    python scripts/profile_lens_overhead.py                                the travelling pack and its host
    python scripts/profile_lens_overhead.py --quick --json -               a try of seconds that proves nothing
    python scripts/profile_lens_overhead.py --pack runs/big --name big     a pack that names a random host
    python scripts/profile_lens_overhead.py --cache cold --trace /tmp/trace.json     open that in ui.perfetto.dev

What it does:
1. runs the same texts with lenses off, off again, on, and on with a clock, in turns, the memory floor read between the
   rounds; every run's text and events are compared with the first's;
2. holds events at a sample of positions against one lens at a time, and sees that a control differs;
3. writes reports/profile-NAME.json, .md and pictures: per-token times, the component table, child loading, what the
   cache counted, what is left to gain; with --trace, one more run as a trace.

The last line of standard output is one JSON document; `--json -` makes it the whole report.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from measuring.floor import MemoryFloor
from measuring.samples import Summary
from pages.command import make_report
from pages.files import plain
from pages.profile_report import markdown, pictures
from pages.report_files import json_text, picture_name, write_report
from pages.run_record import RunRecord
from profiling.components import PHASES, component_table
from profiling.counted import counted
from profiling.equality import equality
from profiling.opening import add_arguments, describe, open_host, open_pack
from profiling.opportunities import opportunities
from profiling.prompts import PROMPTS
from profiling.runs import Run, Task
from profiling.states import record
from profiling.token_times import token_times
from profiling.trace import check_trace, trace
from profiling.traffic import Sizes
from profiling.turns import CLOCKED, take_turns
from profiling.watching import Watching
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import Progress

from lenses.errors import ConfigError
from lenses.files import write_atomically
from lenses.pack import LensPack
from runtime.clock import Clock
from runtime.config import MonitorConfig, parse_bytes, parse_levels
from runtime.generate import encode
from runtime.host import Host
from runtime.monitor import Monitor

Record = dict[str, Any]

TOKENS, ROUNDS = 50, 5
QUICK_TOKENS, QUICK_ROUNDS = 12, 3
GAP = 0.05


def build(arguments: argparse.Namespace, command: Sequence[str], progress: Progress) -> Record:
    """Run everything; returns the report."""
    if arguments.max_new_tokens < 2 or arguments.rounds < 1:
        raise ConfigError(
            f"{arguments.max_new_tokens} tokens, {arguments.rounds} rounds are too few to profile; give 2 tokens, the "
            "first one is apart, and a round"
        )
    config = monitor_config(arguments)
    pack, where = open_pack(arguments)
    host = open_host(arguments, pack, where)
    tasks = [Task(prompt, arguments.max_new_tokens) for prompt in arguments.prompt]
    run = RunRecord.begin(
        command,
        {
            "pack": pack.identity,
            "host": host.id,
            "monitor": asdict(config),
            "cache": arguments.cache,
            "prompts": list(arguments.prompt),
            "max_new_tokens": arguments.max_new_tokens,
            "rounds": arguments.rounds,
        },
    )
    begin = time.perf_counter()
    task = progress.add_task("rounds", total=arguments.rounds)
    with ExitStack() as stack:
        floor = stack.enter_context(MemoryFloor())

        def between() -> None:
            floor.sample()
            progress.advance(task)

        make_clock = partial(Clock, config.device)
        watching = stack.enter_context(Watching(pack.path, config, arguments.cache))
        clocked = stack.enter_context(Watching(pack.path, config, arguments.cache, clock=make_clock))
        turns = take_turns(host, tasks, watching, clocked, rounds=arguments.rounds, between=between)
        sizes = Sizes.of(clocked.monitor.engine)
    with Monitor(pack, config) as monitor:
        equal = equality(pack, config, record(host, tasks[0], pack, monitor))
    if arguments.trace is not None:
        write_trace(host, tasks[0], pack, config, arguments)
    runs = [run for by_round in turns.runs[CLOCKED] for run in by_round]
    tables = {phase: component_table(runs, phase, sizes, floor.floor_ms) for phase in PHASES}
    for phase, found in tables.items():
        assert found["largest_gap"] <= GAP, f"{phase}: the parts of a step are {found['largest_gap']:.1%} off"
    generation = tables["generation"]
    report: Record = plain(
        {
            "components_ms": {row["component"]: row["mean_ms"] for row in generation["rows"]},
            "total_ms": generation["whole_ms"],
            "floor_ms": generation["floor_ms"],
            "overhead_ms": None,
            "hits": counted([watched for by_round in turns.clocked for watched in by_round]),
            "equal_to_reference": equal["equal"],
            "name": arguments.name,
            "quick": arguments.quick,
            "run": run.to_json() | {"seconds": round(time.perf_counter() - begin, 1)},
            "host": host.id,
            "pack": f"{describe(pack)}, {sizes.base_lenses} in the base",
            "cache": arguments.cache,
            "texts": [{"prompt": prompt_tokens(host, one), "new": one.new_tokens} for one in tasks],
            "times": token_times(turns.runs),
            "start_up_ms": Summary.of(clocked.start_up_ms).to_json(),
            "components": tables,
            "opportunities": {phase: opportunities(found["rows"]) for phase, found in tables.items()},
            "floor": floor.to_json(),
            "equal": equal,
            "tokens": per_token(host, turns.runs[CLOCKED][0]),
        },
        6,
    )
    report["overhead_ms"] = report["times"]["differences"]["overhead"]["token_ms"]["median"]
    return report


def monitor_config(arguments: argparse.Namespace) -> MonitorConfig:
    """The monitor's settings as the command line has them; raises ConfigError."""
    return MonitorConfig(
        base_levels=None if arguments.base_levels is None else parse_levels(arguments.base_levels),
        top_k=arguments.top_k,
        load_threshold=arguments.load_threshold,
        exhaustive=arguments.exhaustive,
        prompt_events=arguments.prompt_events,
        prewarm=arguments.prewarm,
        missing=arguments.missing,
        read_every=arguments.read_every,
        hot_budget_bytes=parse_bytes(arguments.hot_budget),
        warm_budget_bytes=parse_bytes(arguments.warm_budget),
        device=arguments.device,
    )


def write_trace(
    host: Host, task: Task, pack: LensPack, config: MonitorConfig, arguments: argparse.Namespace
) -> None:
    """One more run, traced: after a first one that is thrown away where the cache is warm."""
    clock = Clock(config.device, trace=True)
    with Watching(pack.path, config, arguments.cache, clock=lambda: clock) as watching:
        watching.prepare()
        if arguments.cache == "warm":
            watching.run(host, task)
            clock.spans.clear()
        run = watching.run(host, task).run
    found = trace(run.steps, clock.spans, [host.tokenizer.decode([token]) for token in run.token_ids])
    check_trace(found)
    arguments.trace.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(arguments.trace, json_text(found))


def prompt_tokens(host: Host, task: Task) -> int:
    """How many tokens a prompt has."""
    return int(encode(host.model, host.tokenizer, task.prompt)["input_ids"].shape[1])


def per_token(host: Host, runs: Sequence[Run]) -> list[Record]:
    """The tokens of one text after the first: each one's text, and its components' means over the rounds."""
    found = []
    for at, token in enumerate(runs[0].token_ids[1:], start=1):
        steps = [run.steps[at] for run in runs]
        names = dict.fromkeys(name for step in steps for name in step.parts_ms)
        means = {
            str(name): float(np.mean([step.parts_ms.get(name, 0.0) for step in steps])) for name in names
        }
        found.append({"token": host.tokenizer.decode([token]), "parts_ms": means})
    return found


def show_and_write(report: Record, out: Path | None, *, to_stderr: bool) -> list[Path]:
    """Show the page, write the report's files where there is a place for them; returns their paths."""
    console = Console(stderr=to_stderr)
    console.width = max(console.width, 140)
    console.print(Markdown(markdown(report)))
    if out is None:
        return []
    drawn = {picture_name(out, name): svg for name, svg in pictures(report).items()}
    return write_report(out, json=json_text(report), page=markdown(report, sorted(drawn)), pictures=drawn)


def summary(report: Record) -> Record:
    """What the last line says without `--json -`."""
    names = ("name", "components_ms", "total_ms", "floor_ms", "overhead_ms", "equal_to_reference")
    return {name: report[name] for name in names}


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument(
        "--prompt", action="append", default=None, help="a text to go on from; may be repeated"
    )
    parser.add_argument("--max-new-tokens", type=int, default=None, help=f"of each text (default {TOKENS})")
    parser.add_argument("--rounds", type=int, default=None, help=f"rounds that are timed (default {ROUNDS})")
    parser.add_argument(
        "--cache",
        choices=("warm", "cold"),
        default="warm",
        help="warm: what the texts want was met before; cold: a new monitor each run, its pack not in the page cache",
    )
    parser.add_argument("--base-levels", default=None, help="such as 0,1 (default: the pack's)")
    parser.add_argument(
        "--top-k", type=int, default=None, help="families opened a level (default: the pack's)"
    )
    parser.add_argument("--load-threshold", type=float, default=None, help="(default: the pack's)")
    parser.add_argument("--exhaustive", action="store_true", help="score every lens at every position")
    parser.add_argument("--hot-budget", default="512MiB", help="(default 512MiB)")
    parser.add_argument("--warm-budget", default="2GiB", help="(default 2GiB)")
    parser.add_argument("--no-prewarm", dest="prewarm", action="store_false", help="read nothing ahead")
    parser.add_argument("--prompt-events", choices=("full", "base", "off"), default="full")
    parser.add_argument("--missing", choices=("strict", "deferred"), default="strict")
    parser.add_argument(
        "--read-every", type=int, default=1, help="score generated tokens in groups of this many"
    )
    parser.add_argument("--name", default=None, help="the report's name (default: the pack's)")
    parser.add_argument(
        "--out", type=Path, default=None, help="its path without ending (default reports/profile-NAME)"
    )
    parser.add_argument("--trace", type=Path, default=None, help="write one run here for Perfetto")
    parser.add_argument("--json", choices=("-",), default=None, help="-: the last line is the whole report")
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"one text of {QUICK_TOKENS} tokens, {QUICK_ROUNDS} rounds, no files but with --out: good for nothing but "
        "trying the program",
    )
    found = parser.parse_args(argv)
    found.prompt = found.prompt or list(PROMPTS[:1] if found.quick else PROMPTS)
    if found.max_new_tokens is None:
        found.max_new_tokens = QUICK_TOKENS if found.quick else TOKENS
    if found.rounds is None:
        found.rounds = QUICK_ROUNDS if found.quick else ROUNDS
    found.name = found.name or Path(found.pack or "wordnet-mini").name
    if found.out is None and not found.quick:
        found.out = Path("reports") / f"profile-{found.name}"
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run; exit code 2 and one line for what the user can mend."""
    arguments = parse(argv)
    return make_report(
        "scripts/profile_lens_overhead.py",
        argv,
        arguments,
        build=build,
        write=partial(show_and_write, to_stderr=arguments.json is not None),
        summary=summary if arguments.json is None else dict,
    )


if __name__ == "__main__":
    sys.exit(main())
