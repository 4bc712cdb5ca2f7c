"""WordNet's synsets as training data: which part each belongs to, its texts, and the concepts that it is of.

Shapes: X synsets or texts, N concepts.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lenses.concept import Hierarchy
from lenses.importers.wordnet import Synset, WordNet
from lenses.importers.wordnet_texts import Texts
from runtime.training import corpus
from runtime.training.corpus import Part, with_parents


def labels(wordnet: WordNet, synsets: Sequence[Synset], hierarchy: Hierarchy) -> NDArray[np.bool_]:
    """[synsets, N] whether a synset is a concept or lies below it, through any hypernym."""
    positive_XN = np.zeros((len(synsets), len(hierarchy)), np.bool_)
    index = {concept.id: n for n, concept in enumerate(hierarchy)}
    for x, synset in enumerate(synsets):
        above = wordnet.ancestors[synset.id] | {synset.id}
        positive_XN[x, [index[one] for one in above if one in index]] = True
    # A branch whose top was left out of the hierarchy hangs under another concept: what is of a child is of its parent.
    return with_parents(positive_XN, hierarchy)


def synsets_of(wordnet: WordNet, part: str, sample: int | None = None) -> list[Synset]:
    """The synsets of one part, or evenly spaced ones of a `sample` of them."""
    synsets = [synset for synset in wordnet.values() if part_of(synset) == part]
    if sample is None or sample >= len(synsets):
        return synsets
    return [synsets[at] for at in np.linspace(0, len(synsets) - 1, sample).astype(int)]


def tell(wordnet: WordNet, synsets: Sequence[Synset], tellings: int = 1) -> list[str]:
    """The texts of synsets: all of them told once, then all told anew."""
    texts = Texts(wordnet)
    return [texts.document(synset, seed=1, epoch=epoch) for epoch in range(tellings) for synset in synsets]


def part_of(synset: Synset) -> Part:
    """`held-out` for the host's held-out tenth; of the rest one in five is for `validation`, four for `train`."""
    return corpus.part_of(f"{synset.pos}:{synset.offset:08d}")
