"""Is pre-warming worth it: crossed with the cache and with the events of the prompt, from cold starts.

    python scripts/ablate_prewarming.py                       writes reports/prewarming.json, .md and pictures
    python scripts/ablate_prewarming.py --synthetic --prompts 2 --round-tokens 50 50 50 --load-thresholds own \\
        --out reports/prewarming-synthetic               the reference's size, a host of random weights
    python scripts/ablate_prewarming.py --quick --out /tmp/try       a try that proves nothing

On the travelling pack with its real text, at its own walk and at `--load-threshold 0.25`. Each text is generated from
nothing by eight monitors and by the host alone, in an order drawn anew: time to the first token, the prompt phase and
start-up are inside the totals, at 10, 50 and 200 tokens. Then the same rows are replayed without the host, and it is
counted how much of what the generation wants the prompt had wanted. The verdict is computed: does pre-warming shorten
prompt + 50 tokens as a whole, and if not, why. Twins: section 3.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments import prewarming
from experiments.overlap import overlap
from experiments.prewarming_page import markdown, picture
from experiments.recording import Recording, record
from experiments.subject import PROMPTS, TRAVELLING, Subject, add_options, open_subject
from experiments.sweep import trial_json
from experiments.verdict import verdict
from measuring.floor import MemoryFloor
from pages.command import make_report
from pages.files import plain
from pages.report_files import json_text, picture_name, write_report
from pages.run_record import RunRecord
from profiling.runs import Task
from rich.progress import Progress

from lenses.errors import ConfigError

ROUND_TOKENS, QUICK_ROUND_TOKENS = (200, 50, 50), (50,)
THRESHOLDS, QUICK_THRESHOLDS = (None, 0.25), (None,)
QUICK_PROMPTS = 2

Record = dict[str, Any]


def build(arguments: argparse.Namespace, command: Sequence[str], progress: Progress) -> Record:
    """Make the report; raises PhoropterError."""
    if not 1 <= arguments.prompts <= len(PROMPTS) or min(arguments.round_tokens) < 2:
        raise ConfigError(
            f"{arguments.prompts} prompts, rounds of {arguments.round_tokens} tokens; give 1 to {len(PROMPTS)} "
            "prompts, and 2 tokens or more a round"
        )
    begin = time.perf_counter()
    subject = open_subject(arguments.pack, arguments.host, arguments.work, progress)
    prompts = PROMPTS[: arguments.prompts]
    settings = {
        "subject": subject.to_json(),
        "prompts": list(prompts),
        "round_tokens": list(arguments.round_tokens),
        "load_thresholds": list(arguments.load_thresholds),
        "replay_rounds": arguments.replay_rounds,
        "trials": [trial_json(trial) for trial in prewarming.trials(subject.pack, None)],
        "seed": arguments.seed,
    }
    made = RunRecord.begin(command, settings)
    longest = max(arguments.round_tokens)
    recordings = [record(subject.host, subject.pack.config.site, Task(prompt, longest)) for prompt in prompts]
    with MemoryFloor() as floor:
        walks = [
            walk(subject, recordings, load_threshold, arguments, progress, floor)
            for load_threshold in arguments.load_thresholds
        ]
        floor_json = floor.to_json()
    found = {
        "run": made.to_json() | {"seconds": round(time.perf_counter() - begin, 1)},
        "quick": arguments.quick,
        "recordings": [
            {"prompt": prompt, "prompt_tokens": recording.prompt}
            for prompt, recording in zip(prompts, recordings, strict=True)
        ],
        "floor": floor_json,
        "walks": walks,
    }
    report: Record = plain(found, 6)  # rounded first, so that the page can be made again from the JSON
    return report


def walk(
    subject: Subject,
    recordings: Sequence[Recording],
    load_threshold: float | None,
    arguments: argparse.Namespace,
    progress: Progress,
    floor: MemoryFloor,
) -> Record:
    """Everything at one threshold of the walk."""
    watched = prewarming.trials(subject.pack, load_threshold)
    prompts = PROMPTS[: arguments.prompts]
    prewarming.must_differ(subject, Task(prompts[0], min(arguments.round_tokens)), load_threshold)
    pairs = prewarming.cold_generations(
        subject,
        watched,
        prompts,
        round_tokens=arguments.round_tokens,
        seed=arguments.seed,
        progress=progress,
    )
    short = [recording.until(min(arguments.round_tokens)) for recording in recordings]
    return {
        "load_threshold": load_threshold,
        "verdict": verdict(pairs),
        "rows": prewarming.cold_rows(pairs, subject.pack),
        "compared": prewarming.compared(pairs),
        "replays": prewarming.replayed(
            subject,
            short,
            watched,
            rounds=arguments.replay_rounds,
            seed=arguments.seed,
            progress=progress,
            floor=floor,
        ),
        "overlap": overlap(subject, recordings, load_threshold, prewarming.LENGTHS),
    }


def summary(report: Record) -> Record:
    """What the last line says."""
    return {
        "quick": report["quick"],
        "walks": [
            {
                "load_threshold": walk["load_threshold"],
                "outcome": None if walk["verdict"]["test"] is None else walk["verdict"]["test"]["outcome"],
                "verdict": walk["verdict"]["sentence"],
            }
            for walk in report["walks"]
        ],
        "contents_equal": True,
        "control_differs": True,
    }


def write(report: Record, out: Path) -> list[Path]:
    """Write the report's files; returns their paths."""
    names = [picture_name(out, f"walk-{number + 1}") for number in range(len(report["walks"]))]
    drawn = {name: svg for name, walk in zip(names, report["walks"], strict=True) if (svg := picture(walk))}
    page = markdown(report, [name if name in drawn else None for name in names])
    return write_report(out, json=json_text(report), page=page, pictures=drawn)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("reports/prewarming"), help="the report's path without ending")
    add_options(parser)
    add("--synthetic", action="store_true", help="the synthetic pack of the reference's size, random host")
    add("--prompts", type=int, help=f"how many texts (default {len(PROMPTS)})")
    add("--round-tokens", type=int, nargs="+", help="tokens of each round (default 200 50 50)")
    add(
        "--load-thresholds",
        nargs="+",
        type=lambda text: None if text == "own" else float(text),
        help="walks: thresholds, or `own` for the pack's (default own 0.25)",
    )
    add("--replay-rounds", type=int, default=1, help="rounds of replays (default 1)")
    add("--seed", type=int, default=0)
    add("--quick", action="store_true", help="two texts, one walk, one round: good for trying only")
    found = parser.parse_args(argv)
    found.prompts = found.prompts or (QUICK_PROMPTS if found.quick else len(PROMPTS))
    found.round_tokens = found.round_tokens or (QUICK_ROUND_TOKENS if found.quick else ROUND_TOKENS)
    found.load_thresholds = found.load_thresholds or (QUICK_THRESHOLDS if found.quick else THRESHOLDS)
    if found.pack is None and not found.synthetic:
        found.pack = TRAVELLING
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run; exit code 2 and one line for what the user can mend."""
    return make_report(
        "scripts/ablate_prewarming.py", argv, parse(argv), build=build, write=write, summary=summary
    )


if __name__ == "__main__":
    sys.exit(main())
