"""What the words alone give away: a linear score on the tokens of a text up to a position, without any host.

A position's bag is the tokens read so far, each with (1 + log count) times the logarithm of how rare it is, scaled to
length one. Ridge regression on the bags of the training part gives every concept its weights; the penalty is the one
of `PENALTIES` with the highest median AUROC on whole validation texts. It knows token ids and labels, no states.

Shapes: S samples (positions of texts), X texts, V vocabulary, N concepts, E entries of bags laid end to end.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from judging.ridge import Moments
from lenses.lens import Floats
from lenses.metrics import Bools, Ints, area, is_measured

PENALTIES = (1.0, 3.0, 10.0)
"""Tried on validation texts; in units of the mean variance of a token's entry times samples."""

_CHUNK = 20_000


@dataclass(frozen=True, slots=True)
class Bags:
    """Bags of tokens laid end to end."""

    token_E: NDArray[np.int64]
    value_E: Floats
    start_S: NDArray[np.int64]
    """[S] where each bag begins."""

    def __len__(self) -> int:
        return len(self.start_S)

    @property
    def size_S(self) -> NDArray[np.int64]:
        """[S] entries of each bag."""
        return np.diff(self.start_S, append=len(self.token_E))


def rarity(texts: Sequence[Sequence[int]], vocabulary: int) -> Floats:
    """[V] log(1 + X / (1 + texts with the token))."""
    seen = np.bincount(np.concatenate([np.unique(ids) for ids in texts]), minlength=vocabulary)
    return np.log1p(len(texts) / (1.0 + seen)).astype(np.float32)


def bags(texts: Sequence[Sequence[int]], text_S: Ints, at_S: Ints, rarity_V: Floats) -> Bags:
    """The bag of each sample: the tokens of its text up to and with the one at `at_S`."""
    vocabulary = len(rarity_V)
    begin_X = np.cumsum([0, *(len(ids) for ids in texts)])
    ids = np.concatenate([np.asarray(one, np.int64) for one in texts])
    lengths = at_S.astype(np.int64) + 1
    sample = np.repeat(np.arange(len(lengths)), lengths)
    within = np.arange(len(sample)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    keys, counts = np.unique(sample * vocabulary + ids[begin_X[text_S][sample] + within], return_counts=True)
    sample, token = np.divmod(keys, vocabulary)
    value = (1 + np.log(counts)).astype(np.float32) * rarity_V[token]
    norm_S = np.sqrt(np.bincount(sample, weights=value**2, minlength=len(lengths)))
    start_S = np.searchsorted(sample, np.arange(len(lengths)))
    return Bags(token, (value / norm_S[sample]).astype(np.float32), start_S)


@dataclass(frozen=True, slots=True)
class BagOfWords:
    """The fitted score of every concept."""

    rarity_V: Floats
    weight_VN: torch.Tensor
    penalty: float

    def bags(self, texts: Sequence[Sequence[int]], text_S: Ints, at_S: Ints) -> list[Bags]:
        """The bags of samples, some thousands a piece."""
        pieces = range(0, len(text_S), _CHUNK)
        return [
            bags(texts, text_S[start : start + _CHUNK], at_S[start : start + _CHUNK], self.rarity_V)
            for start in pieces
        ]

    def score(self, found: Sequence[Bags], concepts: slice = slice(None)) -> Floats:
        """[S, concepts] scores of bags; tokens that training never met score 0."""
        weight_VN = self.weight_VN[:, concepts].contiguous()
        return np.concatenate([_product(piece, weight_VN) for piece in found])


def fit(
    samples: tuple[Sequence[Sequence[int]], Ints, Ints],
    positive_XN: Bools,
    validation: Sequence[Sequence[int]],
    validation_positive_XN: Bools,
    *,
    vocabulary: int,
) -> BagOfWords:
    """Fit to samples (texts, and which text up to which token each is); the penalty is chosen on whole texts."""
    texts, text_S, at_S = samples
    rarity_V = rarity(texts, vocabulary)
    moments = Moments(vocabulary, positive_XN.shape[1])
    for start in range(0, len(text_S), _CHUNK):
        some = slice(start, start + _CHUNK)
        _add(moments, bags(texts, text_S[some], at_S[some], rarity_V), positive_XN[text_S[some]])
    last = np.array([len(ids) - 1 for ids in validation])
    candidates = [BagOfWords(rarity_V, moments.solve(penalty), penalty) for penalty in PENALTIES]
    whole = candidates[0].bags(validation, np.arange(len(validation)), last)
    reached = [_median_auroc(model.score(whole), validation_positive_XN) for model in candidates]
    return candidates[int(np.argmax(reached))]


def _product(found: Bags, weight_VN: torch.Tensor) -> Floats:
    """[S, N] bags times weights."""
    product = torch.nn.functional.embedding_bag(
        torch.from_numpy(found.token_E),
        weight_VN,
        torch.from_numpy(found.start_S),
        mode="sum",
        per_sample_weights=torch.from_numpy(found.value_E),
    )
    scored: Floats = product.numpy()
    return scored


def _add(moments: Moments, found: Bags, positive_SN: Bools) -> None:
    """Take samples in, touching only what their bags hold: a dense product would be thousands of times the work."""
    gram, cross = moments.gram_DD.numpy(), moments.cross_DN.numpy()
    size_S = found.size_S
    sample_E = np.repeat(np.arange(len(found)), size_S)
    # Every entry with every entry of its own bag.
    partners_E = size_S[sample_E]
    left = np.repeat(np.arange(len(sample_E)), partners_E)
    within = np.arange(len(left)) - np.repeat(np.cumsum(partners_E) - partners_E, partners_E)
    right = found.start_S[sample_E[left]] + within
    flat = found.token_E[left] * gram.shape[1] + found.token_E[right]
    np.add.at(gram.reshape(-1), flat, found.value_E[left] * found.value_E[right])
    # Every entry with every concept of its text.
    sample_L, concept_L = np.nonzero(positive_SN)
    concepts_S = np.bincount(sample_L, minlength=len(found))
    first_S = np.cumsum(concepts_S) - concepts_S
    partners_E = concepts_S[sample_E]
    left = np.repeat(np.arange(len(sample_E)), partners_E)
    within = np.arange(len(left)) - np.repeat(np.cumsum(partners_E) - partners_E, partners_E)
    concept = concept_L[first_S[sample_E[left]] + within]
    np.add.at(cross.reshape(-1), found.token_E[left] * cross.shape[1] + concept, found.value_E[left])
    moments.count += len(found)
    moments.sum_D += torch.from_numpy(
        np.bincount(found.token_E, weights=found.value_E, minlength=gram.shape[0])
    )
    moments.sum_N += torch.from_numpy(positive_SN.sum(axis=0).astype(np.float64))


def _median_auroc(scores_XN: Floats, positive_XN: Bools) -> float:
    columns = zip(scores_XN.T, positive_XN.T, strict=True)
    reached = [area(scores, positive) for scores, positive in columns if is_measured(positive)]
    return float(np.median(reached)) if reached else 0.0
