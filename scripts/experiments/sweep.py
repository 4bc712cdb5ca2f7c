"""A report of trials that are replayed in turns, some of them as whole generations too.

What a program of the kind says for itself: which trials, which of them is the one that others are held against, and
what stands on its page.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from measuring.floor import MemoryFloor
from pages.command import make_report
from pages.files import plain
from pages.report_files import json_text, picture_name, write_report
from pages.run_record import RunRecord
from profiling.runs import Task
from rich.progress import Progress

from experiments.generations import generations
from experiments.recording import record
from experiments.rows import rows
from experiments.subject import PROMPTS, TRAVELLING, Subject, add_options, open_subject
from experiments.trials import Bench, OneByOne, Trial, Watched
from lenses.errors import ConfigError

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a sweep runs."""

    trials: Sequence[Trial]
    against: str
    """The trial that the others are held against; it runs twice."""
    whole: Sequence[str]
    """Trials that run as whole generations too."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much a sweep measures."""

    prompts: int
    tokens: int
    rounds: int
    slow_rounds: int
    """Of the baseline's trials, which take turns with the one that others are held against."""
    whole_rounds: int


QUICK = Sizes(prompts=1, tokens=6, rounds=2, slow_rounds=1, whole_rounds=1)


def make(
    script: str,
    argv: Sequence[str] | None,
    *,
    doc: str | None,
    report: str,
    sizes: Sizes,
    plan: Callable[[Subject], Plan],
    markdown: Callable[[Record, Sequence[str]], str],
    picture: tuple[str, Callable[[Record], str]],
    travelling: bool = False,
) -> int:
    """Run the program `script` and write its `report`, a page and one picture; returns the exit code.

    `markdown` makes the page of what was found and the names of the pictures, `picture` is what its one picture shows
    and how it is drawn. The default pack is the synthetic one, or the `travelling` one.
    """
    suffix, draw = picture

    def write(found: Record, out: Path) -> list[Path]:
        drawn = {picture_name(out, suffix): draw(found)}
        return write_report(out, json=json_text(found), page=markdown(found, sorted(drawn)), pictures=drawn)

    given = _parser(doc, report, sizes).parse_args(argv)
    return make_report(
        script,
        argv,
        _sized(given, sizes, travelling),
        build=partial(_build, plan=plan),
        write=write,
        summary=_summary,
    )


def _build(
    arguments: argparse.Namespace,
    command: Sequence[str],
    progress: Progress,
    plan: Callable[[Subject], Plan],
) -> Record:
    """Make the report; raises PhoropterError."""
    sizes: Sizes = arguments.sizes
    if (
        min(sizes.prompts, sizes.rounds, sizes.slow_rounds) < 1
        or sizes.tokens < 2
        or sizes.prompts > len(PROMPTS)
    ):
        raise ConfigError(
            f"{sizes.prompts} prompts, {sizes.tokens} tokens, {sizes.rounds} rounds; give 1 to {len(PROMPTS)} "
            "prompts, 2 tokens or more, 1 round or more"
        )
    begin = time.perf_counter()
    subject = open_subject(arguments.pack, arguments.host, arguments.work, progress)
    planned = plan(subject)
    again = next(trial for trial in planned.trials if trial.name == planned.against)
    trials = [*planned.trials, replace(again, name=f"{again.name} (again)")]
    settings = {
        "subject": subject.to_json(),
        "trials": {trial.name: trial_json(trial) for trial in trials},
        "prompts": list(PROMPTS[: sizes.prompts]),
        "tokens": sizes.tokens,
        "rounds": sizes.rounds,
        "slow_rounds": sizes.slow_rounds,
        "whole_rounds": sizes.whole_rounds,
        "seed": arguments.seed,
    }
    made = RunRecord.begin(command, settings)
    tasks = [Task(prompt, sizes.tokens) for prompt in PROMPTS[: sizes.prompts]]
    recordings = [record(subject.host, subject.pack.config.site, task) for task in tasks]
    bench = Bench(subject, recordings, arguments.work / f"{subject.pack.path.name}-one-by-one")
    bench.prepare(trials, progress)
    with MemoryFloor() as floor:
        fast = [trial for trial in trials if isinstance(trial, Watched)]
        slow = [trial for trial in trials if isinstance(trial, OneByOne)]

        def turns(some: Sequence[Trial], rounds: int, warm_up: int, title: str) -> list[Record]:
            runs = bench.measure(
                some,
                rounds=rounds,
                warm_up=warm_up,
                seed=arguments.seed,
                title=title,
                progress=progress,
                floor=floor,
            )
            return rows(runs, against=planned.against, floor=floor)

        found_rows = turns(fast, sizes.rounds, 1, "replays")
        if slow:
            # Every one of these takes seconds, so nothing is thrown away; what they are held against runs again.
            found_rows += turns([again, *slow], sizes.slow_rounds, 0, "the baseline's replays")[1:]
        floor_json = floor.to_json()
        whole: list[Record] = []
    if sizes.whole_rounds:
        alone = Bench(subject, recordings[:1], bench.files)
        watched = [t for t in trials if isinstance(t, Watched) and t.name in planned.whole]
        alone.prepare(watched, progress)
        whole = generations(
            alone,
            tasks[0],
            watched,
            rounds=sizes.whole_rounds,
            seed=arguments.seed,
            progress=progress,
        )
    found = {
        "run": made.to_json() | {"seconds": round(time.perf_counter() - begin, 1)},
        "quick": arguments.quick,
        "recordings": [
            {"prompt": task.prompt, "prompt_tokens": one.prompt, "generated_rows": one.generated_rows}
            for task, one in zip(tasks, recordings, strict=True)
        ],
        "floor": floor_json,
        "against": planned.against,
        "rows": found_rows,
        "whole": whole,
        "checks": bench.to_json(),
    }
    report: Record = plain(found, 6)  # rounded first, so that the page can be made again from the JSON
    return report


def trial_json(trial: Trial) -> Record:
    """A trial as a configuration names it."""
    names = ("everything_first", "reopens", "max_loaded_lenses", "prewarm")
    own = {name: getattr(trial, name) for name in names if hasattr(trial, name)}
    return {"what": type(trial).__name__, **own, **_listed(trial.settings)}


def _summary(report: Record) -> Record:
    """What the last line of a program says."""
    return {
        "quick": report["quick"],
        "token_ms": {row["name"]: row["token_ms"]["mean"] for row in report["rows"]},
        "hit_rate": {row["name"]: row["hit_rate"] for row in report["rows"]},
        "contents_equal": True,
        "control_differs": report["checks"]["control_differs"],
    }


def _parser(doc: str | None, out: str, sizes: Sizes) -> argparse.ArgumentParser:
    """The options that all of these programs have."""
    found = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument(
        "--out", type=Path, default=Path("reports") / out, help="the report's path without ending"
    )
    add_options(found)
    found.add_argument("--prompts", type=int, help=f"how many texts (default {sizes.prompts})")
    found.add_argument("--tokens", type=int, help=f"tokens of each (default {sizes.tokens})")
    found.add_argument("--rounds", type=int, help=f"rounds of replays (default {sizes.rounds})")
    found.add_argument(
        "--slow-rounds", type=int, help=f"rounds of the baseline's replays (default {sizes.slow_rounds})"
    )
    found.add_argument(
        "--whole-rounds",
        type=int,
        help=f"rounds of whole generations; 0 leaves them out (default {sizes.whole_rounds})",
    )
    found.add_argument("--seed", type=int, default=0)
    found.add_argument(
        "--quick",
        action="store_true",
        help="the travelling pack, few tokens and rounds: good for trying only",
    )
    return found


def _sized(arguments: argparse.Namespace, sizes: Sizes, travelling: bool) -> argparse.Namespace:
    """The arguments with what they leave open: sizes, and the pack (None: the synthetic one)."""
    least = QUICK if arguments.quick else sizes
    given = {field.name: getattr(arguments, field.name) for field in fields(Sizes)}
    arguments.sizes = replace(least, **{name: value for name, value in given.items() if value is not None})
    if arguments.pack is None and (arguments.quick or travelling):
        arguments.pack = TRAVELLING
    return arguments


def _listed(settings: Mapping[str, Any]) -> Record:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}
