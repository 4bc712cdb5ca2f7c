"""What the walk down the hierarchy misses, against scoring everything.

Every lens is scored at every position once; the walk is then followed on those logits with `Expansion.choose`, the
very policy that the engine asks, for as many settings as wanted: their points are the curve. `Walked.of_engine` is
what the real engine did, to hold a walk against; `omniscient_recall` is what no policy can exceed. It knows logits and
the policy, nothing about texts.

Shapes: P positions, N concepts.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lenses.calibration import log_odds, threshold_log_odds
from lenses.concept import Hierarchy
from lenses.lens import Floats, Heads
from lenses.metrics import Bools, Estimate, Ints
from runtime.expansion import Expansion
from runtime.walk import Scores

LEAST_RECALL = 0.90
"""Of what a walk at a pack's own settings must find."""


@dataclass(frozen=True, slots=True)
class Walked:
    """What the walk did at every position."""

    scored_PN: Bools
    opened_P: NDArray[np.int64]
    """[P] families opened beyond the base."""
    cut_P: NDArray[np.int64]
    """[P] families that qualified but were beyond `top_k`."""

    @classmethod
    def of_engine(cls, scores: Sequence[Scores], base: int, lenses: int) -> "Walked":
        """What the engine did; `base` lenses are scored in its first call."""
        scored_PN = np.zeros((len(scores), lenses), np.bool_)
        for position, scored in enumerate(scores):
            scored_PN[position, scored.ordered()[0]] = True
        # The base comes as one piece, every family opened as one more.
        assert all(len(scored.concepts[0]) == base for scored in scores)
        opened_P = np.array([len(scored.concepts) - 1 for scored in scores])
        return cls(scored_PN, opened_P, np.array([scored.cut for scored in scores]))

    def differing(self, other: "Walked") -> int:
        """At how many positions the two scored other lenses or cut more families."""
        same_P = (self.scored_PN == other.scored_PN).all(axis=1) & (self.cut_P == other.cut_P)
        return int((~same_P).sum())


def walk(expansion: Expansion, base_levels: Sequence[int], logits_PN: Floats) -> Walked:
    """Follow the engine's walk at every position, on logits of everything."""
    hierarchy = expansion.hierarchy
    base = set(hierarchy.base_families(base_levels))
    members = [
        np.arange(family.first, family.first + family.rows, dtype=np.int32) for family in hierarchy.families
    ]
    base_ids = np.concatenate([members[family] for family in sorted(base)])
    opens = hierarchy.opens[base_ids]
    frontier = base_ids[(opens >= 0) & ~np.isin(opens, list(base))]
    scored_PN = np.zeros(logits_PN.shape, np.bool_)
    scored_PN[:, base_ids] = True
    opened_P, cut_P = np.zeros((2, len(logits_PN)), np.int64)
    for position, logits_N in enumerate(logits_PN):
        choice = expansion.choose(frontier, logits_N[frontier])
        cut_P[position] += choice.cut
        while choice.families:
            opened_P[position] += len(choice.families)
            children = np.concatenate([members[family] for family in choice.families])
            scored_PN[position, children] = True
            choice = expansion.choose(children, logits_N[children])
            cut_P[position] += choice.cut
    return Walked(scored_PN, opened_P, cut_P)


@dataclass(frozen=True, slots=True)
class Recall:
    """How many of the concepts that are active the walk has scored."""

    wanted: int
    """(position, concept) pairs: concepts beyond the base whose probability, everything scored, is 1/2 or more."""
    found: int
    estimate: Estimate | None
    """found / wanted, with what drawing texts anew says of it; None where nothing was wanted."""

    @property
    def value(self) -> float:
        """found / wanted; 1 where nothing was wanted."""
        return self.found / self.wanted if self.wanted else 1.0

    def record(self) -> dict[str, object]:
        """As it goes into a report."""
        return {"wanted": self.wanted, "found": self.found, "recall": self.estimate}


def active(
    hierarchy: Hierarchy,
    heads: Heads,
    base_levels: Sequence[int],
    logits_PN: Floats,
    probability: float = 0.5,
) -> Bools:
    """[P, N] the concepts that the walk should find: beyond the base, with that probability or more."""
    odds_PN = log_odds(logits_PN, heads.platt_slope, heads.platt_offset)
    beyond: Bools = hierarchy.levels >= len(base_levels)
    return np.asarray(beyond & (odds_PN >= threshold_log_odds(probability)))


def recall(
    active_PN: Bools, scored_PN: Bools, text_P: Ints, rng: np.random.Generator, *, draws: int = 500
) -> Recall:
    """Recall over all positions."""
    wanted_P, found_P = active_PN.sum(axis=1), (active_PN & scored_PN).sum(axis=1)
    if not (wanted := int(wanted_P.sum())):
        return Recall(0, 0, None)
    return Recall(wanted, int(found_P.sum()), ratio(found_P, wanted_P, text_P, rng, draws=draws))


def ratio(
    part_P: Ints, whole_P: Ints, text_P: Ints, rng: np.random.Generator, *, draws: int = 500
) -> Estimate:
    """Sum of the parts over sum of the wholes, with an interval from drawing texts anew."""
    _, text = np.unique(text_P, return_inverse=True)
    part_X, whole_X = np.bincount(text, weights=part_P), np.bincount(text, weights=whole_P)
    weight_RX = rng.multinomial(len(whole_X), np.full(len(whole_X), 1 / len(whole_X)), size=draws)
    low, high = np.quantile(weight_RX @ part_X / np.maximum(weight_RX @ whole_X, 1), [0.025, 0.975])
    return Estimate(float(part_X.sum() / whole_X.sum()), float(low), float(high))


@dataclass(frozen=True, slots=True)
class Point:
    """A setting of the walk, and what it finds at what cost, a position on average."""

    base_levels: tuple[int, ...]
    top_k: int
    load_threshold: float
    recall: float
    share_scored: float
    families_opened: float


def curve(
    hierarchy: Hierarchy,
    heads: Heads,
    logits_PN: Floats,
    bases: Iterable[tuple[int, ...]],
    widths: Iterable[int],
    thresholds: Iterable[float],
) -> Iterator[Point]:
    """A point for every base, `top_k` and `load_threshold`, walked to the deepest level."""
    settings = list(itertools.product(widths, thresholds))
    for base_levels in bases:
        wanted_PN = active(hierarchy, heads, base_levels, logits_PN)
        wanted = max(1, int(wanted_PN.sum()))
        for top_k, threshold in settings:
            policy = Expansion(hierarchy, heads, top_k, threshold, hierarchy.depth - 1)
            walked = walk(policy, base_levels, logits_PN)
            yield Point(
                base_levels,
                top_k,
                threshold,
                int((wanted_PN & walked.scored_PN).sum()) / wanted,
                float(walked.scored_PN.mean()),
                float(walked.opened_P.mean()),
            )


def best_within(most_scored: float, points: Iterable[Point]) -> Point:
    """The point that finds most among those that score at most that share; the cheapest where none does."""
    points = list(points)
    affordable = [point for point in points if point.share_scored <= most_scored]
    return max(affordable, key=_most_found) if affordable else min(points, key=_cost)


def cheapest_with(least_recall: float, points: Iterable[Point]) -> Point:
    """The point that scores least among those of at least that recall; the one that finds most where none has it."""
    points = list(points)
    enough = [point for point in points if point.recall >= least_recall]
    return min(enough, key=_cost) if enough else max(points, key=_most_found)


def _cost(point: Point) -> float:
    return point.share_scored


def _most_found(point: Point) -> tuple[float, float]:
    return point.recall, -point.share_scored


def omniscient_recall(
    hierarchy: Hierarchy, base_levels: Sequence[int], active_PN: Bools, share_scored: float
) -> float:
    """Recall of a chooser that knows every score beforehand and scores that share of all lenses: no policy has more.

    It takes the base, then family by family, at whichever position has most active concepts a lens; that a family's
    parent must be scored first does not bind it. The last family is taken in part: a bound, not a walk.
    """
    members = [family for family in hierarchy.families if family.level >= len(base_levels)]
    budget = share_scored * active_PN.size - len(active_PN) * (len(hierarchy) - sum(f.rows for f in members))
    if budget <= 0 or not active_PN.any():
        return 0.0
    rows_F = np.array([family.rows for family in members])
    active_PF = np.stack(
        [active_PN[:, family.first : family.first + family.rows].sum(axis=1) for family in members], axis=1
    )
    order = np.argsort(-(active_PF / rows_F), axis=None)
    spent = np.cumsum(np.broadcast_to(rows_F, active_PF.shape).ravel()[order])
    found = np.cumsum(active_PF.ravel()[order])
    return float(np.interp(budget, spent, found) / found[-1])
