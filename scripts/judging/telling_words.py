"""The words that give a concept away, and the texts in which none of them occurs.

A concept's telling words are
- the words of its own lemmas, but for those that are in more than one training text of twenty ("of", "body of water");
- the `COUNT` words with the highest likelihood ratio (G², Dunning 1993) between training texts of the concept and all
  other training texts, of those that are in `LEAST_TEXTS` of its texts or more and at least `LIFT` times as frequent in
  them as elsewhere.

A word is a run of letters in lower case; a text has a word or has it not. Held-out texts have no part in the choice.
Knows texts and labels, nothing about scores.

Shapes: X texts, W words, N concepts.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lenses.metrics import Bools, Doubles

COUNT = 20
LEAST_TEXTS = 3
LIFT = 2.0
_COMMON = 0.05
_WORD = re.compile(r"[^\W\d_]+")


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(_WORD.findall(text.lower()))


@dataclass(frozen=True, slots=True)
class _Index:
    """Which texts have which words: entry e says that text `text_E[e]` has word `word_E[e]`."""

    number: dict[str, int]
    text_E: NDArray[np.int64]
    word_E: NDArray[np.int64]

    @classmethod
    def of(cls, texts: Sequence[str]) -> "_Index":
        number: dict[str, int] = {}
        found = [sorted(words(text)) for text in texts]
        word_E = [number.setdefault(word, len(number)) for some in found for word in some]
        text_E = np.repeat(np.arange(len(texts)), [len(some) for some in found])
        return cls(number, text_E, np.array(word_E, np.int64))


def telling_words(
    texts: Sequence[str], positive_XN: Bools, lemmas: Sequence[Sequence[str]]
) -> list[tuple[str, ...]]:
    """The telling words of each concept, learnt from training texts; `lemmas` are each concept's own."""
    index = _Index.of(texts)
    names = np.array(list(index.number), object)
    text_count = np.bincount(index.word_E, minlength=len(names))
    told = []
    for n, own in enumerate(lemmas):
        positive = positive_XN[:, n]
        inside = np.bincount(index.word_E[positive[index.text_E]], minlength=len(names))
        ratio = _likelihood_ratio(inside, text_count, int(positive.sum()), len(texts))
        ratio[inside < LEAST_TEXTS] = 0
        best = np.argsort(-ratio, kind="stable")[:COUNT]
        found = {str(names[w]) for w in best if ratio[w] > 0}
        for word in {word for lemma in own for word in words(lemma)}:
            if word not in index.number or text_count[index.number[word]] <= _COMMON * len(texts):
                found.add(word)
        told.append(tuple(sorted(found)))
    return told


def without_words(texts: Sequence[str], told: Sequence[Sequence[str]]) -> Bools:
    """[X, N] whether a text has none of a concept's words."""
    index = _Index.of(texts)
    order = np.argsort(index.word_E, kind="stable")
    starts = np.searchsorted(index.word_E[order], np.arange(len(index.number) + 1))
    without_XN = np.ones((len(texts), len(told)), np.bool_)
    for n, some in enumerate(told):
        for w in (index.number[word] for word in some if word in index.number):
            without_XN[index.text_E[order[starts[w] : starts[w + 1]]], n] = False
    return without_XN


def _likelihood_ratio(
    inside_W: NDArray[np.int64], all_W: NDArray[np.int64], positives: int, texts: int
) -> Doubles:
    """[W] G² of each word's two-by-two table; 0 where the word is not `LIFT` times as frequent inside."""
    outside_W, negatives = all_W - inside_W, texts - positives
    table = np.stack([inside_W, positives - inside_W, outside_W, negatives - outside_W]).astype(np.float64)
    rows = np.array([positives, positives, negatives, negatives], np.float64)[:, None]
    columns = np.stack([all_W, texts - all_W, all_W, texts - all_W])
    expected = np.maximum(rows * columns / texts, 1e-300)
    ratio = 2 * (table * np.log(np.maximum(table, 1e-300) / expected)).sum(axis=0)
    frequent = inside_W * negatives >= LIFT * outside_W * positives
    told: Doubles = np.where(frequent & (inside_W > 0), ratio, 0.0)
    return told
