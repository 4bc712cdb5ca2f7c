"""Times training a thousand lenses at D = 2560 from ready states, and says what the lenses are worth.

    python scripts/benchmark_training.py                          writes reports/training.json and .md, half an hour
    python scripts/benchmark_training.py --ways linear mlp-128-64 what is asked for, without the comparison
    python scripts/benchmark_training.py --quick --out /tmp/try   a try of seconds that proves nothing

What it does:
1. makes states in which the concepts of a hierarchy are planted (`synthetic.planted`), for training, validation and
   held out;
2. trains all lenses in each way: linear in closed form, mlp of 128-64 and of 16-8, compact; the time is of the whole
   call, early stopping's validation and the way back to plain states included;
3. measures AUROC on held-out states, peak memory and arithmetic a second;
4. trains the lenses of one branch in several spans, and in the plain way (`baseline.plain_training`), to see what the
   short cuts cost in quality;
5. holds the times against what was asked for.

The last line of standard output is one JSON document.
"""

import argparse
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from baseline.plain_training import train_plainly
from experiments.requirements import Requirement
from pages.command import make_report
from pages.files import plain
from pages.report_files import page_alone
from pages.run_record import RunRecord
from pages.training_report import markdown
from rich.progress import Progress
from synthetic.planted import Planted
from synthetic.tree import parse_levels, synthetic_tree

from lenses.concept import Hierarchy
from lenses.errors import ConfigError
from lenses.training import Samples, TrainedLenses, TrainingConfig, fit_linear, train
from lenses.training.stopping import areas

Record = dict[str, Any]

HIDDEN, LEVELS, TEXTS = 2560, "5,23,241,731", 12_000
QUICK_HIDDEN, QUICK_LEVELS, QUICK_TEXTS = 48, "2,6,12", 200
BRANCH_LENSES, PLAIN_STEPS, PLAIN_BATCH = 40, 400, 512
QUICK_STEPS = 4
MOST_S = {"linear": 60, "mlp-128-64": 900}
"""What was asked for of a thousand lenses."""
LEAST_POSITIVES = 5
CONFIGS = {
    "mlp-128-64": TrainingConfig(widths=(128, 64)),
    "mlp-16-8": TrainingConfig(widths=(16, 8)),
    "compact-24-16-8": TrainingConfig(widths=(16, 8), rank=24),
}
WAYS = ("linear", *CONFIGS)


def build(arguments: argparse.Namespace, command: Sequence[str], progress: Progress) -> Record:
    """Make states, train in every way, compare; returns the report."""
    if min(arguments.hidden_size, arguments.texts) < 8:
        raise ConfigError(
            f"hidden size {arguments.hidden_size}, {arguments.texts} texts: too few to train on; give 8 or more"
        )
    hierarchy = synthetic_tree(parse_levels(arguments.levels), arguments.seed)
    settings = {
        "hidden_size": arguments.hidden_size,
        "levels": arguments.levels,
        "texts": arguments.texts,
        "ways": list(arguments.ways),
        "training": {name: asdict(config) for name, config in CONFIGS.items()},
        "seed": arguments.seed,
        "quick": arguments.quick,
    }
    run = RunRecord.begin(command, settings)
    begin = time.perf_counter()
    world = Planted.draw(hierarchy, arguments.hidden_size, arguments.seed)
    parts = [
        world.samples(arguments.texts, 2, 1),
        *(world.samples(arguments.texts // 2, 1, n) for n in (2, 3)),
    ]
    del world
    rows = [time_way(name, parts, hierarchy, arguments, progress) for name in arguments.ways]
    found = {
        "quick": arguments.quick,
        "lenses": len(hierarchy),
        "families": len(hierarchy.families),
        "samples": {
            name: len(part.text_S)
            for name, part in zip(("train", "validation", "held_out"), parts, strict=True)
        },
        "positives": np.quantile(parts[0].positive(slice(None)).sum(axis=0), [0.1, 0.5, 0.9]).tolist(),
        "ways": rows,
        "comparison": compare(parts, hierarchy, arguments, progress) if arguments.comparison else [],
        "requirements": [
            Requirement(
                f"{len(hierarchy)} lenses, {row['name']}", row["seconds"], "s", MOST_S[row["name"]]
            ).to_json()
            for row in rows
            if row["name"] in MOST_S
        ],
    }
    found["run"] = run.to_json() | {"seconds": round(time.perf_counter() - begin, 1)}
    report: Record = plain(found, 6)
    return report


def time_way(
    name: str,
    parts: Sequence[Samples],
    hierarchy: Hierarchy,
    arguments: argparse.Namespace,
    progress: Progress,
) -> Record:
    """Train all lenses in one way; what it took and what they are worth."""
    task = progress.add_task(name, total=None)
    reset_peak()
    begin = time.perf_counter()
    if name == "linear":
        trained = fit_linear(parts[0], hierarchy)
        gflop, steps = linear_gflop(parts[0], len(hierarchy)), None
    else:
        config = shortened(CONFIGS[name], arguments)
        steps = 0

        def advance(step: int, loss: float) -> None:
            nonlocal steps
            steps = step
            progress.update(task, completed=step, total=config.steps)

        trained = train(parts[0], hierarchy, config, validation=parts[1], progress=advance)
        gflop = steps * step_gflop(config, len(hierarchy), parts[0].states_SD.shape[1])
    seconds = time.perf_counter() - begin
    peak = peak_mib()
    progress.update(task, total=1, completed=1)
    return {
        "name": name,
        "seconds": seconds,
        "steps": steps,
        "gflop_per_s": gflop / seconds,
        "peak_mib": peak,
        **quality(trained, parts[2], hierarchy),
    }


def compare(
    parts: Sequence[Samples], hierarchy: Hierarchy, arguments: argparse.Namespace, progress: Progress
) -> list[Record]:
    """The lenses of one branch, mlp of 128-64: in spans of several sizes, in all numbers, and in the plain way."""
    branch, columns = branch_of(hierarchy, BRANCH_LENSES)
    cut = [replace(part, positive_XN=np.ascontiguousarray(part.positive_XN[:, columns])) for part in parts]
    hidden = parts[0].states_SD.shape[1]
    config = shortened(CONFIGS["mlp-128-64"], arguments)
    ways: dict[str, Callable[[], TrainedLenses]] = {
        "linear in closed form": lambda: fit_linear(cut[0], branch)
    }
    for span in sorted({min(hidden, size) for size in (128, 256, 512)}):
        ways[f"span {span}"] = lambda span=span: train(  # type: ignore[misc]
            cut[0], branch, replace(config, span=span), validation=cut[1]
        )
    steps = QUICK_STEPS if arguments.quick else PLAIN_STEPS
    ways[f"all {hidden} numbers"] = lambda: train(
        cut[0], branch, replace(config, span=hidden, steps=min(config.steps, steps)), validation=cut[1]
    )
    ways["the plain way"] = lambda: train_plainly(cut[0], branch, config, steps=steps, batch=PLAIN_BATCH)
    rows = []
    for name, way in progress.track(ways.items(), description="comparison"):
        begin = time.perf_counter()
        trained = way()
        seconds = time.perf_counter() - begin
        rows.append(
            {"name": name, "lenses": len(branch), "seconds": seconds, **quality(trained, cut[2], branch)}
        )
    return rows


def branch_of(hierarchy: Hierarchy, most: int) -> tuple[Hierarchy, list[int]]:
    """The largest concept's branch of at most so many concepts, and their columns in the order of its hierarchy."""
    below: dict[int, list[int]] = {}
    for n in range(len(hierarchy)):
        for above in hierarchy.path(n):
            below.setdefault(above, []).append(n)
    chosen = max((some for some in below.values() if len(some) <= most), key=len)
    inside = {hierarchy.concepts[n].id for n in chosen}
    branch = Hierarchy.build(
        (concept.id, concept.name, concept.parent if concept.parent in inside else None)
        for concept in hierarchy
        if concept.id in inside
    )
    return branch, [hierarchy.index(concept.id) for concept in branch]


def shortened(config: TrainingConfig, arguments: argparse.Namespace) -> TrainingConfig:
    """The configuration, with few steps for a quick try."""
    return replace(config, steps=QUICK_STEPS, looks=5) if arguments.quick else config


def quality(trained: TrainedLenses, held_out: Samples, hierarchy: Hierarchy) -> Record:
    """AUROC on held-out states of the lenses with enough positives there: against all, and against siblings alone."""
    found: dict[str, list[float]] = {"auroc": [], "auroc_siblings": []}
    states = torch.from_numpy(held_out.states_SD)
    positive_SN = torch.from_numpy(held_out.positive(slice(None)))
    for family, first_layer in zip(hierarchy.families, trained.first_layers, strict=True):
        logits_SF = score_family(trained, first_layer, family.first, family.rows, states)
        for row in range(family.rows):
            positive = positive_SN[:, family.first + row]
            under = torch.zeros_like(positive) if family.parent is None else positive_SN[:, family.parent]
            for name, negative in (("auroc", ~positive), ("auroc_siblings", under & ~positive)):
                if min(int(positive.sum()), int(negative.sum())) >= LEAST_POSITIVES:
                    scores = logits_SF[:, row][None]
                    found[name].append(float(areas(scores, scores, positive[None], negative[None])[0]))
    return {"measured": len(found["auroc"])} | {
        f"{name}_{at}": float(np.quantile(values, share)) if values else None
        for name, values in found.items()
        for at, share in (("median", 0.5), ("p10", 0.1))
    }


def score_family(
    trained: TrainedLenses, first_layer: torch.Tensor, first: int, rows: int, states: torch.Tensor
) -> torch.Tensor:
    """[S, rows] logits of the lenses of one family."""
    heads, some = trained.heads, slice(first, first + rows)
    if heads.projection is not None:
        states = states @ torch.from_numpy(heads.projection).T
    hidden = (states @ first_layer.T).view(len(states), rows, -1) + torch.from_numpy(heads.bias1[some])
    if heads.weight2 is None or heads.bias2 is None or heads.weight3 is None or heads.bias3 is None:
        return hidden[:, :, 0]
    hidden = torch.einsum("bnh,nkh->bnk", torch.relu(hidden), torch.from_numpy(heads.weight2[some]))
    hidden = torch.relu(hidden + torch.from_numpy(heads.bias2[some]))
    return (hidden * torch.from_numpy(heads.weight3[some])).sum(dim=2) + torch.from_numpy(heads.bias3[some])


def linear_gflop(samples: Samples, lenses: int) -> float:
    """Arithmetic of the closed form: products of states and labels, one factor, its solutions."""
    count, hidden = samples.states_SD.shape
    flop: float = 2 * count * hidden * (hidden + lenses) + hidden**3 / 3 + 2 * hidden**2 * lenses
    return flop / 1e9


def step_gflop(config: TrainingConfig, lenses: int, hidden: int) -> float:
    """Arithmetic of one step of the loop, products only: each layer forward, its weights back, its input back."""
    coordinates = min(config.span, hidden)
    columns = config.rank or coordinates
    sizes = 2 * columns * (config.widths or (1,))[0] * (3 if config.rank else 2)
    if config.rank:
        sizes += 4 * coordinates * config.rank
    if config.widths:
        h1, h2 = config.widths
        sizes += 6 * h1 * h2 + 6 * h2
    return lenses * (config.shared + 2 * config.own) * sizes / 1e9


def reset_peak() -> None:
    """Forget the process's peak of memory, where the system allows it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_mib() -> float:
    """The process's largest resident set since `reset_peak`; since its start where that cannot be told."""
    try:
        status = Path("/proc/self/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def summary(report: Record) -> Record:
    """What the last line says."""
    return {
        "quick": report["quick"],
        "lenses": report["lenses"],
        "seconds": {row["name"]: row["seconds"] for row in report["ways"]},
        "auroc_median": {row["name"]: row["auroc_median"] for row in report["ways"]},
        "met": all(one["met"] for one in report["requirements"]),
    }


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=Path("reports/training"), help="the report's path without ending"
    )
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS, help="which to time (default all)")
    parser.add_argument("--hidden-size", type=int, default=None, help=f"D (default {HIDDEN})")
    parser.add_argument("--levels", default=None, help=f"concepts a level (default {LEVELS}: a thousand)")
    parser.add_argument(
        "--texts", type=int, default=None, help=f"to train on, two states each (default {TEXTS})"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--quick", action="store_true", help="few lenses, few steps: good for nothing but trying the program"
    )
    found = parser.parse_args(argv)
    found.comparison = tuple(found.ways) == WAYS
    found.hidden_size = found.hidden_size or (QUICK_HIDDEN if found.quick else HIDDEN)
    found.levels = found.levels or (QUICK_LEVELS if found.quick else LEVELS)
    found.texts = found.texts or (QUICK_TEXTS if found.quick else TEXTS)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run; exit code 2 and one line for what the user can mend."""
    return make_report(
        "scripts/benchmark_training.py",
        argv,
        parse(argv),
        build=build,
        write=page_alone(markdown),
        summary=summary,
    )


if __name__ == "__main__":
    sys.exit(main())
