"""What a monitor said, as arrays: a column for each number of an event, scores one after the other with offsets.

Every emitted event is there, of a position that had to wait for families both revisions, so that a replay shows what
was shown. Concepts are numbered within the recording and stand with their ids, names and calibration: two recordings
can be compared without the packs. Logits are the fp32 numbers that they were.

Shapes: E events, S scores of all of them, C concepts scored by any, A concepts that rules and `always` ask for, M rules
met over all events.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lenses.calibration import probability
from lenses.lens import Floats
from lenses.pack import LensPack
from runtime.events import Coverage, Event, Phase, Run, Score, State, scores_of
from runtime.monitor import Monitor
from runtime.rules import Met, Rule

PHASES: tuple[Phase, ...] = ("prompt", "generation")
STATES: tuple[State, ...] = ("ok", "bos", "non_finite", "after_end")
NO_TOKEN = -1

_COLUMNS = (
    *("sequence", "position", "phase", "token", "next_token", "state"),
    *("expected", "scored", "pending", "failed", "cut", "hot", "warm", "cold", "revision"),
)
_MOST = {"phase": len(PHASES) - 1, "state": len(STATES) - 1, "revision": 1}
"""The largest value of a column that names something; counts may be anything from 0 (`next_token` from -1)."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """The events of a run; `events` makes them of it."""

    events: Mapping[str, NDArray[np.int64]]
    """[E] of each of `_COLUMNS`."""
    lens_ms_E: NDArray[np.float64]
    at_ms_E: NDArray[np.float64]
    """Milliseconds from the beginning of the run to when the event was emitted."""
    begin_E: NDArray[np.int64]
    """[E + 1] where the scores of each event begin; the last is S."""
    concept_S: NDArray[np.int32]
    """Numbers of the concepts scored, ascending within an event."""
    logit_S: Floats
    has_asked_E: NDArray[np.bool_]
    asked_EA: Floats
    """Logits of the concepts that were asked for, 0 where `has_asked_E` is false."""
    met_M: NDArray[np.int64]
    """[M, 4] event, rule, positions in a row, and 1 where generation ends because of it; ordered by event."""
    slope_C: Floats
    offset_C: Floats
    concepts: tuple[tuple[str, str], ...]
    """[C] id and name."""
    asked: tuple[str, ...]
    """[A] ids."""
    failed: Mapping[str, tuple[str, ...]]
    """Parents whose families could not be read, by the number of the event as a text."""

    @classmethod
    def of(cls, monitor: Monitor, events: Sequence[Event], at_ms: Sequence[float]) -> Self:
        """The arrays of a monitor's events in the order of emission, each at its time."""
        pack, rules = monitor.pack, monitor.config.rules
        asked = [pack.hierarchy.concepts[index].id for index in monitor.engine.asked]
        number_N, concepts = _number([event.scored for event in events], len(pack.hierarchy))
        heads, all_concepts = pack.heads, pack.hierarchy.concepts
        met = [
            (number, rules.index(met.rule), met.run, int(met.stops))
            for number, event in enumerate(events)
            for met in event.met
        ]
        return cls(
            {name: np.array([_column(name, event) for event in events], np.int64) for name in _COLUMNS},
            np.array([event.run.step_ms for event in events], np.float64),
            np.array(at_ms, np.float64),
            np.cumsum([0, *(len(event.scored) for event in events)], dtype=np.int64),
            number_N[_joined([event.scored for event in events], np.int32)],
            _joined([event.logits for event in events], np.float32),
            np.array([bool(event.asked) for event in events], np.bool_),
            np.array(
                [[s.logit for s in event.asked] or [0.0] * len(asked) for event in events], np.float32
            ).reshape(len(events), len(asked)),
            np.array(met, np.int64).reshape(-1, 4),
            heads.platt_slope[concepts],
            heads.platt_offset[concepts],
            tuple((all_concepts[index].id, all_concepts[index].name) for index in concepts),
            tuple(asked),
            {str(number): event.failed for number, event in enumerate(events) if event.failed},
        )

    def __len__(self) -> int:
        return len(self.lens_ms_E)

    def made(self, pack: LensPack, rules: Sequence[Rule]) -> list[Event]:
        """The events themselves, of the pack that scored them; raises ConceptNotFound for another."""
        index_C = np.array([pack.hierarchy.index(id) for id, _ in self.concepts], np.int32)
        asked_A = np.array([pack.hierarchy.index(id) for id in self.asked], np.int32)
        asked_at = [self.asked.index(rule.concept) for rule in rules]
        met_of: dict[int, list[tuple[int, int, int]]] = {}
        for event, rule, run, stops in self.met_M.tolist():
            met_of.setdefault(event, []).append((rule, run, stops))
        columns = {name: column.tolist() for name, column in self.events.items()}
        made = []
        for number in range(len(self)):
            one = {name: column[number] for name, column in columns.items()}
            asked = scores_of(pack, asked_A, self.asked_EA[number]) if self.has_asked_E[number] else ()
            met = tuple(
                Met(rules[rule], run, asked[asked_at[rule]].probability, bool(stops))
                for rule, run, stops in met_of.get(number, ())
            )
            made.append(self._event(number, one, pack, index_C, asked, met))
        return made

    def _event(
        self,
        number: int,
        one: Mapping[str, int],
        pack: LensPack,
        index_C: NDArray[np.int32],
        asked: tuple[Score, ...],
        met: tuple[Met, ...],
    ) -> Event:
        scores = self.scores(number)
        return Event(
            sequence=one["sequence"],
            position=one["position"],
            phase=PHASES[one["phase"]],
            token=one["token"],
            next_token=None if one["next_token"] == NO_TOKEN else one["next_token"],
            state=STATES[one["state"]],
            scored=index_C[self.concept_S[scores]],
            logits=self.logit_S[scores],
            coverage=Coverage(*(one[name] for name in ("expected", "scored", "pending", "failed", "cut"))),
            failed=self.failed.get(str(number), ()),
            run=Run(one["hot"], one["warm"], one["cold"], float(self.lens_ms_E[number]), one["revision"]),
            pack=pack,
            asked=asked,
            met=met,
        )

    def scores(self, event: int) -> slice:
        """Where the scores of one event are in `concept_S` and `logit_S`."""
        return slice(int(self.begin_E[event]), int(self.begin_E[event + 1]))

    def probabilities(self, event: int) -> Floats:
        """The calibrated probabilities of one event's scores."""
        of = self.concept_S[self.scores(event)]
        return probability(self.logit_S[self.scores(event)], self.slope_C[of], self.offset_C[of])

    def newest(self) -> dict[tuple[int, int], int]:
        """The number of the event that speaks for each sequence and position: of two revisions the later one."""
        places = zip(self.events["sequence"].tolist(), self.events["position"].tolist(), strict=True)
        return {place: number for number, place in enumerate(places)}

    # To and from a file.

    def tensors(self) -> dict[str, Array]:
        """Everything that is an array, by name."""
        return {
            **{f"event.{name}": column for name, column in self.events.items()},
            "event.lens_ms": self.lens_ms_E,
            "event.at_ms": self.at_ms_E,
            "event.has_asked": self.has_asked_E.astype(np.uint8),
            "score.begin": self.begin_E,
            "score.concept": self.concept_S,
            "score.logit": self.logit_S,
            "asked.logit": self.asked_EA,
            "met": self.met_M,
            "concept.slope": self.slope_C,
            "concept.offset": self.offset_C,
        }

    def texts(self) -> dict[str, Any]:
        """Everything else, ready for JSON."""
        return {
            "concepts": [list(concept) for concept in self.concepts],
            "asked": list(self.asked),
            "failed": {number: list(ids) for number, ids in self.failed.items()},
        }

    @classmethod
    def read(cls, tensors: Mapping[str, Array], texts: "Texts", rules: Sequence[Rule]) -> Self:
        """Of what a file holds, the types of which were looked at; raises ValueError for what cannot be."""
        seen = cls(
            {name: tensors[f"event.{name}"] for name in _COLUMNS},
            tensors["event.lens_ms"],
            tensors["event.at_ms"],
            tensors["score.begin"],
            tensors["score.concept"],
            tensors["score.logit"],
            tensors["event.has_asked"].astype(np.bool_),
            tensors["asked.logit"],
            tensors["met"],
            tensors["concept.slope"],
            tensors["concept.offset"],
            texts.concepts,
            texts.asked,
            texts.failed,
        )
        seen._check(rules)
        return seen

    def _check(self, rules: Sequence[Rule]) -> None:
        count, scores, concepts, columns = len(self), len(self.logit_S), len(self.concepts), self.events
        _require(all(column.shape == (count,) for column in columns.values()), "its events have gaps")
        _require(self.at_ms_E.shape == self.has_asked_E.shape == (count,), "its events have gaps")
        for name, column in columns.items():
            least = NO_TOKEN if name == "next_token" else 0
            _require(_within(column, least, _MOST.get(name)), f"an event has a {name} that cannot be")
        parts = columns["scored"] + columns["pending"] + columns["failed"]
        _require(np.array_equal(columns["expected"], parts), "lenses of an event do not add up")
        _require(np.isfinite([*self.lens_ms_E, *self.at_ms_E]).all(), "an event has a time that cannot be")
        begin_E, concept_S = self.begin_E, self.concept_S
        _require(
            begin_E.shape == (count + 1,)
            and begin_E[0] == 0
            and begin_E[-1] == scores
            and _within(np.diff(begin_E), 0),
            "its scores do not begin and end where events do",
        )
        _require(
            concept_S.shape == (scores,) and _within(concept_S, 0, concepts - 1),
            "a score is of no concept of it",
        )
        inside = np.ones(max(0, scores - 1), np.bool_)
        inside[begin_E[(begin_E > 0) & (begin_E < scores)] - 1] = False
        _require(bool((np.diff(concept_S)[inside] > 0).all()), "the scores of an event are not in order")
        _require(
            self.slope_C.shape == self.offset_C.shape == (concepts,),
            "its concepts and their calibration differ",
        )
        _require(len(dict(self.concepts)) == concepts, "a concept stands twice in it")
        _require(self.asked_EA.shape == (count, len(self.asked)), "what was asked for is not there")
        _require({rule.concept for rule in rules} <= set(self.asked), "a rule's concept was not asked for")
        _require(not self.has_asked_E.any() or bool(self.asked), "an event has what nobody asked for")
        met_M = self.met_M
        _require(met_M.ndim == 2 and met_M.shape[1] == 4, "its rules met are no table")
        event, rule, run, stops = met_M.T
        _require(
            _within(event, 0, count - 1)
            and _within(rule, 0, len(rules) - 1)
            and _within(run, 1)
            and _within(stops, 0, 1),
            "a rule is met that cannot be",
        )
        _require(bool(self.has_asked_E[event].all()), "a rule is met where its concept was not scored")
        _require(
            all(number.isdecimal() and int(number) < count for number in self.failed), "no event failed there"
        )


@dataclass(frozen=True, slots=True)
class Texts:
    """What of `Seen` is no array, as it stands in a file."""

    concepts: tuple[tuple[str, str], ...]
    asked: tuple[str, ...]
    failed: Mapping[str, tuple[str, ...]]


def _column(name: str, event: Event) -> int:
    match name:
        case "phase":
            return PHASES.index(event.phase)
        case "state":
            return STATES.index(event.state)
        case "next_token":
            return NO_TOKEN if event.next_token is None else event.next_token
        case "expected" | "scored" | "pending" | "failed" | "cut":
            return int(getattr(event.coverage, name))
        case "hot" | "warm" | "cold" | "revision":
            return int(getattr(event.run, name))
    return int(getattr(event, name))


def _number(scored: Sequence[NDArray[np.int32]], count: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """[N] the recording's number of each concept of the pack that was scored, and [C] the other way about."""
    mask_N = np.zeros(count, np.bool_)
    for concepts in scored:
        mask_N[concepts] = True
    return np.cumsum(mask_N, dtype=np.int32) - 1, np.flatnonzero(mask_N).astype(np.int32)


def _joined(parts: Sequence[Array], dtype: Any) -> Array:
    return np.concatenate([np.empty(0, dtype), *parts])  # concatenating nothing is an error


def _within(values: Array, least: int, most: int | None = None) -> bool:
    return bool((values >= least).all()) and (most is None or bool((values <= most).all()))


def _require(holds: bool | np.bool_, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)
