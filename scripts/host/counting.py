"""Language models that only count: a unigram and a trigram, to hold a trained one against.

The trigram is interpolated Kneser-Ney: every order gives up a discount of each count to the order below, the
lowest to the uniform distribution, so it is a probability over the whole vocabulary in every context.

Shapes: P predictions, V vocabulary.
"""

import math
from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def trigrams(documents: Sequence[Sequence[int]]) -> Ints:
    """Every token after a document's first with the two before it, [P, 3]; the first token counts twice.

    So the second token, which has one token before it, is predicted from that one and itself again.
    """
    rows = []
    for document in documents:
        ids = np.array([document[0], *document], np.int64)
        rows.append(np.stack([ids[:-2], ids[1:-1], ids[2:]], axis=1))
    return np.concatenate(rows)


def perplexity(probabilities_P: Floats) -> float:
    """exp of the mean negative logarithm."""
    return math.exp(-float(np.log(probabilities_P).mean()))


class Unigram:
    """Every token by its frequency, one added to each count."""

    def __init__(self, ids_P: Ints, vocabulary: int) -> None:
        counts_V = np.bincount(ids_P, minlength=vocabulary) + 1.0
        self._probabilities_V = counts_V / counts_V.sum()

    def probabilities(self, grams_P3: Ints) -> Floats:
        """Probability of each last token [P]."""
        found: Floats = self._probabilities_V[grams_P3[:, 2]]
        return found


class _Counts:
    """Counts by key, with zero for what was never seen."""

    def __init__(self, keys: Ints, counts: Ints) -> None:
        self.keys, self.counts = keys, counts

    @classmethod
    def of(cls, keys: Ints) -> Self:
        return cls(*np.unique(keys, return_counts=True))

    @classmethod
    def summed(cls, keys: Ints, weights: Ints) -> Self:
        found, inverse = np.unique(keys, return_inverse=True)
        return cls(found, np.bincount(inverse, weights=weights).astype(np.int64))

    def __call__(self, keys: Ints) -> Floats:
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[at] == keys, self.counts[at], 0).astype(np.float64)

    @property
    def discount(self) -> float:
        """n1 / (n1 + 2 n2), Ney's estimate; one half where the counts do not give it."""
        ones, twos = int((self.counts == 1).sum()), int((self.counts == 2).sum())
        return ones / (ones + 2 * twos) if ones and twos else 0.5


class Trigram:
    """Interpolated Kneser-Ney over the two tokens before."""

    def __init__(self, grams_P3: Ints, vocabulary: int) -> None:
        self._vocabulary = vocabulary
        first, second, last = grams_P3.T
        self._third = _Counts.of((first * vocabulary + second) * vocabulary + last)
        # Lower orders count in how many contexts a token was seen, not how often: "Francisco" follows one word.
        pairs = self._third.keys % vocabulary**2
        self._second = _Counts.of(pairs)
        self._first = _Counts.of(self._second.keys % vocabulary)
        self._context_3 = _Counts.summed(self._third.keys // vocabulary, self._third.counts)
        self._kinds_3 = _Counts.of(self._third.keys // vocabulary)
        self._context_2 = _Counts.summed(self._second.keys // vocabulary, self._second.counts)
        self._kinds_2 = _Counts.of(self._second.keys // vocabulary)

    def probabilities(self, grams_P3: Ints) -> Floats:
        """Probability of each last token after the two before it [P]."""
        first, second, last = grams_P3.T
        lowest = self._first
        seen = float(lowest.counts.sum())
        left = lowest.discount * len(lowest.keys) / seen
        below = np.maximum(lowest(last) - lowest.discount, 0) / seen + left / self._vocabulary
        below = _interpolated(
            self._second(second * self._vocabulary + last),
            self._context_2(second),
            self._kinds_2(second),
            self._second.discount,
            below,
        )
        context = first * self._vocabulary + second
        return _interpolated(
            self._third(context * self._vocabulary + last),
            self._context_3(context),
            self._kinds_3(context),
            self._third.discount,
            below,
        )


def _interpolated(counts: Floats, context: Floats, kinds: Floats, discount: float, below: Floats) -> Floats:
    """Discounted counts, and what was discounted spread as the order below says; that alone if unseen."""
    total = np.maximum(context, 1)
    mixed = np.maximum(counts - discount, 0) / total + discount * kinds / total * below
    return np.where(context > 0, mixed, below)
