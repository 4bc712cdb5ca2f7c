"""Input states of WordNet's parts with their labels, in memory: what variants of lenses are trained and judged on."""

import argparse
from dataclasses import dataclass

import numpy as np
from data.synsets import labels, synsets_of, tell
from numpy.typing import NDArray
from rich.progress import Progress

from lenses.concept import Hierarchy
from lenses.config import InputConfig
from lenses.importers.wordnet import WordNet
from lenses.training import Samples
from runtime.host import Host
from runtime.training import corpus
from runtime.training.states import collect


@dataclass(frozen=True, slots=True)
class Part:
    """Input states of one part of the synsets, with their labels; `last_S` marks each text's last position."""

    samples: Samples
    last_S: NDArray[np.bool_]


def collect_part(
    name: corpus.Part,
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
