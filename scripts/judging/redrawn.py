"""Texts drawn anew: how much of what is said of many lenses together is the luck of the texts.

As many texts as there are are drawn with replacement, `DRAWS` times; the draws are the same for every lens, so that
lenses that share texts move together. Cutting and ranking anew in every draw would take hours, so

    an AUROC            keeps its placements (the linear part of a bootstrap)
    Brier skill         is computed anew in full: it is linear in both classes' means
    calibration error   keeps its bins as they were cut on all texts

Drawing anew adds the noise of few positives to numbers that have it already, which moves some of them: outer quantiles
outward, calibration errors up. So no interval is the plain span of the draws:

    quantiles of AUROCs     the span mirrored about the value, which takes the move back (the basic bootstrap)
    calibration errors,     the value plus or minus 1.96 standard deviations over the draws: the move stays in the
    shares of lenses        value, as a calibration error's floor says, and is not made twice

Knows scores and labels, nothing about hosts, texts or packs. Shapes: R draws, X texts, S samples, N lenses, K bins.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lenses.lens import Floats
from lenses.metrics import BINS, Bools, Doubles, Estimate, Ints, balanced_weights, bins_of

DRAWS = 1000
_Z = 1.959964


@dataclass(frozen=True, slots=True)
class Redrawn:
    """Texts drawn with replacement. A lens that a draw leaves without a text of either class is NaN in it."""

    weight_RX: Floats
    """[R, X] how often each draw has each text."""

    @classmethod
    def of(cls, texts: int, rng: np.random.Generator, *, draws: int = DRAWS) -> Self:
        """Draw from so many texts."""
        weight_RX = rng.multinomial(texts, np.full(texts, 1 / texts), size=draws)
        return cls(weight_RX.astype(np.float32))

    def areas(self, placed_XN: Doubles, positive_XN: Bools) -> tuple[Doubles, Doubles]:
        """[N] mean placements (AUROCs, or differences of two) over all texts, and [R, N] over those drawn.

        A placement is NaN where a text is not among those that a lens is judged by.
        """
        is_judged = ~np.isnan(placed_XN)
        exact_N = np.zeros(placed_XN.shape[1])
        drawn_RN = np.zeros((len(self.weight_RX), placed_XN.shape[1]))
        for some_XN in (positive_XN & is_judged, ~positive_XN & is_judged):
            exact_N = np.where(some_XN, placed_XN, 0).sum(axis=0) / some_XN.sum(axis=0)
            # Centred, so that fp32 keeps what differs between draws.
            off_XN = np.where(some_XN, placed_XN - exact_N, 0).astype(np.float32)
            total_RN = self.weight_RX @ some_XN.astype(np.float32)
            drawn_RN += np.where(total_RN > 0, self.weight_RX @ off_XN / np.maximum(total_RN, 1), np.nan)
        return exact_N, drawn_RN + exact_N

    def brier_skills(self, probability_S: Floats, positive_S: Bools, text_S: Ints) -> Doubles:
        """[R] Brier skill of a lens (`lenses.metrics.brier_skill`) over the samples of the texts drawn."""
        missed_S = np.square(probability_S - positive_S, dtype=np.float64)
        means_RKC = self._class_means(missed_S, np.zeros_like(text_S), 1, positive_S, text_S)
        skill_R: Doubles = 1 - means_RKC[:, 0].mean(axis=1) / 0.25
        return skill_R

    def calibration_errors(self, probability_S: Floats, positive_S: Bools, text_S: Ints) -> Doubles:
        """[R] balanced calibration error of a lens (`lenses.metrics.reliability`) over the samples drawn."""
        bin_S = bins_of(probability_S, balanced_weights(positive_S))
        means_RKC = self._class_means(probability_S - positive_S, bin_S, BINS, positive_S, text_S)
        error_R: Doubles = np.abs(means_RKC.mean(axis=2)).sum(axis=1)
        return error_R

    def _class_means(
        self, values_S: NDArray[np.floating], bin_S: Ints, bins: int, positive_S: Bools, text_S: Ints
    ) -> Doubles:
        """[R, K, 2] each bin's part of the mean value of negatives and of positives, over the samples drawn."""
        texts = self.weight_RX.shape[1]
        cell_S = (text_S.astype(np.int64) * bins + bin_S) * 2 + positive_S
        total_XJ = np.bincount(cell_S, values_S, texts * bins * 2).reshape(texts, -1).astype(np.float32)
        count_XC = np.bincount(2 * text_S + positive_S, minlength=2 * texts).reshape(texts, 2)
        drawn_RKC = (self.weight_RX @ total_XJ).reshape(-1, bins, 2)
        number_RC = self.weight_RX @ count_XC.astype(np.float32)
        number_R1C = number_RC[:, None, :]
        return np.where(number_R1C > 0, drawn_RKC / np.maximum(number_R1C, 1), np.nan)


def quantile_intervals(exact_N: Doubles, drawn_RN: Doubles, quantiles: Sequence[float]) -> list[Estimate]:
    """Quantiles over lenses of AUROCs (`Redrawn.areas`), each with its interval."""
    ends = np.quantile(np.nanquantile(_judged(drawn_RN), quantiles, axis=1), [0.025, 0.975], axis=1).T
    values = [float(np.quantile(exact_N, q)) for q in quantiles]
    return [
        Estimate(value, 2 * value - float(high), 2 * value - float(low))
        for value, (low, high) in zip(values, ends, strict=True)
    ]


def median_interval(exact_N: Doubles, drawn_RN: Doubles) -> Estimate:
    """The median over lenses of calibration errors, with its interval."""
    return _about(float(np.median(exact_N)), np.nanmedian(_judged(drawn_RN), axis=1))


def share_interval(exact_N: Doubles, drawn_RN: Doubles) -> Estimate:
    """The share of lenses above 0, with its interval, which ends at 0 and at 1."""
    drawn = _judged(drawn_RN)
    above_R = np.nanmean(np.where(np.isnan(drawn), np.nan, drawn > 0), axis=1)
    found = _about(float((exact_N > 0).mean()), above_R)
    return Estimate(found.value, max(0.0, found.low), min(1.0, found.high))


def _judged(drawn_RN: Doubles) -> Doubles:
    """Without the draws that leave no lens texts of both classes."""
    return drawn_RN[~np.isnan(drawn_RN).all(axis=1)]


def _about(value: float, drawn_R: Doubles) -> Estimate:
    spread = _Z * float(drawn_R.std(ddof=1))
    return Estimate(value, value - spread, value + spread)
