"""Whether two runs of one task saw the same: exactly, or as far as the host agrees with itself in another batch shape.

    exactly      tokens, and the contents of all events, bit by bit
    nearly       tokens equal, unless the host's two best logits lie within TIE of each other where they part; up to
                 there the same concepts scored at each position, unless a probability lies within CUT of what decides
                 (the threshold, or the place beyond which families are cut); every logit within a tolerance, relative
                 to the largest logit of the event where that is above 1

What is let pass is counted. Anything else raises Differs: nothing that was timed can be used then.

Shapes: G tokens generated, N concepts scored.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from profiling.runs import Differs, Run, check_same

from lenses.pack import LensPack
from runtime.config import MonitorConfig
from runtime.events import Event

HOST_LOGIT, SCORED_LOGIT = 1e-4, 1e-5
"""Tolerances of a lens's logit: where the host differs in its last bits, and where its states are the same."""
CUT, TIE = 1e-4, 1e-3


@dataclass(frozen=True, slots=True)
class Seen:
    """What one run wrote and what was seen of it."""

    run: Run
    events: tuple[Event, ...] = ()
    """Empty where nobody watched."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two runs agree."""

    largest_difference: float = 0.0
    """Of the logits of lenses."""
    near_cuts: int = 0
    """Positions that opened other families, a probability being next to what decides."""
    near_ties: int = 0
    """1 where the texts part, the host's two best logits being nearly equal."""

    def and_also(self, other: "Agreement") -> "Agreement":
        """Of two pairs of runs together."""
        return Agreement(
            max(self.largest_difference, other.largest_difference),
            self.near_cuts + other.near_cuts,
            self.near_ties + other.near_ties,
        )


def agree_exactly(name: str, seen: Seen, reference: Seen) -> Agreement:
    """Raise Differs unless both wrote, and (where both were watched) saw, the same bits."""
    check_same(name, seen.run, reference.run)
    return Agreement()


def agree_nearly(
    name: str,
    seen: Seen,
    reference: Seen,
    *,
    config: MonitorConfig,
    tolerance: float,
    gap: Callable[[int], float],
) -> Agreement:
    """Raise Differs unless both agree but for what is counted; `gap(i)` is how far the host's two best logits lay
    apart where it chose token i of the reference."""
    apart = _parting(seen.run.token_ids, reference.run.token_ids)
    if apart is not None and gap(apart) >= TIE:
        raise Differs(
            f"{name}: token {apart} is {seen.run.token_ids[apart]}, the reference wrote "
            f"{reference.run.token_ids[apart]}, and the host's two best logits are {gap(apart):.3g} apart there"
        )
    if len(seen.events) != len(reference.events):
        raise Differs(f"{name}: {len(seen.events)} events, the reference has {len(reference.events)}")
    # The last rows before the texts part have read the same tokens; what follows them may differ.
    common = len(reference.events) - (0 if apart is None else len(reference.run.token_ids) - 1 - apart)
    found = Agreement(near_ties=int(apart is not None))
    for event, other in zip(seen.events[:common], reference.events[:common], strict=True):
        found = found.and_also(_agree(name, event, other, config, tolerance))
    return found


def largest_difference(events: Sequence[Event], reference: Sequence[Event]) -> float:
    """Of the logits of what was scored in both, position by position."""
    return max((_difference(a, b) for a, b in zip(events, reference, strict=True)), default=0.0)


def _parting(a: Sequence[int], b: Sequence[int]) -> int | None:
    """Where two texts part; None where they do not."""
    if len(a) != len(b):
        return min(len(a), len(b)) - 1
    return next((at for at, (one, other) in enumerate(zip(a, b, strict=True)) if one != other), None)


def _agree(name: str, event: Event, other: Event, config: MonitorConfig, tolerance: float) -> Agreement:
    place = f"{name}: position {event.position}"
    if (event.position, event.phase, event.token, event.state) != (
        *(other.position, other.phase, other.token, other.state),
    ):
        raise Differs(f"{place} is not the reference's position {other.position}")
    near_cut = False
    if not np.array_equal(event.scored, other.scored) or event.coverage != other.coverage:
        near_cut = is_near_a_cut(other, config) or is_near_a_cut(event, config)
        if not near_cut:
            raise Differs(
                f"{place} has {len(event.scored)} concepts scored, not the {len(other.scored)} of the reference, and "
                "no probability is next to what decides"
            )
    difference = _difference(event, other)
    scale = max(1.0, float(np.abs(other.logits).max(initial=0.0)))
    if difference > tolerance * scale:
        raise Differs(f"{place}: a logit is off by {difference:.3g}, {tolerance * scale:.3g} is tolerated")
    return Agreement(difference, int(near_cut))


def _difference(a: Event, b: Event) -> float:
    _, at_a, at_b = np.intersect1d(a.scored, b.scored, assume_unique=True, return_indices=True)
    return float(np.abs(a.logits[at_a] - b.logits[at_b]).max(initial=0.0))


def is_near_a_cut(event: Event, config: MonitorConfig) -> bool:
    """Whether a probability lies within CUT of what decides which families this position opened."""
    pack = event.pack
    threshold = pack.config.load_threshold if config.load_threshold is None else config.load_threshold
    top_k = pack.config.top_k if config.top_k is None else config.top_k
    for probabilities_N in _ranked_by_level(event, pack):
        if (np.abs(probabilities_N - threshold) < CUT).any():
            return True
        qualified_N = probabilities_N[probabilities_N >= threshold]
        if len(qualified_N) > top_k and qualified_N[top_k - 1] - qualified_N[top_k] < CUT:
            return True
    return False


def _ranked_by_level(event: Event, pack: LensPack) -> list[NDArray[np.float32]]:
    """Probabilities of the concepts with families, highest first, level by level."""
    hierarchy = pack.hierarchy
    parents = hierarchy.opens[event.scored] >= 0
    levels = hierarchy.levels[event.scored]
    return [
        np.sort(event.probabilities[parents & (levels == level)])[::-1]
        for level in np.unique(levels[parents])
    ]
