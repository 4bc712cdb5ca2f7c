"""How often lenses fire for nothing: thresholds and alarm budgets from a null corpus, texts that are of no concept.

`Null` takes logits of every token, batch by batch, and keeps of each lens only its highest, so its memory is bounded.
Out of these, by the token and by the text (a sequence counts by its highest token):

    threshold           the lowest log-odds above which at most 1 % (0.1 % from 3,000 texts on) of tokens or texts lie
    its interval        95 %: the thresholds of the rates at both ends of the rate's own interval (Woodruff 1952). The
                        variance of a rate is clustered by text, that of a ratio of sums: with a_x of the t_x tokens of
                        text x above, r = sum a / sum t, it is X / (X - 1) sum (a_x - r t_x)^2 / T^2
    design effect       that variance over r (1 - r) / T, of tokens that came one by one. It says how alike tokens of
                        one text are (`likeness`), whatever the lengths of the texts are
    predicted           the rate that a second corpus of so many tokens or texts of the same kind is expected to show,
                        with 95 %: Beta-binomial,
                        both corpora counted in independent samples: tokens over design effect.
                        For texts, which are independent, this is exact whatever the scores' distribution is

What is promised holds for texts of the null corpus's kind. Knows logits, labels of texts and nothing of hosts or files.

Shapes: T tokens of a batch, N lenses, X texts, K tokens or texts kept of each lens.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lenses.errors import ConfigError
from lenses.lens import Floats, Heads
from lenses.metrics import Bools, Doubles, Estimate, Ints

TOKEN, SEQUENCE = "token", "sequence"
LEVELS = {TOKEN: "of the tokens", SEQUENCE: "of the texts"}
RATES = {"1fpr": 0.01, "01fpr": 0.001}
"""By their names in metrics: 1 % and 0.1 % false positives."""
_BEYOND = 3
"""Texts that must be expected beyond a threshold: 0.1 % wants 3,000 texts."""
LEAST_TOKENS, LEAST_TEXTS = 20_000, 1_000
"""What a null corpus should have for its thresholds to be worth anything."""
Z = 1.959964
NONE_SEEN = 3.689
"""Expected events of which none is seen with a chance of 2.5 %."""


class Null:
    """The highest logits of every lens on a null corpus, gathered batch by batch; memory is set by `most_tokens`.

    Tokens of a text come together, its batches one after another, and each text once.
    """

    def __init__(self, lenses: int, *, most_tokens: int) -> None:
        self.lenses = lenses
        self._most = most_tokens
        # Three times what 1 % is: the lower end of a threshold's interval lies below the threshold.
        self._tails = {level: _Tail(lenses, math.ceil(0.03 * most_tokens) + 1) for level in LEVELS}
        self._ids: dict[int, int] = {}
        self._tokens: list[int] = []
        self._open_N: Floats | None = None

    def add(self, logits_TN: Floats, text_T: Ints) -> None:
        """Take the logits of some tokens; `text_T` says which text each is of, by any whole numbers."""
        if not len(text_T):
            return
        starts = np.flatnonzero(np.append(True, text_T[1:] != text_T[:-1]))
        lengths = np.diff(starts, append=len(text_T))
        maxima_RN = np.maximum.reduceat(logits_TN, starts, axis=0)
        places, closed = [], []
        for run, (start, length) in enumerate(zip(starts, lengths, strict=True)):
            text = int(text_T[start])
            place = self._ids.setdefault(text, len(self._ids))
            if place == len(self._tokens):
                if self._open_N is not None:
                    closed.append((place - 1, self._open_N))
                self._tokens.append(0)
                self._open_N = maxima_RN[run]
            elif place == len(self._tokens) - 1 and self._open_N is not None:
                self._open_N = np.maximum(self._open_N, maxima_RN[run])
            else:
                raise ValueError(f"text {text} comes again after others: give a null corpus text by text")
            self._tokens[place] += int(length)
            places.append(place)
        if self.tokens > self._most:
            raise ConfigError(
                f"the null corpus has more than {self._most} tokens, for which memory was set aside; give fewer texts"
            )
        self._tails[TOKEN].add(logits_TN, np.repeat(places, lengths))
        self._add_texts(closed)

    @property
    def tokens(self) -> int:
        """Tokens so far."""
        return sum(self._tokens)

    @property
    def texts(self) -> int:
        """Texts so far."""
        return len(self._tokens)

    @property
    def lengths_X(self) -> Doubles:
        """[X] tokens of each text, in the order in which they came."""
        return np.array(self._tokens, np.float64)

    def tail(self, level: str, n: int) -> "Tail":
        """The highest logits of lens n, by the token or by the text."""
        if self._open_N is not None:  # the last text is over when somebody asks
            self._add_texts([(len(self._tokens) - 1, self._open_N)])
            self._open_N = None
        values, texts = self._tails[level].of(n)
        weights_X = self.lengths_X if level == TOKEN else np.ones(self.texts)
        return Tail(values, texts, weights_X)

    def _add_texts(self, closed: Sequence[tuple[int, Floats]]) -> None:
        if closed:
            self._tails[SEQUENCE].add(np.stack([row for _, row in closed]), np.array([x for x, _ in closed]))


class _Tail:
    """The `most` highest values of every lens, and the texts that they are of."""

    def __init__(self, lenses: int, most: int) -> None:
        self._most = most
        # A lens's values lie side by side: partitioning across rows would take three times as long.
        self._values_NK = np.empty((lenses, 0), np.float32)
        self._text_NK = np.empty((lenses, 0), np.int32)

    def add(self, values_TN: Floats, text_T: Ints) -> None:
        if (
            self._values_NK.shape[1] == self._most
        ):  # what is below the lowest kept of every lens need not be looked at
            kept_T = (values_TN > self._values_NK.min(axis=1)).any(axis=1)
            values_TN, text_T = values_TN[kept_T], text_T[kept_T]
        text_NT = np.broadcast_to(text_T.astype(np.int32), (values_TN.shape[1], len(text_T)))
        values = np.concatenate([self._values_NK, values_TN.T.astype(np.float32)], axis=1)
        texts = np.concatenate([self._text_NK, text_NT], axis=1)
        if (count := values.shape[1]) > self._most:
            highest = np.argpartition(values, count - self._most, axis=1)[:, -self._most :]
            values = np.take_along_axis(values, highest, axis=1)
            texts = np.take_along_axis(texts, highest, axis=1)
        self._values_NK, self._text_NK = values, texts

    def of(self, n: int) -> tuple[Floats, Ints]:
        order = np.argsort(-self._values_NK[n], kind="stable")
        return self._values_NK[n][order], self._text_NK[n][order]


@dataclass(frozen=True, slots=True)
class Tail:
    """The highest logits of one lens on a null corpus, highest first; all rates are of the whole corpus."""

    values_K: Floats
    text_K: Ints
    """[K] the text that each is of."""
    weight_X: Doubles
    """[X] what each text counts: its tokens, or 1."""

    @property
    def count(self) -> int:
        """Tokens or texts of the corpus."""
        return int(self.weight_X.sum())

    def of_texts(self, which_X: Bools) -> "Tail":
        """The same on some of the texts."""
        kept_K = which_X[self.text_K]
        return Tail(self.values_K[kept_K], self.text_K[kept_K], np.where(which_X, self.weight_X, 0.0))

    def threshold(self, rate: float) -> float:
        """The lowest logit above which at most this share lies: one of the corpus's own."""
        allowed = math.floor(rate * self.count + 1e-9)
        return float(self.values_K[min(allowed, len(self.values_K) - 1)])

    def share(self, threshold: float) -> float:
        """The share above."""
        return float((self.values_K > threshold).sum() / self.count)

    def rate(self, threshold: float) -> Estimate:
        """The share above, with its interval, clustered by text, symmetric in the logarithm.

        Where none is above, the upper end is what no event in so many texts leaves possible.
        """
        above, share = self.values_K > threshold, self.share(threshold)
        if not share:
            return Estimate(0.0, 0.0, NONE_SEEN / len(self.weight_X))
        spread = Z * math.sqrt(self._variance(self.text_K[above], share)) / share
        return Estimate(share, share * math.exp(-spread), min(1.0, share * math.exp(spread)))

    def interval(self, rate: float) -> tuple[float, float]:
        """The 95 % interval of `threshold(rate)`."""
        found = self.rate(self.threshold(rate))
        return self.threshold(found.high), self.threshold(found.low)

    def likeness(self, threshold: float) -> float:
        """How alike the tokens of a text are in lying above: 0 as tokens that came one by one, 1 all or none.

        For texts of unequal length, design effect = 1 + (sum t^2 / sum t - 1) likeness (Kish).
        """
        above = self.values_K > threshold
        share = float(above.sum() / self.count)
        size = float(np.square(self.weight_X).sum() / self.weight_X.sum())
        if not 0 < share < 1 or size <= 1:
            return 0.0
        effect = self._variance(self.text_K[above], share) / (share * (1 - share) / self.count)
        return min(1.0, max(0.0, (effect - 1) / (size - 1)))

    def excess(self, threshold: float) -> float | None:
        """By how much values above are above on average; None where none is."""
        above = self.values_K[self.values_K > threshold]
        return float(np.mean(above.astype(np.float64) - threshold)) if len(above) else None

    def _variance(self, text_A: Ints, share: float) -> float:
        above_X = np.bincount(text_A, minlength=len(self.weight_X))
        return ratio_variance(above_X, self.weight_X, share)


def ratio_variance(part_X: Any, whole_X: Doubles, ratio: float) -> float:
    """Variance of sum(part) / sum(whole), clustered by text."""
    texts = len(whole_X)
    if texts < 2:
        return 0.0
    residual_X = part_X - ratio * whole_X
    return float(np.square(residual_X).sum() / whole_X.sum() ** 2 * texts / (texts - 1))


def effective(weight_X: Doubles, likeness: float) -> float:
    """How many independent samples texts of these weights are worth."""
    size = float(np.square(weight_X).sum() / weight_X.sum())
    return float(weight_X.sum() / (1 + (size - 1) * likeness))


def predicted(rate: float, seen: float, coming: float) -> tuple[float, float]:
    """The 95 % interval of the rate among `coming` new samples above a threshold set at `rate` of `seen` others.

    The k-th highest of n leaves a share above it that is Beta(k, n - k + 1) whatever the distribution is; among new
    samples their number is then Beta-binomial. Samples that came in clusters are given as `effective` ones.
    """
    new = max(1, round(coming))
    a = max(rate * seen, 0.5)
    b = max(seen - a + 1, 1.0)
    k = np.arange(new, dtype=np.float64)
    steps = np.log((new - k) / (k + 1)) + np.log(k + a) - np.log(new - k - 1 + b)
    chances = np.concatenate([[0.0], np.cumsum(steps)])
    chances = np.exp(chances - chances.max())
    passed = np.cumsum(chances / chances.sum())
    low, high = np.searchsorted(passed, [0.025, 0.975])
    # From the middle between counts: a rate of tokens in clusters lies between those of whole samples.
    return max(0.0, (low - 0.5) / new), min(1.0, (high + 0.5) / new)


def null_metrics(null: Null, heads: Heads) -> list[dict[str, float]]:
    """What a concept's metrics say of its lens on a null corpus, in calibrated log-odds, rounded.

        null_tokens, null_texts                 the corpus
        null_token_1fpr, null_sequence_1fpr     thresholds at 1 % of its tokens and texts; `01fpr`: at 0.1 %
        ..._low, ..._high                       the 95 % interval of each
        ..._share                               what share of the corpus lies above it: the rate, unless many have the
                                                very same score there, as the first tokens of texts that begin alike
        null_token_likeness                     how alike tokens of a text are there, see `Tail.likeness`; at least the
                                                mean of all lenses
        null_excess                             s_n: mean excess above `null_token_1fpr`

    What the corpus is too small for is left out: a threshold wants three texts expected beyond it.
    """
    table = []
    for n in range(null.lenses):
        slope, offset = float(heads.platt_slope[n]), float(heads.platt_offset[n])
        metrics: dict[str, float] = {"null_tokens": null.tokens, "null_texts": null.texts}
        for level in LEVELS:
            tail = null.tail(level, n)
            for name, rate in RATES.items():
                if rate * null.texts < _BEYOND:
                    continue
                key, found = f"null_{level}_{name}", tail.threshold(rate)
                low, high = tail.interval(rate)
                metrics[f"{key}_share"] = _rounded(tail.share(found))
                metrics |= {
                    f"{key}{end}": _rounded_up(slope * logit + offset)
                    for end, logit in (("", found), ("_low", low), ("_high", high))
                }
                if level == TOKEN and name == "1fpr":
                    metrics["null_token_likeness"] = _rounded(tail.likeness(found))
                    if (excess := tail.excess(found)) is not None and slope * excess > 0:
                        metrics["null_excess"] = _rounded(slope * excess)
        table.append(metrics)
    # Few texts decide how alike a lens's tokens seem; one that seems luckier than the rest is not believed.
    alike = [metrics["null_token_likeness"] for metrics in table if "null_token_likeness" in metrics]
    for metrics in table:
        if "null_token_likeness" in metrics:
            metrics["null_token_likeness"] = _rounded(
                max(metrics["null_token_likeness"], float(np.mean(alike)))
            )
    return table


def _rounded_up(value: float) -> float:
    """To four digits after the point; down, a threshold could let the very value pass that it was set at."""
    return math.ceil(value * 1e4) / 1e4


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")
