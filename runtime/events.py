"""What was seen at one position: the event, its two halves, and the queue that keeps the latest ones.

An event is *content* (what the lenses said: a function of the sequence's own states, the pack and the configuration)
plus a *run* (where families came from, how long it took: whatever happened that day). Two runs agree when their
contents agree. Knows nothing about how an event came about.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lenses.calibration import log_odds, probability
from lenses.concept import Concept
from lenses.grade import grade
from lenses.pack import LensPack
from runtime.notebook import event_html, run_html
from runtime.rules import Met

Phase = Literal["prompt", "generation"]
State = Literal["ok", "bos", "non_finite", "after_end"]
"""ok: scored · bos: the sequence's first token, never scored · non_finite: the row was not finite · after_end: fed
to a sequence that had ended."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of what was to be scored at a position was: expected = scored + pending + failed, in lenses."""

    expected: int
    scored: int
    pending: int
    failed: int
    cut: int
    """Families that qualified for opening but were beyond `top_k`."""

    def __post_init__(self) -> None:
        assert self.expected == self.scored + self.pending + self.failed, self


@dataclass(frozen=True, slots=True)
class Run:
    """Where the families of one event came from and what it took; never part of a comparison."""

    hot: int
    warm: int
    cold: int
    step_ms: float
    """Milliseconds of lens work that gave this event: of each piece of work, the same share as all its rows had."""
    revision: int = 0
    """1 for the complete event of a position that had one before, at revision 0 and with families `pending`."""


@dataclass(frozen=True, slots=True)
class Score:
    """One concept as it was scored at one position."""

    concept: Concept
    logit: float
    probability: float
    calibrated: bool
    vouched: bool
    """Whether its lens is calibrated and was measured: see `LensPack.vouched_N`."""

    @property
    def id(self) -> str:
        """The concept's id."""
        return self.concept.id

    @property
    def grade(self) -> str:
        """How good its lens was measured to be: a letter, or `unmeasured`; see `lenses.grade`."""
        return grade(self.concept.metrics)

    def __str__(self) -> str:
        return f"{self.concept.id} {self.probability:.2f}"


@dataclass(frozen=True, eq=False)
class Event:
    """What the lenses saw at one position of one sequence; equal to itself alone, see `same_content`."""

    sequence: int
    """Counts the sequences that the monitor has met, from 0."""
    position: int
    """Counts the sequence's own tokens from 0, padding left out."""
    phase: Phase
    """Whether the row read a token of the prompt or one that was generated."""
    token: int
    """The token that the row has read."""
    next_token: int | None
    """The token that followed; None where the sequence stopped before one did."""
    state: State
    scored: NDArray[np.int32]
    """Indices of the concepts scored, ascending."""
    logits: NDArray[np.float32]
    """Their logits, in the same order."""
    coverage: Coverage
    failed: tuple[str, ...]
    """Parents whose families could not be read, by id; a level-0 family that failed would be ''."""
    run: Run
    pack: LensPack = field(repr=False)
    asked: tuple[Score, ...] = ()
    """The concepts that rules and `always` ask for, scored at every position, whether they are in `scored` or not."""
    met: tuple[Met, ...] = ()
    """The rules that are met here."""

    @cached_property
    def probabilities(self) -> NDArray[np.float32]:
        """Calibrated probabilities at a class prior of 1/2, in the order of `scored`."""
        heads = self.pack.heads
        return probability(self.logits, heads.platt_slope[self.scored], heads.platt_offset[self.scored])

    @cached_property
    def _ranking(self) -> NDArray[np.int_]:
        # Log-odds rank as probabilities do, without the ties that fp32 makes of everything near 1.
        heads = self.pack.heads
        odds = log_odds(self.logits, heads.platt_slope[self.scored], heads.platt_offset[self.scored])
        return np.lexsort((self.pack.hierarchy.id_rank[self.scored], -odds))

    def ranked(self) -> Iterator[Score]:
        """All concepts scored, highest calibrated probability first, ties by concept id."""
        return map(self._score, self._ranking)

    def top(self, n: int) -> list[Score]:
        """The first n of `ranked`."""
        return list(islice(self.ranked(), n))

    def leaves(self, n: int) -> list[Score]:
        """Like `top`, without concepts that have a scored child at least as probable: the most specific ones."""
        by_index = dict(zip(self.scored.tolist(), self.probabilities.tolist(), strict=True))
        hierarchy = self.pack.hierarchy
        covered = set()
        for index, p in by_index.items():
            parent = int(hierarchy.parents[index])
            if p >= by_index.get(parent, 2.0):
                covered.add(parent)
        kept = [at for at in self._ranking if int(self.scored[at]) not in covered]
        return [self._score(at) for at in kept[:n]]

    def score_of(self, concept_id: str) -> Score | None:
        """This concept's score; None where it was not scored, which is not a score of zero.

        Raises ConceptNotFound.
        """
        wanted = np.int32(self.pack.hierarchy.index(concept_id))  # of the same type, or all are copied
        at = int(np.searchsorted(self.scored, wanted))
        return self._score(at) if at < len(self.scored) and self.scored[at] == wanted else None

    @property
    def stopped_by(self) -> tuple[Met, ...]:
        """The rules because of which generation ends with `next_token`; most often none."""
        return tuple(met for met in self.met if met.stops)

    def path(self, concept_id: str) -> list[Score]:
        """The scored concepts from level 0 down to this one; empty where it was not scored itself."""
        wanted = self.pack.hierarchy.index(concept_id)
        positions = {int(index): at for at, index in enumerate(self.scored)}
        if wanted not in positions:
            return []
        return [self._score(positions[i]) for i in self.pack.hierarchy.path(wanted) if i in positions]

    def same_content(self, other: "Event") -> bool:
        """Whether the other event says exactly the same, run aside."""
        return self.content() == other.content()

    def content(self) -> tuple[object, ...]:
        """Everything but the run, as one comparable value."""
        return (
            self.sequence,
            self.position,
            self.phase,
            self.token,
            self.next_token,
            self.state,
            self.scored.tobytes(),
            self.logits.tobytes(),
            self.coverage,
            self.failed,
            tuple((score.id, score.logit) for score in self.asked),
            self.met,
        )

    def to_json(self, show: int) -> dict[str, object]:
        """The event as one JSON object with its `show` strongest concepts."""
        return {
            "sequence": self.sequence,
            "position": self.position,
            "phase": self.phase,
            "token": self.token,
            "next_token": self.next_token,
            "state": self.state,
            "top": [
                {
                    "id": score.concept.id,
                    "name": score.concept.name,
                    "level": score.concept.level,
                    "logit": round(score.logit, 5),
                    "probability": round(score.probability, 6),
                    "calibrated": score.calibrated,
                    "grade": score.grade,
                }
                for score in self.top(show)
            ],
            "scored": len(self.scored),
            "coverage": {
                "expected": self.coverage.expected,
                "scored": self.coverage.scored,
                "pending": self.coverage.pending,
                "failed": self.coverage.failed,
                "cut": self.coverage.cut,
            }
            | ({"failed_families": list(self.failed)} if self.failed else {}),
            **({"rules": [met.to_json() for met in self.met]} if self.met else {}),
            "run": {
                "hot": self.run.hot,
                "warm": self.run.warm,
                "cold": self.run.cold,
                "ms": round(self.run.step_ms, 4),
                "revision": self.run.revision,
            },
        }

    def _repr_html_(self) -> str:
        """What a notebook shows for an event: its strongest concepts, see `runtime.notebook`."""
        return event_html(self)

    def _score(self, at: int) -> Score:
        index = int(self.scored[at])
        return Score(
            self.pack.hierarchy.concepts[index],
            float(self.logits[at]),
            float(self.probabilities[at]),
            bool(self.pack.heads.calibrated[index]),
            bool(self.pack.vouched_N[index]),
        )


def scores_of(pack: LensPack, concepts: NDArray[np.int32], logits: NDArray[np.float32]) -> tuple[Score, ...]:
    """Concepts and their logits as scores, in the same order."""
    heads, all_concepts = pack.heads, pack.hierarchy.concepts
    p = probability(logits, heads.platt_slope[concepts], heads.platt_offset[concepts])
    return tuple(
        Score(all_concepts[index], logit, of, bool(heads.calibrated[index]), bool(pack.vouched_N[index]))
        for index, logit, of in zip(concepts.tolist(), logits.tolist(), p.tolist(), strict=True)
    )


class EventQueue:
    """The latest events, at most `capacity`, one a position; older ones fall out and are counted.

    Iterating does not consume. A later revision of an event takes the place of the earlier one.
    """

    def __init__(self, capacity: int) -> None:
        self._events: deque[Event] = deque(maxlen=capacity)
        self.dropped = 0
        """Events that fell out because the queue was full."""
        self.tokenizer: Any | None = None
        """What a notebook decodes the tokens with, when it shows the queue; set by who knows it."""

    def append(self, event: Event) -> None:
        """Add an event, the oldest falling out when the queue is full, or put it in its earlier revision's place.

        Where that has fallen out, so does this one.
        """
        if event.run.revision:
            place = event.sequence, event.position
            for back in range(1, len(self._events) + 1):  # from the newest on: revisions follow soon
                if (self._events[-back].sequence, self._events[-back].position) == place:
                    self._events[-back] = event
                    return
            return
        if len(self._events) == self._events.maxlen:
            self.dropped += 1
        self._events.append(event)

    def clear(self) -> None:
        """Forget all events and the count of dropped ones."""
        self._events.clear()
        self.dropped = 0

    def __iter__(self) -> Iterator[Event]:
        return iter(tuple(self._events))

    def __len__(self) -> int:
        return len(self._events)

    def __getitem__(self, index: int) -> Event:
        return self._events[index]

    def _repr_html_(self) -> str:
        """What a notebook shows for a run: its text, tinted, see `runtime.notebook`."""
        return run_html(self)


Sink = Callable[[Event], None]
"""Takes every event as it is emitted: of a position that had to wait for families two, at revision 0 and 1.

Where nothing waits, events are in order; events at revision 1 are in order of position within their sequence."""


def newest(events: Iterable[Event]) -> list[Event]:
    """One event a position, the one that came last, in the order in which positions came first."""
    return list({(event.sequence, event.position): event for event in events}.values())


def differing(a: Sequence[Event], b: Sequence[Event]) -> list[int]:
    """Where two runs part: places in the lists at which contents differ, or one of the lists has ended."""
    common = min(len(a), len(b))
    odd = [i for i in range(common) if not a[i].same_content(b[i])]
    return odd + list(range(common, max(len(a), len(b))))
