"""Parts of WordNet's synsets, each told once: texts, labels, and what the host makes of them.

Shapes: X texts, N concepts.
"""

from dataclasses import dataclass

from rich.progress import Progress

from data.synsets import labels, synsets_of, tell
from lenses.importers.wordnet import WordNet
from lenses.metrics import SEED, Bools
from lenses.pack import LensPack
from runtime.host import Host
from runtime.training import corpus
from runtime.training.states import States, collect

POSITIONS = 4
"""Sampled positions of a training text, its last aside: what the controls are fitted on."""


@dataclass(frozen=True, slots=True)
class Part:
    """The texts of some synsets, with tokens and labels."""

    texts: list[str]
    ids: list[list[int]]
    """The host's tokens of each text, BOS included."""
    positive_XN: Bools
    """[X, N] whether a text is of the concept or of one below it."""


def read_part(name: corpus.Part, wordnet: WordNet, host: Host, pack: LensPack, sample: int | None) -> Part:
    """The synsets of a part, told once; of a `sample` evenly spaced ones."""
    synsets = synsets_of(wordnet, name, sample if sample is None or name == "held-out" else 4 * sample)
    told = tell(wordnet, synsets)
    longest = host.model.config.max_position_embeddings
    ids = [one[:longest] for one in host.tokenizer(told)["input_ids"]]
    return Part(told, ids, labels(wordnet, synsets, pack.hierarchy))


def collect_states(part: Part, pack: LensPack, host: Host, progress: Progress, positions: int) -> States:
    """Input states of a part's texts, as served."""
    return collect(
        host,
        part.texts,
        site=pack.config.site,
        config=pack.config.input,
        positions=positions,
        seed=SEED,
        progress=progress,
        title=f"{len(part.texts)} texts",
    )
