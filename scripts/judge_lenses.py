"""Judges every lens of a pack on synsets that neither its host nor its lenses have seen, and writes the report.

    python scripts/judge_lenses.py                       writes reports/wordnet-mini.json, .md and pictures

What it does, in order:
1. tells every held-out synset once, runs the host over the texts and keeps the input state of every token;
2. fits the controls on the training part: bag of words, ridge, random directions, lenses on shuffled labels;
3. judges each lens of 10 or more held-out positives, and the controls beside it, at the text (its last token) and at
   every token (`lenses.metrics` has the formulas);
4. compares the walk down the hierarchy with scoring everything (`judging.expansion_recall`);
5. writes what came out, good or bad.

It needs the pack's host inside the pack, and WordNet (Debian's package `wordnet-base`). `--sample N` takes N held-out
synsets and four times as many to train the controls on: quick, and good for nothing but trying the program.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from data.parts import POSITIONS, Part, collect_states, read_part
from judging.expansion import WALKED, compare_expansion
from judging.redrawn import DRAWS, Redrawn
from judging.scorers import Scorer, fit_scorers
from judging.telling_words import COUNT, telling_words, without_words
from judging.thresholds import must_show
from judging.verdicts import (
    LENS,
    HeldOut,
    Record,
    Verdict,
    judge,
    pooled_reliability,
    summary,
)
from pages.command import make_report
from pages.files import plain, write
from pages.lens_groups import grades
from pages.run_record import RunRecord, sha256_of
from rich.progress import Progress

from lenses.calibration import probability
from lenses.errors import ConfigError, PackNotFound
from lenses.grade import MEASURED_FROM, UNMEASURED, grade
from lenses.importers.wordnet import HELD_OUT_RULE, read_wordnet
from lenses.lens import Floats
from lenses.metrics import BINS, SEED, Bools, confusions, is_measured
from lenses.pack import LensPack
from runtime.blocks import check_fits
from runtime.host import Host, load_host
from runtime.training.states import EVERY_TOKEN

_BLOCK = 48
"""Lenses whose scores at all tokens are in memory together."""


@dataclass(slots=True)
class Clock:
    """Seconds of every stage, for the report."""

    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what is done inside."""
        begin = time.perf_counter()
        task = self.progress.add_task(name, total=None)
        yield
        self.progress.update(task, total=1, completed=1)
        self.seconds[name] = round(time.perf_counter() - begin, 1)


def build(arguments: argparse.Namespace, command: Sequence[str], progress: Progress) -> Record:
    """Judge the pack; returns the report."""
    clock = Clock(progress)
    pack = LensPack.from_pretrained(arguments.pack)
    if pack.host_dir is None:
        raise PackNotFound(
            f"the pack {pack.path.name} has no host inside; judge one whose host travels with it"
        )
    with clock.stage("reading"):
        wordnet = read_wordnet(arguments.wordnet)
        host = load_host(pack.host_dir, device="cpu")
        check_fits(host.model, pack.config.site, pack.config.host.hidden_size)
    run = RunRecord.begin(command, configuration(pack, arguments))
    with clock.stage("texts"):
        parts = {
            name: read_part(name, wordnet, host, pack, arguments.sample)
            for name in ("train", "validation", "held-out")
        }
    held, trained = parts["held-out"], parts["train"]
    measured = [n for n in range(len(pack.hierarchy)) if is_measured(held.positive_XN[:, n])]
    if not measured:
        raise ConfigError(
            f"{len(held.texts)} held-out texts give no lens {MEASURED_FROM} positives; give a larger --sample"
        )
    with clock.stage("states of held-out texts"):
        states = collect_states(held, pack, host, progress, EVERY_TOKEN)
    with clock.stage("states of training texts"):
        samples = collect_states(trained, pack, host, progress, POSITIONS)
    with clock.stage("telling words"):
        lemmas = [
            wordnet[concept.id].lemmas if concept.id in wordnet else (concept.name,)
            for concept in pack.hierarchy
        ]
        told = telling_words(trained.texts, trained.positive_XN, lemmas)
        without_XN = without_words(held.texts, told)
    redrawn = Redrawn.of(len(held.texts), np.random.default_rng(SEED))
    judged = HeldOut(states.text_S, states.last_S, held.positive_XN, without_XN, redrawn)
    with clock.stage("controls"):
        scorers, penalty = fit_scorers(pack, measured, parts, samples, states)
    with clock.stage("verdicts"):
        verdicts = list(judge_all(pack, measured, scorers, judged, progress))
    with clock.stage("expansion"):
        expansion = compare_expansion(pack, states, held.positive_XN)
    probability_XM = np.stack([verdict.probability_X for verdict in verdicts], axis=1)
    positive_XM = held.positive_XN[:, measured]
    confusions_M = confusions(pack.hierarchy, measured, probability_XM, held.positive_XN)
    found: Record = {
        "run": run.to_json() | {"seconds": clock.seconds},
        "pack": pack_record(pack, host),
        "counts": {
            "held_out_texts": len(held.texts),
            "held_out_tokens": len(states.text_S),
            "training_texts": len(trained.texts),
            "measured": len(measured),
            "unmeasured": len(pack.hierarchy) - len(measured),
            "uncalibrated": int((~pack.heads.calibrated).sum()),
        },
        "summary": summary(verdicts, positive_XM, redrawn),
        "reliability": pooled_reliability(probability_XM, positive_XM),
        "bag_of_words_penalty": penalty,
        "expansion": expansion,
        "lenses": [lens_record(pack, n, trained, held) for n in range(len(pack.hierarchy))],
    }
    for n, verdict, confused in zip(measured, verdicts, confusions_M, strict=True):
        found["lenses"][n] |= judged_record(verdict, held.positive_XN[:, n]) | {
            "telling_words": list(told[n]),
            "confusions": confused,
        }
    found["grades"] = grades(found["lenses"])
    report: Record = plain(found)
    report["must_show"] = must_show(report)
    return report


def configuration(pack: LensPack, arguments: argparse.Namespace) -> dict[str, object]:
    """Everything that the numbers depend on, code and libraries aside."""
    return {
        "pack": pack.identity,
        "wordnet_sha256": sha256_of([arguments.wordnet / name for name in ("index.noun", "data.noun")]),
        "held_out": HELD_OUT_RULE,
        "sample": arguments.sample,
        "least_positives": MEASURED_FROM,
        "calibration_bins": BINS,
        "telling_words": COUNT,
        "positions_per_training_text": POSITIONS,
        "walked_positions": WALKED,
        "draws": DRAWS,
        "seed": SEED,
    }


def judge_all(
    pack: LensPack,
    measured: Sequence[int],
    scorers: Mapping[str, Scorer],
    judged: HeldOut,
    progress: Progress,
) -> Iterator[Verdict]:
    """The verdict on each measured lens, in order."""
    heads = pack.heads
    task = progress.add_task("lenses", total=len(measured))
    # Sorting is most of the work, and numpy sorts without the interpreter's lock.
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for start in range(0, len(measured), _BLOCK):
            some = slice(start, start + _BLOCK)
            columns = {name: np.asfortranarray(score(some)) for name, score in scorers.items()}

            def one(at: int, columns: Mapping[str, Floats] = columns, start: int = start) -> Verdict:
                n = measured[start + at]
                scores = {name: np.ascontiguousarray(values[:, at]) for name, values in columns.items()}
                served = probability(scores[LENS], heads.platt_slope[n], heads.platt_offset[n])
                return judge(pack.hierarchy, n, scores, served, judged, SEED)

            for verdict in pool.map(one, range(len(measured[some]))):
                progress.advance(task)
                yield verdict


def pack_record(pack: LensPack, host: Host) -> Record:
    """Which lenses are judged, and where they look."""
    return {
        "name": pack.path.name,
        "identity": pack.identity,
        "host": host.id,
        "site": pack.config.site,
        "pooling": pack.config.input.pooling,
        "lens": {"kind": pack.config.lens.kind, "widths": list(pack.config.lens.widths)},
        "concepts": len(pack.hierarchy),
        "provenance": dict(pack.config.provenance),
    }


def lens_record(pack: LensPack, n: int, train: Part, held: Part) -> Record:
    """What is known of a lens without judging it."""
    concept = pack.hierarchy.concepts[n]
    return {
        "id": concept.id,
        "name": concept.name,
        "level": concept.level,
        "parent": concept.parent,
        "calibrated": bool(pack.heads.calibrated[n]),
        "training_texts": int(train.positive_XN[:, n].sum()),
        "positives": int(held.positive_XN[:, n].sum()),
        "measured": False,
        "grade": UNMEASURED,
    }


def judged_record(verdict: Verdict, positive_X: Bools) -> Record:
    """What judging adds, with the grade that a pack with these metrics would have."""
    text = verdict.record["text"]
    card = {name: round(text[name], 4) for name in ("tpr_at_1fpr", "calibration_error")}
    card |= {name: round(text[name].value, 4) for name in ("auroc", "auroc_siblings") if name in text}
    letter = grade(card | {"positives": int(positive_X.sum())})
    return {"measured": True, "grade": letter, **verdict.record}


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pack", type=Path, default=Path("lens_packs/wordnet-mini"))
    parser.add_argument(
        "--wordnet", type=Path, default=Path("/usr/share/wordnet"), help="WordNet's dict directory"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("reports/wordnet-mini"), help="the report's path without ending"
    )
    parser.add_argument("--sample", type=int, default=None, help="only so many held-out synsets: a quick try")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run; exit code 2 and one line for what the user can mend."""
    return make_report(
        "scripts/judge_lenses.py",
        argv,
        parse(argv),
        build=build,
        write=write,
        summary=lambda report: {"must_show": report["must_show"], "seconds": report["run"]["seconds"]},
    )


if __name__ == "__main__":
    sys.exit(main())
