"""WordNet's synsets as training data: which part each belongs to, its texts, and the concepts that it is of.

Shapes: X synsets or texts, N concepts.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lenses.concept import Hierarchy
from lenses.importers.wordnet import Synset, WordNet
from lenses.importers.wordnet_texts import Texts
from runtime.training import corpus, sources
from runtime.training.corpus import Corpus, Part, evenly
from runtime.training.sources import synset_item, synset_key


def labels(wordnet: WordNet, synsets: Sequence[Synset], hierarchy: Hierarchy) -> NDArray[np.bool_]:
    """[synsets, N] whether a synset is a concept or lies below it, through any hypernym."""
    items = tuple(synset_item(wordnet, synset, ()) for synset in synsets)
    return Corpus(items).labels(hierarchy)


def synsets_of(wordnet: WordNet, part: Part, sample: int | None = None) -> list[Synset]:
    """The synsets of one part, or evenly spaced ones of a `sample` of them."""
    synsets = sources.synsets_of(wordnet, part)
    return synsets if sample is None else list(evenly(synsets, sample))


def tell(wordnet: WordNet, synsets: Sequence[Synset], tellings: int = 1) -> list[str]:
    """The texts of synsets: all of them told once, then all told anew."""
    texts = Texts(wordnet)
    return [texts.document(synset, seed=1, epoch=epoch) for epoch in range(tellings) for synset in synsets]


def part_of(synset: Synset) -> Part:
    """`held-out` for the host's held-out tenth; of the rest one in five is for `validation`, four for `train`."""
    return corpus.part_of(synset_key(synset))
