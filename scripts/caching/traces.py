"""What a walk asks the cache for, position by position: the trace that is replayed.

The walk is followed with `Expansion.choose` on logits of everything, in the order in which the engine asks: all
positions of a prompt together, then one position at a time; a call a level, its families most wanted first
(`runtime.engine.wanted_by`). Knows nothing about tiers or eviction.

Shapes: P positions, N concepts, F families.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lenses.concept import Hierarchy
from lenses.lens import Floats, Heads
from runtime.engine import wanted_by
from runtime.events import Phase
from runtime.expansion import Choice, Expansion


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked of the cache at once: the families of one level that some positions want, in order."""

    level: int
    families: tuple[int, ...]
    counts: tuple[int, ...]
    """How many positions each family serves: so many requests, of which only the first can miss."""
    odds: tuple[float, ...]
    """The calibrated log-odds of each family's parent, the strongest of the positions."""


@dataclass(frozen=True, slots=True)
class Step:
    """One walk: a whole prompt, or one position of generation."""

    session: int
    phase: Phase
    calls: tuple[Call, ...]
    near: tuple[int, ...] = ()
    """Families that the last position nearly opened and none did, nearest first (see `Margin`)."""


@dataclass(frozen=True, slots=True)
class Margin:
    """How near is a near miss: what the walk would have opened with this width and threshold, and did not."""

    top_k: int
    load_threshold: float


class Walker:
    """Follows the walk of one configuration; with a margin, near misses are noted too."""

    def __init__(
        self,
        hierarchy: Hierarchy,
        heads: Heads,
        base_levels: Sequence[int],
        *,
        top_k: int,
        load_threshold: float,
        margin: Margin | None = None,
    ) -> None:
        deepest = hierarchy.depth - 1
        self._policy = Expansion(hierarchy, heads, top_k, load_threshold, deepest)
        self._wider = (
            None
            if margin is None
            else replace(self._policy, top_k=margin.top_k, load_threshold=margin.load_threshold)
        )
        self._levels = [family.level for family in hierarchy.families]
        self._members = [
            np.arange(family.first, family.first + family.rows, dtype=np.int32)
            for family in hierarchy.families
        ]
        base = hierarchy.base_families(base_levels)
        base_ids = np.concatenate([self._members[family] for family in base])
        opens = hierarchy.opens[base_ids]
        self._frontier: NDArray[np.int32] = base_ids[(opens >= 0) & ~np.isin(opens, base)]

    def steps(self, session: int, prompt: int, logits_PN: Floats) -> Iterator[Step]:
        """The steps of one session: its prompt, then each position after it."""
        if prompt:
            yield self._step(session, "prompt", logits_PN[:prompt])
        for position in range(prompt, len(logits_PN)):
            yield self._step(session, "generation", logits_PN[position : position + 1])

    def _step(self, session: int, phase: Phase, logits_PN: Floats) -> Step:
        calls: list[Call] = []
        near: dict[int, float] = {}
        frontiers = [self._frontier for _ in logits_PN]
        while True:
            choices = [
                self._policy.choose(frontier, logits_N[frontier]) if len(frontier) else Choice((), (), 0)
                for frontier, logits_N in zip(frontiers, logits_PN, strict=True)
            ]
            if self._wider is not None and len(frontiers[-1]):
                wider = self._wider.choose(frontiers[-1], logits_PN[-1][frontiers[-1]])
                near |= zip(wider.families, wider.odds, strict=True)
            wanted = wanted_by(choices)
            if not wanted:
                break
            strongest: dict[int, float] = {}
            for choice in choices:
                for family, odds in zip(choice.families, choice.odds, strict=True):
                    strongest[family] = max(odds, strongest.get(family, odds))
            calls.append(
                Call(
                    self._levels[next(iter(wanted))],
                    tuple(wanted),
                    tuple(len(positions) for positions in wanted.values()),
                    tuple(strongest[family] for family in wanted),
                )
            )
            frontiers = [
                np.concatenate([self._members[family] for family in choice.families])
                if choice.families
                else self._frontier[:0]
                for choice in choices
            ]
        opened = {family for call in calls for family in call.families}
        nearest = sorted(near.keys() - opened, key=lambda family: (-near[family], family))
        return Step(session, phase, tuple(calls), tuple(nearest))


def flat(steps: Sequence[Step]) -> list[tuple[Phase, Call]]:
    """All calls in order, each with its phase."""
    return [(step.phase, call) for step in steps for call in step.calls]
