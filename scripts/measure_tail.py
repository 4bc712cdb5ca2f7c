"""Says how slow the engine's slowest tokens are when everything is hot, and whether its memory grows.

    python scripts/measure_tail.py                         the travelling pack: 2,000 tokens timed, 10,000 for memory
    python scripts/measure_tail.py --pack runs/big --out reports/tail-big
    python scripts/measure_tail.py --quick --out /tmp/try  a try of seconds that proves nothing

What it does:
1. has the host write some texts once, and keeps the input states of every position;
2. scores them again and again with the engine alone, in turns with an empty loop that is as long;
3. goes on scoring while it samples the process's memory, and does so once more keeping something of every token: the
   control that must be seen to grow;
4. writes reports/NAME.json, .md and a picture.

The last line of standard output is one JSON document.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from pages.command import make_report
from pages.files import plain
from pages.report_files import json_text, picture_name, write_report
from pages.run_record import RunRecord
from pages.tail_report import markdown, pictures
from profiling.opening import add_arguments, describe, open_host, open_pack
from profiling.prompts import PROMPTS
from profiling.runs import Task
from profiling.states import record
from profiling.tail import FLAT_BYTES, LEAK_BYTES, measure_memory, measure_tail
from rich.progress import Progress

from lenses.errors import ConfigError
from runtime.config import MonitorConfig, parse_bytes
from runtime.engine import Engine

Record = dict[str, Any]

TOKENS, MEMORY_TOKENS, TEXT_TOKENS = 2000, 10_000, 50
QUICK_TOKENS, QUICK_MEMORY_TOKENS, QUICK_TEXT_TOKENS = 100, 400, 8


def build(arguments: argparse.Namespace, command: Sequence[str], progress: Progress) -> Record:
    """Record states, time the engine, watch memory; returns the report."""
    if min(arguments.tokens, arguments.memory_tokens) < 8:
        raise ConfigError(
            f"{arguments.tokens} and {arguments.memory_tokens} tokens are too few for a tail; give 8 or more"
        )
    pack, where = open_pack(arguments)
    host = open_host(arguments, pack, where)
    config = MonitorConfig(device=arguments.device, hot_budget_bytes=parse_bytes(arguments.hot_budget))
    settings = {
        "pack": pack.identity,
        "host": host.id,
        "monitor": asdict(config),
        "tokens": arguments.tokens,
        "memory_tokens": arguments.memory_tokens,
        "text_tokens": arguments.text_tokens,
    }
    run = RunRecord.begin(command, settings)
    begin = time.perf_counter()
    texts = [record(host, Task(prompt, arguments.text_tokens), pack) for prompt in PROMPTS]
    states_PD = np.concatenate([text.states_PD for text in texts])
    control_tokens = arguments.memory_tokens // 4
    bar = progress.add_task("tokens", total=None)
    with Engine(pack, config) as engine:
        found = {
            "quick": arguments.quick,
            "host": host.id,
            "pack": describe(pack),
            "states": len(states_PD),
            "flat_bytes": FLAT_BYTES,
            "leak_bytes": LEAK_BYTES,
            "tail": measure_tail(engine, states_PD, arguments.tokens, lambda: progress.advance(bar)),
            "memory": {
                "engine": measure_memory(
                    engine, states_PD, arguments.memory_tokens, lambda: progress.advance(bar)
                ),
                "control": measure_memory(
                    engine, states_PD, control_tokens, lambda: progress.advance(bar), leak=True
                ),
            },
        }
    found["run"] = run.to_json() | {"seconds": round(time.perf_counter() - begin, 1)}
    report: Record = plain(found, 6)
    return report


def write(report: Record, out: Path | None) -> list[Path]:
    """Write the report's files; returns their paths."""
    if out is None:
        return []
    drawn = {picture_name(out, name): svg for name, svg in pictures(report).items()}
    return write_report(out, json=json_text(report), page=markdown(report, sorted(drawn)), pictures=drawn)


def summary(report: Record) -> Record:
    """What the last line says."""
    tail, memory = report["tail"], report["memory"]
    return {
        "quick": report["quick"],
        "median_ms": tail["engine"]["ms"]["median"],
        "p99_to_median": tail["engine"]["p99_to_median"],
        "empty_loop_p99_to_median": tail["empty loop"]["p99_to_median"],
        "hot_rate": tail["hot_rate"],
        "growth_bytes_a_token": memory["engine"]["growth_bytes_a_token"],
        "memory_flat": memory["engine"]["flat"],
        "control_seen_to_grow": not memory["control"]["flat"],
    }


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--tokens", type=int, default=None, help=f"that are timed (default {TOKENS})")
    parser.add_argument(
        "--memory-tokens",
        type=int,
        default=None,
        help=f"during which memory is sampled (default {MEMORY_TOKENS})",
    )
    parser.add_argument(
        "--text-tokens",
        type=int,
        default=None,
        help=f"that the host writes of each text (default {TEXT_TOKENS})",
    )
    parser.add_argument(
        "--hot-budget", default="512MiB", help="everything must fit to be hot (default 512MiB)"
    )
    parser.add_argument(
        "--out", type=Path, default=None, help="the report's path without ending (default reports/tail)"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="few tokens, no files but with --out: good for nothing but trying",
    )
    found = parser.parse_args(argv)
    found.tokens = found.tokens or (QUICK_TOKENS if found.quick else TOKENS)
    found.memory_tokens = found.memory_tokens or (QUICK_MEMORY_TOKENS if found.quick else MEMORY_TOKENS)
    found.text_tokens = found.text_tokens or (QUICK_TEXT_TOKENS if found.quick else TEXT_TOKENS)
    if found.out is None and not found.quick:
        found.out = Path("reports/tail")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run; exit code 2 and one line for what the user can mend."""
    return make_report(
        "scripts/measure_tail.py", argv, parse(argv), build=build, write=write, summary=summary
    )


if __name__ == "__main__":
    sys.exit(main())
