"""Trains all lenses of a hierarchy for one host at one site, on WordNet's texts, and writes the pack.

    python scripts/train_lenses.py --host lens_packs/wordnet-mini/host --out lens_packs/wordnet-mini

What it does, in order:
1. reads the concepts and every noun synset that lies under one; a text of a synset is a text of each concept above it,
   through all hypernyms;
2. runs the host over the texts once and keeps input states at sampled positions, made exactly as they will be served;
3. trains all lenses together on four of five synsets that the host was trained on;
4. calibrates on the rest of these, on scores as served (first layers as stored, by the bank);
5. measures AUROC on the tenth of synsets that neither host nor lenses have seen, and writes it to `concepts.jsonl`.
"""

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from wordnet_texts import Texts

from lenses.bank import Bank
from lenses.calibration import fit_platt
from lenses.concept import Hierarchy
from lenses.config import HostConfig, InputConfig, LensConfig
from lenses.errors import PhoropterError
from lenses.importers.wordnet import HELD_OUT_RULE, Synset, WordNet, is_held_out, read_wordnet
from lenses.lens import Floats
from lenses.pack import LensPack
from lenses.state import Pool, normalise
from lenses.training import Samples, TrainingConfig, auroc, train
from runtime.hook import Forward, Tap
from runtime.host import Host, load_host

LEAST_POSITIVES = 10
"""A lens with fewer held-out positives is not measured."""


@dataclass(frozen=True, slots=True)
class Split:
    """Input states of one part of the synsets; `last_S` marks each text's last position."""

    samples: Samples
    last_S: NDArray[np.bool_]


class _Rows:
    """Keeps the rows of the one forward that is running."""

    def __init__(self) -> None:
        self.forward: Forward | None = None

    def observe(self, forward: Forward) -> None:
        self.forward = forward

    def tokens_fed(self, token_BT: object, mask_BT: object, begins: bool) -> None:
        pass

    def expect(self, plan: object) -> None:
        pass

    def finish_run(self, sequences_BT: object) -> None:
        pass


def labels(wordnet: WordNet, synsets: Sequence[Synset], hierarchy: Hierarchy) -> NDArray[np.bool_]:
    """[synsets, N] whether a synset is a concept or lies below it, through any hypernym."""
    positive_XN = np.zeros((len(synsets), len(hierarchy)), np.bool_)
    index = {concept.id: n for n, concept in enumerate(hierarchy)}
    for x, synset in enumerate(synsets):
        above = wordnet.ancestors[synset.id] | {synset.id}
        positive_XN[x, [index[one] for one in above if one in index]] = True
    # A branch whose top was left out of the hierarchy hangs under another concept: what is of a child is of its parent.
    for n in range(len(hierarchy) - 1, -1, -1):
        if (parent := hierarchy.parents[n]) >= 0:
            positive_XN[:, parent] |= positive_XN[:, n]
    return positive_XN


def collect(
    host: Host,
    texts: Sequence[str],
    *,
    site: str,
    config: InputConfig,
    positions: int,
    seed: int,
    batch_tokens: int,
    progress: Progress,
    title: str,
) -> tuple[Floats, NDArray[np.int32], NDArray[np.bool_]]:
    """Run the host over texts; input states `[S, D]` at `positions` sampled places of each text and at its last.

    Also returns the text of each sample `[S]` and whether it is the text's last position `[S]`.
    """
    rng = np.random.default_rng(seed)
    encoded = [
        host.tokenizer(text)["input_ids"][: host.model.config.max_position_embeddings] for text in texts
    ]
    order = sorted(range(len(texts)), key=lambda x: len(encoded[x]))
    rows = _Rows()
    states: list[Floats] = []
    owners: list[int] = []
    lasts: list[bool] = []
    task = progress.add_task(title, total=len(texts))
    bos = host.model.config.bos_token_id
    with torch.inference_mode(), Tap(host.model, site, rows):
        for batch in _batches(order, encoded, batch_tokens):
            longest = len(encoded[batch[-1]])
            ids = torch.full((len(batch), longest), host.tokenizer.pad_token_id)
            mask = torch.zeros((len(batch), longest), dtype=torch.long)
            for b, x in enumerate(batch):
                ids[b, : len(encoded[x])] = torch.tensor(encoded[x])
                mask[b, : len(encoded[x])] = 1
            device = host.model.device
            host.model(
                input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False, logits_to_keep=1
            )
            assert rows.forward is not None
            rows_BTD = rows.forward.rows_BTD.to("cpu", torch.float32).numpy()
            begin = int(ids[0, 0] == bos)
            pool = Pool(config)
            pooled = np.stack(
                [pool.push(normalise(rows_BTD[:, t], config)) for t in range(begin, longest)], axis=1
            )
            for b, x in enumerate(batch):
                length = len(encoded[x]) - begin
                picked = rng.choice(length, size=min(positions, length), replace=False)
                for at in {*picked.tolist(), length - 1}:
                    states.append(pooled[b, at])
                    owners.append(x)
                    lasts.append(at == length - 1)
            progress.advance(task, len(batch))
    return np.stack(states), np.array(owners, np.int32), np.array(lasts)


def _batches(
    order: Sequence[int], encoded: Sequence[Sequence[int]], batch_tokens: int
) -> Iterator[list[int]]:
    """Texts of like length together, at most `batch_tokens` tokens with padding."""
    batch: list[int] = []
    for x in order:
        if batch and (len(batch) + 1) * len(encoded[x]) > batch_tokens:
            yield batch
            batch = []
        batch.append(x)
    if batch:
        yield batch


def in_validation(synset: Synset) -> bool:
    """One of five synsets that the host was trained on: lenses are calibrated on these, not trained."""
    digest = hashlib.sha256(f"validation:{synset.pos}:{synset.offset:08d}".encode()).digest()
    return int.from_bytes(digest, "big") % 5 == 0


def score_all(pack: LensPack, states_SD: Floats, progress: Progress, title: str) -> Floats:
    """[S, N] logits of every lens as served: stored first layers, by the bank."""
    bank = Bank(pack, range(len(pack.hierarchy.families)))
    task = progress.add_task(title, total=len(states_SD))
    parts = []
    for start in range(0, len(states_SD), 4096):
        parts.append(bank.score_base(states_SD[start : start + 4096]))
        progress.advance(task, len(parts[-1]))
    bank.close()
    return np.concatenate(parts)


def build(arguments: argparse.Namespace, progress: Progress) -> LensPack:
    """Train, calibrate, measure and write the pack."""
    hierarchy = read_concepts(arguments.concepts)
    wordnet = read_wordnet(arguments.wordnet)
    host = load_host(str(arguments.host))
    synsets = list(wordnet.values())
    positive_XN = labels(wordnet, synsets, hierarchy)
    texts = Texts(wordnet)
    config = InputConfig(norm="layer", eps=1e-6, pooling=arguments.pooling)
    print(f"{len(hierarchy)} concepts, {len(synsets)} synsets, host {host.id}", flush=True)

    parts: dict[str, Split] = {}
    for name, wanted in (
        ("train", [x for x, s in enumerate(synsets) if not is_held_out(s) and not in_validation(s)]),
        ("validation", [x for x, s in enumerate(synsets) if not is_held_out(s) and in_validation(s)]),
        ("held-out", [x for x, s in enumerate(synsets) if is_held_out(s)]),
    ):
        variants = arguments.variants if name == "train" else 1
        states_SD, owner_S, last_S = collect(
            host,
            [texts.document(synsets[x], seed=1, epoch=epoch) for epoch in range(variants) for x in wanted],
            site=arguments.site,
            config=config,
            positions=arguments.positions,
            seed=arguments.seed,
            batch_tokens=8192,
            progress=progress,
            title=f"states: {name}",
        )
        text_S = (owner_S % len(wanted)).astype(np.int32)
        parts[name] = Split(Samples(states_SD, text_S, positive_XN[wanted]), last_S)

    training = TrainingConfig(widths=arguments.widths, steps=arguments.steps, seed=arguments.seed)
    task = progress.add_task("lenses", total=training.steps)

    def tell(step: int, loss: float) -> None:
        progress.update(task, completed=step, description=f"lenses: loss {loss:.4f}")
        if step % 100 == 0:
            print(f"step {step} loss {loss:.4f}", flush=True)

    trained = train(parts["train"].samples, hierarchy, training, progress=tell)
    provenance = {
        "texts": "WordNet 3.0 noun definitions and examples",
        "held_out": HELD_OUT_RULE,
        "training": asdict(training),
        "positions_per_text": arguments.positions,
        "variants_per_synset": arguments.variants,
        "samples": {name: len(split.samples.text_S) for name, split in parts.items()},
        "calibration": "validation synsets, sampled positions",
    }
    common = {
        "host": HostConfig(
            id=host.id,
            revision=None,
            hidden_size=host.model.config.hidden_size,
            blocks=host.model.config.num_hidden_layers,
            dtype="bf16",
        ),
        "site": arguments.site,
        "input": config,
        "lens": LensConfig("mlp", training.widths),
        "base_levels": (0, 1),
        "provenance": provenance,
    }
    first_layers = [layer.to(torch.bfloat16) for layer in trained.first_layers]
    with tempfile.TemporaryDirectory() as scratch:
        served = LensPack.create(
            Path(scratch) / "pack",
            hierarchy=hierarchy,
            first_layers=first_layers,
            heads=trained.heads,
            **common,
        )
        validation, held_out = parts["validation"], parts["held-out"]
        logits_SN = score_all(served, validation.samples.states_SD, progress, "calibration")
        positive_SN = validation.samples.positive(slice(None))
        slope, offset, calibrated = fit_platt_by_part(logits_SN, positive_SN)
        heads = replace(trained.heads, platt_slope=slope, platt_offset=offset, calibrated=calibrated)
        logits_SN = score_all(served, held_out.samples.states_SD, progress, "held-out")
    measured = measure(hierarchy, logits_SN, held_out)
    pack = LensPack.create(
        arguments.out,
        hierarchy=measured,
        first_layers=first_layers,
        heads=heads,
        host_dir=arguments.host,
        **common,
    )
    print(json.dumps(summary(measured)), flush=True)
    return pack


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


def measure(hierarchy: Hierarchy, logits_SN: Floats, split: Split) -> Hierarchy:
    """The hierarchy with what its lenses reach on texts that neither host nor lenses have seen.

    `auroc` is at a text's last position, `auroc_any` at sampled positions; `positives` counts texts. A lens with fewer
    than `LEAST_POSITIVES` of them has no AUROC.
    """
    last = split.last_S
    positive_SN = split.samples.positive(slice(None))
    positives = positive_SN[last].sum(axis=0)
    at_last = auroc(logits_SN[last], positive_SN[last])
    at_any = auroc(logits_SN, positive_SN)
    concepts = []
    for n, concept in enumerate(hierarchy):
        metrics: dict[str, float] = {"positives": int(positives[n])}
        if positives[n] >= LEAST_POSITIVES:
            metrics |= {"auroc": round(float(at_last[n]), 4), "auroc_any": round(float(at_any[n]), 4)}
        concepts.append(replace(concept, metrics=metrics))
    return Hierarchy(concepts)


def summary(hierarchy: Hierarchy) -> dict[str, float]:
    """The numbers in one line."""
    result: dict[str, float] = {"concepts": len(hierarchy)}
    for name in ("auroc", "auroc_any"):
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
    parser.add_argument("--host", type=Path, default=Path("lens_packs/wordnet-mini/host"))
    parser.add_argument("--out", type=Path, default=Path("lens_packs/wordnet-mini"))
    parser.add_argument("--site", default="resid_post.3")
    parser.add_argument("--pooling", default="ema:0.8", help="token, mean or ema:a")
    parser.add_argument("--widths", type=lambda text: tuple(map(int, text.split("-"))), default=(16, 8))
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--positions", type=int, default=4, help="sampled positions a text, its last aside")
    parser.add_argument("--variants", type=int, default=2, help="tellings of each synset to train on")
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
