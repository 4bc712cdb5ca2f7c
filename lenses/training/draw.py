"""Which samples each lens sees in a step, and what they weigh.

A lens of a thousand would wait long for its own positives in a batch that all share. So a lens sees three parts:

    shared    the same for all lenses: half from all samples, half by first drawing a concept and then one of its texts
    own       from the concept's positives
    parent's  the very samples that its parent has as its own: positives of the lens and of its siblings (without a
              parent: drawn as the shared ones are)

What is learnt does not depend on the parts. Each class has one half of a lens's weight; of the negatives, drawn as in
the shared part, those of the parent's weigh `sibling_weight` times as much as any other. A sample's weight makes up
for how often its kind is drawn.

Shapes: N lenses, B samples that a lens sees, S samples, X texts; `kind` 0 positive, 1 under the parent, 2 any other.
"""

import numpy as np
from numpy.typing import NDArray

from lenses.concept import Hierarchy
from lenses.lens import Floats
from lenses.training.samples import CHUNK, Samples

Ints = NDArray[np.int64]


class Draw:
    """Draws batches; deterministic by the generator it is given."""

    def __init__(
        self,
        samples: Samples,
        hierarchy: Hierarchy,
        shared: int,
        own: int,
        sibling_weight: float,
        rng: np.random.Generator,
    ) -> None:
        self._rng = rng
        self._samples = samples
        self.shared = shared
        """Samples of the shared part, the first of a lens's."""
        self.own = own
        """Samples of the own part, and of the parent's."""
        self._count = len(samples.text_S)
        self._parents_N = hierarchy.parents.astype(np.int64)
        self._order = np.argsort(samples.text_S, kind="stable")
        samples_X = np.bincount(samples.text_S, minlength=len(samples.positive_XN))
        self._start_X, self._samples_X = np.cumsum(samples_X) - samples_X, samples_X
        texts = [
            np.flatnonzero(samples.positive_XN[:, n] & (samples_X > 0)).astype(np.int32)
            for n in range(len(hierarchy))
        ]
        self._texts_N = np.array([len(some) for some in texts])
        self._first_N = np.cumsum(self._texts_N) - self._texts_N
        self._texts = np.concatenate(texts)
        self._able = np.flatnonzero(self._texts_N)
        self._weight_N3 = self._weights(sibling_weight)

    def __call__(self) -> Ints:
        """[N, B] the samples of one step."""
        lenses = len(self._parents_N)
        shared = self._draw_general(self.shared)
        own_NC = self._draw_general(lenses * self.own).reshape(lenses, self.own)
        own_NC[self._able] = self._draw_of(np.repeat(self._able, self.own)).reshape(-1, self.own)
        parents_NC = np.where(
            self._parents_N[:, None] >= 0, own_NC[self._parents_N], self._draw_general(self.own)
        )
        return np.concatenate([np.broadcast_to(shared, (lenses, len(shared))), own_NC, parents_NC], axis=1)

    def labels(self, picked_NB: Ints) -> tuple[NDArray[np.bool_], Floats]:
        """[N, B] whether each sample is a positive of its lens, and what it weighs."""
        of_text_XN, parents_N = self._samples.positive_XN, self._parents_N
        shared_GN = self._samples.positive(picked_NB[0, : self.shared])
        own_NC = self._samples.text_S[picked_NB[:, self.shared :]]
        lens_N1 = np.arange(len(picked_NB))[:, None]
        positive_NB = np.concatenate([shared_GN.T, of_text_XN[own_NC, lens_N1]], axis=1)
        under_NB = np.concatenate([shared_GN[:, parents_N].T, of_text_XN[own_NC, parents_N[:, None]]], axis=1)
        under_NB &= parents_N[:, None] >= 0
        kind_NB = np.where(positive_NB, 0, np.where(under_NB, 1, 2))
        return positive_NB, np.take_along_axis(self._weight_N3, kind_NB, axis=1)

    def _draw_general(self, size: int) -> Ints:
        uniform = self._rng.integers(self._count, size=size - size // 2)
        if not len(self._able):
            return self._rng.integers(self._count, size=size)
        return np.concatenate([uniform, self._draw_of(self._rng.choice(self._able, size=size // 2))])

    def _draw_of(self, concepts: Ints) -> Ints:
        """One sample of each of these concepts: a text of it, and a sample of the text."""
        within = self._rng.random(len(concepts)) * self._texts_N[concepts]
        texts = self._texts[self._first_N[concepts] + within.astype(np.int64)]
        within = self._rng.random(len(concepts)) * self._samples_X[texts]
        drawn: Ints = self._order[self._start_X[texts] + within.astype(np.int64)]
        return drawn

    def _weights(self, sibling_weight: float) -> Floats:
        """[N, 3] what a sample of each kind weighs, so that a batch's mean is the mean that is wanted."""
        share_X = self._samples_X / self._count
        by_concept_X = np.zeros(len(share_X))
        np.add.at(by_concept_X, self._texts, np.repeat(1 / np.maximum(self._texts_N, 1), self._texts_N))
        share_X = 0.5 * share_X + 0.5 * by_concept_X / max(1, len(self._able))
        positive_N = np.zeros(len(self._parents_N))
        for start in range(0, len(share_X), CHUNK):
            positive_N += share_X[start : start + CHUNK] @ self._samples.positive_XN[start : start + CHUNK]
        has_parent = self._parents_N >= 0
        under_N = np.where(has_parent, positive_N[self._parents_N] - positive_N, 0.0)
        general_N3 = np.stack([positive_N, under_N, 1 - positive_N - under_N], axis=1)
        general_N3 = np.where(general_N3 > 1e-9, general_N3, 0.0)
        own_N3 = np.where((self._texts_N > 0)[:, None], [1.0, 0.0, 0.0], general_N3)
        of_parent = self._texts_N / np.maximum(self._texts_N[self._parents_N], 1)
        parents_N3 = np.stack([of_parent, 1 - of_parent, np.zeros_like(of_parent)], axis=1)
        has_pool = has_parent & (self._texts_N[self._parents_N] > 0)
        parents_N3 = np.where(has_pool[:, None], parents_N3, general_N3)
        drawn_N3 = (self.shared * general_N3 + self.own * (own_N3 + parents_N3)) / (
            self.shared + 2 * self.own
        )
        wanted_N3 = general_N3 * [0.0, sibling_weight, 1.0]
        wanted_N3 *= 0.5 / np.maximum(wanted_N3.sum(axis=1, keepdims=True), 1e-12)
        wanted_N3[:, 0] = np.where(positive_N > 0, 0.5, 0.0)
        weight_N3: Floats = np.where(drawn_N3 > 0, wanted_N3 / np.maximum(drawn_N3, 1e-12), 0.0)
        return weight_N3.astype(np.float32)
