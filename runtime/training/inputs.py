"""Which site and which pooling lenses should read: chosen on validation texts, by lenses that are fitted in a moment.

Some items of the train and validation parts go through the host once, and give the states of every candidate. On each a
linear lens a concept is fitted in closed form; the candidate whose lenses tell validation texts apart best, by the
median AUROC at sampled positions, is taken. Knows nothing about what is trained then.

Shapes: S samples, D hidden size, N concepts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress

from lenses.concept import Hierarchy
from lenses.metrics import area, is_measured
from lenses.training import Samples, fit_linear
from runtime.host import Host
from runtime.training.corpus import Corpus
from runtime.training.shards import StateShards
from runtime.training.states import Input, States
from runtime.training.workers import Workers

ITEMS = 4000
"""Of the train part, on which candidates are compared; a fourth as many of the validation part."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An input, and how well linear lenses on it tell validation texts apart."""

    site: str
    pooling: str
    auroc: float | None
    """Median over the lenses that have enough positives; None where none has."""
    lenses: int


def compare_inputs(
    inputs: Sequence[Input],
    host: Host,
    hierarchy: Hierarchy,
    train: Corpus,
    validation: Corpus,
    *,
    positions: int,
    seed: int,
    directory: Path,
    workers: Workers,
    progress: Progress,
) -> list[Candidate]:
    """A candidate for each input, in the order given."""
    train, validation = train.sample(ITEMS).told_once(), validation.sample(ITEMS // 4).told_once()
    parts = {}
    for name, part in (("train", train), ("validation", validation)):
        shards = StateShards(directory, host, part.texts, inputs, positions, seed)
        shards.collect(workers, progress, f"states of {len(inputs)} inputs: {name}")
        parts[name] = shards, part.labels(hierarchy)
    found = []
    for one in progress.track(inputs, description="comparing inputs") if workers.is_first else ():
        of = {name: samples_of(shards.load(one), labels) for name, (shards, labels) in parts.items()}
        areas = _areas(of["train"], of["validation"], hierarchy)
        median = float(np.median(areas)) if areas else None
        found.append(Candidate(one[0], one[1].pooling, median, len(areas)))
    return found


def best(candidates: Sequence[Candidate]) -> int:
    """The place of the candidate of the highest AUROC, the first of equals; 0 where nothing could be measured."""
    return max(range(len(candidates)), key=lambda i: (candidates[i].auroc or 0.0, -i))


def samples_of(states: States, positive_XN: np.ndarray) -> Samples:
    """States of an item's only text, with the item's labels."""
    return Samples(states.states_SD, states.text_S, positive_XN)


def _areas(train: Samples, validation: Samples, hierarchy: Hierarchy) -> list[float]:
    fitted = fit_linear(train, hierarchy)
    weight_ND = torch.cat(fitted.first_layers).numpy()
    logits_SN = validation.states_SD @ weight_ND.T
    positive_SN = validation.positive(slice(None))
    return [
        area(logits_SN[:, n], positive_SN[:, n])
        for n in range(len(hierarchy))
        if is_measured(positive_SN[:, n])
    ]
