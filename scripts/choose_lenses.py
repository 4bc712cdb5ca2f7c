"""Compares what `train_lenses.py` could do with what it does, on validation synsets, and writes the report.

    python scripts/choose_lenses.py                      writes reports/wordnet-mini-choices.json and .md
    python scripts/choose_lenses.py --sample 600 --steps 30 --out /tmp/choices --work /tmp/choices-work
                                                         a quick try whose numbers mean nothing

What it does, in order:
1. site and pooling: every site of the host crossed with `POOLINGS`, by ridge regression (`choosing.inputs`);
2. the lenses at one site and pooling: one thing changed at a time (`choosing.variants`), on a share of the branches.
   Lenses are calibrated on one half of the validation synsets and measured on the other;
3. says what was best, by how much, and whether that is more than another seed does.

It reads training and validation synsets only; the held-out ones stay unseen until the pack is judged. Every result is
in `--work` as soon as it is there: stopped, the same command goes on where it was.
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from choosing.inputs import Told, compare
from choosing.journal import Journal
from choosing.parts import Part, collect_part
from choosing.variants import BASE_LEVELS, WALKED, Parts, branches, measure, variants
from data.synsets import labels, synsets_of, tell
from judging.controls import RIDGE_PENALTY
from numpy.typing import NDArray
from pages.choices_report import choices, markdown
from pages.command import make_report
from pages.files import plain
from pages.run_record import RunRecord, sha256_of
from rich.progress import Progress
from train_lenses import parse as train_lenses_arguments

from lenses.concept import Hierarchy
from lenses.config import InputConfig
from lenses.errors import ConfigError, HostError
from lenses.files import write_atomically
from lenses.importers.wordnet import Synset, WordNet, read_wordnet
from lenses.training import Samples, TrainingConfig
from runtime.blocks import block_at
from runtime.host import Host, load_host
from runtime.training import corpus
from runtime.training.sources import read_concepts

POOLINGS = ("token", "ema:0.5", "ema:0.8", "ema:0.9", "ewm:0.8", "ewm:0.9", "ewm:0.95", "mean")
NORM: Literal["layer"] = "layer"
"""As `train_lenses` has it."""

PARTS: tuple[corpus.Part, ...] = ("train", "validation")
"""The synsets that are read: `held-out` is not among them."""

HALVES_RULE = "sha256('choice:{pos}:{offset:08d}') read as a big-endian number is even"

Record = dict[str, Any]

_DIGITS = 6
"""Of a number in the report."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What both comparisons work with."""

    arguments: argparse.Namespace
    asked: Record
    """The configuration of the run."""
    run: RunRecord
    journal: Journal
    host: Host
    wordnet: WordNet
    progress: Progress

    def keep(self, question: Record, metrics: dict[str, float], begin: float) -> Record:
        """Write a result down with its seconds, and with the run and the code that it is of."""
        seconds = round(time.perf_counter() - begin, 1)
        answer = {"metrics": metrics, "seconds": seconds, "run": self.run.run, "commit": self.run.commit}
        return self.journal.keep(question, answer)


def build(arguments: argparse.Namespace, command: Sequence[str], progress: Progress) -> Record:
    """Compare everything; returns the report."""
    if not 0 < arguments.share <= 1:
        raise ConfigError(f"--share {arguments.share:g} is no share; give a number above 0 up to 1")
    wordnet = read_wordnet(arguments.wordnet)
    host = load_host(arguments.host, device="cpu")
    asked = configuration(arguments, host)
    hierarchy = read_concepts(arguments.concepts).hierarchy
    # Now, and not when the first comparison is done.
    block_at(host.model, arguments.site)
    InputConfig(norm=NORM, pooling=arguments.pooling)
    run = RunRecord.begin(command, asked)
    journal = Journal(arguments.work / "choices.jsonl")
    bench = Bench(arguments, asked, run, journal, host, wordnet, progress)
    some = branches(hierarchy, arguments.share)
    shipped = train_lenses_arguments([])
    report: Record = {
        "run": run.to_json(),
        "host": host.id,
        "concepts": len(hierarchy),
        "branches": [concept.id for concept in some if concept.level == 0],
        "branch_concepts": len(some),
        "shipped": {
            "site": shipped.site,
            "pooling": shipped.pooling,
            "training": asdict(TrainingConfig(widths=widths_of(shipped.widths), steps=shipped.steps)),
        },
        "inputs": list(compare_inputs(bench, hierarchy)),
        "variants": list(compare_variants(bench, some)),
    }
    report = plain(report, _DIGITS)
    return report | {"choices": plain(choices(report), _DIGITS)}


def configuration(arguments: argparse.Namespace, host: Host) -> Record:
    """Everything that the numbers depend on, code and libraries aside."""
    if host.path is None:
        raise HostError(
            f"host {host.id} has random weights, which lenses learn nothing from; give a trained one"
        )
    return {
        "wordnet_sha256": sha256_of([arguments.wordnet / name for name in ("index.noun", "data.noun")]),
        "concepts_sha256": sha256_of([arguments.concepts]),
        "host_sha256": sha256_of(sorted(path for path in host.path.iterdir() if path.is_file())),
        "sample": arguments.sample,
        "positions_per_text": arguments.positions,
        "seed": arguments.seed,
        "input_norm": NORM,
        "ridge": {"penalty": RIDGE_PENALTY, "tellings": 1},
        "training": {
            "site": arguments.site,
            "pooling": arguments.pooling,
            "tellings": arguments.tellings,
            "share": arguments.share,
            "steps": arguments.steps,
            "base_levels": list(BASE_LEVELS),
            "walked_positions": WALKED,
            "calibrated_on": f"validation synsets where {HALVES_RULE}; measured on the others",
        },
    }


def compare_inputs(bench: Bench, hierarchy: Hierarchy) -> Iterator[Record]:
    """Stage 1: sites crossed with poolings; those that were kept are not computed again."""
    sites = [f"resid_post.{block}" for block in range(bench.host.model.config.num_hidden_layers)]
    grid = [(site, InputConfig(norm=NORM, pooling=pooling)) for site in sites for pooling in POOLINGS]
    common = {name: value for name, value in bench.asked.items() if name != "training"}
    questions = [
        {"stage": "ridge", **common, "site": site, "pooling": config.pooling} for site, config in grid
    ]
    answers = [bench.journal.answer(question) for question in questions]
    missing = [at for at, answer in enumerate(answers) if answer is None]
    if missing:
        fitted_on, judged_on = (
            Told(tell(bench.wordnet, synsets), labels(bench.wordnet, synsets, hierarchy))
            for synsets in synsets_by_part(bench).values()
        )
        compared = compare(
            bench.host,
            [grid[at] for at in missing],
            fitted_on,
            judged_on,
            hierarchy,
            positions=bench.arguments.positions,
            seed=bench.arguments.seed,
            progress=bench.progress,
        )
        begin = time.perf_counter()
        for at, metrics in zip(missing, compared, strict=True):
            answers[at] = bench.keep(questions[at], metrics, begin)
            begin = time.perf_counter()
    for (site, config), answer in zip(grid, answers, strict=True):
        assert answer is not None, "what was missing has been computed"
        yield {"site": site, "pooling": config.pooling, **answer}


def compare_variants(bench: Bench, hierarchy: Hierarchy) -> Iterator[Record]:
    """Stage 2: one thing changed at a time; those that were kept are not trained again."""
    common = {name: value for name, value in bench.asked.items() if name != "ridge"}
    arguments = bench.arguments
    widths = widths_of(train_lenses_arguments([]).widths)
    default = TrainingConfig(widths=widths, steps=arguments.steps, seed=arguments.seed)
    parts: Parts | None = None
    for variant in variants(default):
        question = {"stage": "training", **common, "variant": asdict(variant.training)}
        answer = bench.journal.answer(question)
        if answer is None:
            parts = parts or collect_parts(bench, hierarchy)
            shown = steps_shown(bench.progress, variant.name, variant.training.steps)
            begin = time.perf_counter()
            metrics = measure(variant.training, hierarchy, parts, progress=shown)
            answer = bench.keep(question, metrics, begin)
        yield {
            "name": variant.name,
            "field": variant.field,
            "value": variant.value,
            "training": asdict(variant.training),
            **answer,
        }


def steps_shown(progress: Progress, title: str, steps: int) -> Callable[[int, float], None]:
    """What to call after every step, so that a bar moves."""
    task = progress.add_task(title, total=steps)
    return lambda step, loss: progress.update(task, completed=step)


def collect_parts(bench: Bench, hierarchy: Hierarchy) -> Parts:
    """The states of the training synsets, and of both halves of the validation synsets."""
    arguments = bench.arguments
    config = InputConfig(norm=NORM, pooling=arguments.pooling)
    train, validation = (
        collect_part(
            part,
            arguments,
            bench.host,
            bench.wordnet,
            hierarchy,
            config,
            bench.progress,
            sample=sample_of(part, arguments.sample),
        )
        for part in PARTS
    )
    calibrates_X = np.array([calibrates(synset) for synset in synsets_by_part(bench)["validation"]])
    calibrates_S = calibrates_X[validation.samples.text_S]
    return Parts(train, some_of(validation, calibrates_S), some_of(validation, ~calibrates_S))


def widths_of(text: str) -> tuple[int, ...]:
    """The widths in `16-8`."""
    return tuple(map(int, text.split("-")))


def some_of(part: Part, which_S: NDArray[np.bool_]) -> Part:
    """Some samples of a part."""
    samples = part.samples
    return Part(
        Samples(samples.states_SD[which_S], samples.text_S[which_S], samples.positive_XN),
        part.last_S[which_S],
    )


def calibrates(synset: Synset) -> bool:
    """Whether a validation synset is in the half that lenses are calibrated on (`HALVES_RULE`)."""
    digest = hashlib.sha256(f"choice:{synset.pos}:{synset.offset:08d}".encode()).digest()
    return int.from_bytes(digest, "big") % 2 == 0


def sample_of(part: str, sample: int | None) -> int | None:
    """How many synsets of a part are read, None for all: four times as many are trained on as judged on."""
    return sample if sample is None or part == "validation" else 4 * sample


def synsets_by_part(bench: Bench) -> dict[str, list[Synset]]:
    """The synsets that are read."""
    return {part: synsets_of(bench.wordnet, part, sample_of(part, bench.arguments.sample)) for part in PARTS}


def write(report: Record, out: Path) -> list[Path]:
    """Write `out`.json and `out`.md; returns their paths."""
    texts = {
        out.with_name(f"{out.name}.json"): json.dumps(report, indent=1, allow_nan=False) + "\n",
        out.with_name(f"{out.name}.md"): markdown(report),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        write_atomically(path, text)
    return list(texts)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; what `train_lenses` has too has its defaults."""
    shipped = train_lenses_arguments([])
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--wordnet", type=Path, default=shipped.wordnet, help="WordNet's dict directory")
    add("--concepts", type=Path, default=shipped.concepts, help="what build_wordnet_concepts.py wrote")
    add("--host", type=Path, default=shipped.host, help="its directory")
    add(
        "--out",
        type=Path,
        default=Path("reports/wordnet-mini-choices"),
        help="the report's path without ending",
    )
    add("--work", type=Path, default=Path("runs/choices"), help="where results are kept while it runs")
    add("--site", default=shipped.site, help=f"where variants of lenses are trained ({shipped.site})")
    add("--pooling", default=shipped.pooling, help=f"how their states are pooled ({shipped.pooling})")
    add("--share", type=float, default=0.25, help="share of the lenses that variants are trained of (0.25)")
    add("--steps", type=int, default=400, help="steps of the default variant (400)")
    add("--positions", type=int, default=shipped.positions, help="sampled positions a text, its last aside")
    add("--tellings", type=int, default=1, help="ways a synset is told to train variants on (1)")
    add("--seed", type=int, default=shipped.seed)
    add("--sample", type=int, default=None, help="only so many validation synsets: a quick try")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run; exit code 2 and one line for what the user can mend."""
    return make_report(
        "scripts/choose_lenses.py",
        argv,
        parse(argv),
        build=build,
        write=write,
        summary=lambda report: report["choices"],
    )


if __name__ == "__main__":
    sys.exit(main())
