"""Trains all lenses of a hierarchy for one host at one site, on WordNet's texts, and writes the pack.

    python scripts/train_lenses.py --host lens_packs/wordnet-mini/host --out lens_packs/wordnet-mini
    python scripts/train_lenses.py --rank 24 --out runs/compact
    python scripts/train_lenses.py --rank 24 --teacher lens_packs/wordnet-mini --out runs/distilled

What it does, in order:
1. reads the concepts and every noun synset that lies under one; a text of a synset is a text of each concept above it,
   through all hypernyms;
2. runs the host over the texts once and keeps input states at sampled positions, made exactly as they will be served;
3. trains all lenses together on four of five synsets that the host was trained on;
4. calibrates on the rest of these, on scores as served (first layers as stored, by the bank), and chooses there how
   the pack is to be walked: what finds nine tenths of the active concepts for the fewest lenses scored;
5. measures every lens on the tenth of synsets that neither host nor lenses have seen, and writes what it reaches to
   `concepts.jsonl` (`lenses.measure`; `lenses.metrics` has the formulas);
6. records what the lenses say of one fixed text, for `phoropter doctor` to compare with.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from data.lens_states import collect
from data.served import score_all
from data.synsets import labels, synsets_of, tell
from judging.expansion_recall import cheapest_with, curve
from judging.thresholds import LEAST_RECALL
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lenses.bank import Bank
from lenses.calibration import fit_platt, log_odds
from lenses.concept import Hierarchy
from lenses.config import HostConfig, InputConfig, LensConfig
from lenses.errors import HierarchyError, PhoropterError
from lenses.importers.wordnet import HELD_OUT_RULE, WordNet, read_wordnet
from lenses.lens import Floats
from lenses.measure import Scored, Walk, measure
from lenses.metrics import FALSE_POSITIVES
from lenses.pack import LensPack
from lenses.training import Samples, TrainingConfig, train
from lenses.writer import refuse_to_replace
from runtime.host import Host, load_host
from runtime.known import PROVENANCE, record

WALK_RECALL = LEAST_RECALL + 0.01
"""What the walk must find on validation texts, a little more than it must on held-out ones."""
WALK_BASES = ((0,), (0, 1))
WALK_TOP_K = (10, 20, 40, 80, 160)
WALK_THRESHOLDS = (0.05, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
WALKED_TEXTS = 60


@dataclass(frozen=True, slots=True)
class Part:
    """Input states of one part of the synsets, with their labels; `last_S` marks each text's last position."""

    samples: Samples
    last_S: NDArray[np.bool_]


class Teacher:
    """The lenses of a pack for the same concepts, as training wants them: states to logits of their log-odds.

    Raises HierarchyError where the concepts are others.
    """

    def __init__(self, directory: Path, hierarchy: Hierarchy) -> None:
        self.pack = LensPack.from_pretrained(directory)
        if [concept.id for concept in self.pack.hierarchy] != [concept.id for concept in hierarchy]:
            raise HierarchyError(
                f"the teacher {directory} has other concepts than those to train; give a pack of the same concepts"
            )
        self._bank = Bank(self.pack, range(len(self.pack.hierarchy.families)))

    def __call__(self, states_BD: Floats) -> Floats:
        logits_BN = self._bank.score_base(self._bank.inputs(states_BD))
        return log_odds(logits_BN, self.pack.heads.platt_slope, self.pack.heads.platt_offset)


def build(arguments: argparse.Namespace, progress: Progress) -> LensPack:
    """Train, calibrate, measure and write the pack."""
    refuse_to_replace(arguments.out)
    hierarchy = read_concepts(arguments.concepts)
    wordnet = read_wordnet(arguments.wordnet)
    host = load_host(arguments.host)
    config = InputConfig(norm="layer", pooling=arguments.pooling)
    progress.console.print(f"{len(hierarchy)} concepts, {len(wordnet)} synsets, host {host.id}")

    parts = {
        name: collect_part(name, arguments, host, wordnet, hierarchy, config, progress)
        for name in ("train", "validation", "held-out")
    }
    training = TrainingConfig(
        widths=arguments.widths, rank=arguments.rank, steps=arguments.steps, seed=arguments.seed
    )
    lens = LensConfig("mlp", training.widths)
    if training.rank is not None:
        lens = LensConfig("compact", (training.rank, *training.widths))
    teacher = None if arguments.teacher is None else Teacher(arguments.teacher, hierarchy)
    task = progress.add_task("lenses", total=training.steps)
    trained = train(
        parts["train"].samples,
        hierarchy,
        training,
        teacher=teacher,
        progress=lambda step, loss: progress.update(
            task, completed=step, description=f"lenses: loss {loss:.4f}"
        ),
    )
    write = partial(
        LensPack.create,
        hierarchy=hierarchy,
        first_layers=[layer.to(torch.bfloat16) for layer in trained.first_layers],
        host=HostConfig(
            id=host.id,
            revision=None,
            hidden_size=host.model.config.hidden_size,
            blocks=host.model.config.num_hidden_layers,
            dtype="bf16",
        ),
        site=arguments.site,
        input=config,
        lens=lens,
    )
    provenance: dict[str, object] = {
        "texts": "WordNet 3.0 noun definitions and examples",
        "held_out": HELD_OUT_RULE,
        "training": asdict(training),
        "teacher": None if teacher is None else teacher.pack.identity,
        "positions_per_text": arguments.positions,
        "tellings_per_synset": arguments.tellings,
        "samples": {name: len(part.samples.text_S) for name, part in parts.items()},
        "calibration": "validation synsets, sampled positions",
        "metrics": "held-out synsets, at a text's last position; auroc_sampled at sampled ones",
        "threshold": f"lets at most {FALSE_POSITIVES:.0%} of a lens's held-out negatives pass",
    }
    with tempfile.TemporaryDirectory() as scratch:
        served = write(Path(scratch) / "pack", heads=trained.heads, base_levels=(0,))
        validation, held_out = parts["validation"], parts["held-out"]
        logits_SN = score_all(served, validation.samples.states_SD, progress, "calibration")
        slope, offset, calibrated = fit_platt_by_part(logits_SN, validation.samples.positive(slice(None)))
        logits_SN = score_all(served, held_out.samples.states_SD, progress, "held-out")
        heads = replace(trained.heads, platt_slope=slope, platt_offset=offset, calibrated=calibrated)
        states_PD = walked_states(arguments, host, wordnet, config, progress)
        logits_PN = score_all(served, states_PD, progress, "walk")
        walk = cheapest_with(
            WALK_RECALL, curve(hierarchy, heads, logits_PN, WALK_BASES, WALK_TOP_K, WALK_THRESHOLDS)
        )
        provenance["walk"] = {"chosen_on": "validation synsets, every token of some texts"} | {
            name: value if name in ("base_levels", "top_k") else round(value, 4)
            for name, value in asdict(walk).items()
        }
        scored = Scored(logits_SN, held_out.samples.text_S, held_out.last_S, held_out.samples.positive_XN)
        way = Walk(walk.base_levels, walk.top_k, walk.load_threshold)
        measured, heads = measure(hierarchy, heads, scored, walk=way)
        write = partial(
            write,
            heads=heads,
            hierarchy=measured,
            base_levels=walk.base_levels,
            top_k=walk.top_k,
            load_threshold=walk.load_threshold,
        )
        finished = write(Path(scratch) / "finished")
        progress.console.print(json.dumps(summary(finished.hierarchy)), soft_wrap=True)
        provenance[PROVENANCE] = record(host.model, host.tokenizer, finished).to_json()
    return write(arguments.out, provenance=provenance, host_dir=arguments.host)


def walked_states(
    arguments: argparse.Namespace, host: Host, wordnet: WordNet, config: InputConfig, progress: Progress
) -> Floats:
    """[P, D] input states at every token of some validation texts, evenly spaced: what a walk is chosen on."""
    return collect(
        host,
        tell(wordnet, synsets_of(wordnet, "validation", WALKED_TEXTS)),
        site=arguments.site,
        config=config,
        positions=host.model.config.max_position_embeddings,
        seed=arguments.seed,
        progress=progress,
        title="states: walk",
    ).states_SD


def collect_part(
    name: str,
    arguments: argparse.Namespace,
    host: Host,
    wordnet: WordNet,
    hierarchy: Hierarchy,
    config: InputConfig,
    progress: Progress,
    sample: int | None = None,
) -> Part:
    """Input states and labels of the synsets of one part; the training part is told in several ways."""
    synsets = synsets_of(wordnet, name, sample)
    found = collect(
        host,
        tell(wordnet, synsets, arguments.tellings if name == "train" else 1),
        site=arguments.site,
        config=config,
        positions=arguments.positions,
        seed=arguments.seed,
        progress=progress,
        title=f"states: {name}",
    )
    text_S = (found.text_S % len(synsets)).astype(np.int32)
    return Part(Samples(found.states_SD, text_S, labels(wordnet, synsets, hierarchy)), found.last_S)


def read_concepts(path: Path) -> Hierarchy:
    """The hierarchy of a file that `build_wordnet_concepts.py` wrote."""
    nodes = [json.loads(line) for line in path.read_text().splitlines()]
    return Hierarchy.build((node["id"], node["name"], node["parent"]) for node in nodes)


def fit_platt_by_part(
    logits_SN: Floats, positive_SN: NDArray[np.bool_], lenses: int = 64
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """`fit_platt` for a few lenses at a time: all at once would take gigabytes."""
    parts = []
    for start in range(0, logits_SN.shape[1], lenses):
        some = slice(start, start + lenses)
        weight = np.ones_like(logits_SN[:, some])
        parts.append(fit_platt(logits_SN[:, some], positive_SN[:, some], weight))
    slope, offset, calibrated = (np.concatenate(column) for column in zip(*parts, strict=True))
    return slope, offset, calibrated


def summary(hierarchy: Hierarchy) -> dict[str, float]:
    """The numbers in one line."""
    result: dict[str, float] = {"concepts": len(hierarchy)}
    for name in ("auroc", "auroc_sampled"):
        values = [concept.metrics[name] for concept in hierarchy if name in concept.metrics]
        result["measured"] = len(values)
        result |= {
            f"{name}_median": round(float(np.median(values)), 4),
            f"{name}_p10": round(float(np.quantile(values, 0.1)), 4),
        }
    return result


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--wordnet", type=Path, default=Path("/usr/share/wordnet"), help="WordNet's dict directory"
    )
    parser.add_argument("--concepts", type=Path, default=Path("lens_packs/wordnet-mini.concepts.jsonl"))
    parser.add_argument(
        "--host",
        type=Path,
        default=Path("lens_packs/wordnet-mini/host"),
        help="its directory; it travels with the pack",
    )
    parser.add_argument("--out", type=Path, default=Path("lens_packs/wordnet-mini"))
    parser.add_argument("--site", default="resid_post.3")
    parser.add_argument("--pooling", default="ewm:0.9", help="token, mean, ema:a or ewm:a")
    parser.add_argument("--widths", type=lambda text: tuple(map(int, text.split("-"))), default=(16, 8))
    parser.add_argument(
        "--rank", type=int, help="train compact lenses, behind a projection with so many rows"
    )
    parser.add_argument(
        "--teacher", type=Path, help="a pack of the same concepts whose probabilities take the labels' place"
    )
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--positions", type=int, default=4, help="sampled positions a text, its last aside")
    parser.add_argument(
        "--tellings", type=int, default=2, help="ways in which each synset is told to train on"
    )
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run; exit code 2 and one line for what the user can mend."""
    arguments = parse(argv)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    try:
        with Progress(*columns, console=Console(stderr=True)) as progress:
            pack = build(arguments, progress)
    except PhoropterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {pack.path} ({pack.identity[:12]})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
