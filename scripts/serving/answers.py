"""What one answer said, token by token, and whether two answers say the same by the rules of the design.

    tokens    equal
    entries   one a position: the same position, phase, state and coverage; concepts that both name have probabilities
              within 1e-4, and a concept that only one names lies that near to the other's last one; where coverage
              differs, a probability lies within 1e-4 of what decides (that is counted)

Anything else is a difference: what was timed is void, and counted.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ledgers.agreement import CUT, is_near_a_cut
from profiling.runs import Differs

from runtime.config import MonitorConfig
from runtime.events import Event

COVERAGE = ("expected", "scored", "pending", "failed", "cut")


@dataclass(frozen=True, slots=True)
class Entry:
    """What was told of one position."""

    position: int
    phase: str
    state: str
    top: tuple[tuple[str, float], ...]
    """Concepts and probabilities, best first."""
    coverage: tuple[int, ...]

    @classmethod
    def of_json(cls, told: Mapping[str, Any]) -> "Entry":
        """As servers send it."""
        top = tuple((one["id"], float(one["probability"])) for one in told["top"])
        coverage = tuple(int(told["coverage"][name]) for name in COVERAGE)
        return cls(told["position"], told["phase"], told["state"], top, coverage)

    @classmethod
    def of_event(cls, event: Event, show: int) -> "Entry":
        """As this process has it."""
        top = tuple((score.id, score.probability) for score in event.top(show))
        coverage = tuple(getattr(event.coverage, name) for name in COVERAGE)
        return cls(event.position, event.phase, event.state, top, coverage)


@dataclass(frozen=True, slots=True)
class Answer:
    """One generation: what it said, and when."""

    tokens: tuple[int, ...]
    entries: tuple[Entry, ...]
    """By position."""
    first_ms: float
    """From asking to the first token."""
    total_ms: float
    """From asking until all is here."""
    parts_ms: Mapping[str, float] = field(default_factory=dict)
    """Of the total, as far as it is known where it went."""
    mb: Mapping[str, float] = field(default_factory=dict)
    """Bytes that went over the network by cause, in millions."""
    events: tuple[Event, ...] = ()
    """In this process: the entries' own events."""

    @classmethod
    def of_body(cls, body: bytes) -> "Answer":
        """As a server sends it whole, not streamed; nothing is known of its times."""
        (choice,) = json.loads(body)["choices"]
        content = choice["lenses"]["content"]
        entries = (*choice["lenses"].get("prompt", ()), *content)
        return cls(tuple(entry["token"] for entry in content), tuple(map(Entry.of_json, entries)), 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far answers agree."""

    pairs: int = 0
    void: tuple[str, ...] = ()
    """Why, of each pair that is void."""
    near_cuts: int = 0
    largest_difference: float = 0.0
    """Of the probabilities of concepts that both name."""

    def and_also(self, other: "Agreement") -> "Agreement":
        """Of more pairs."""
        return Agreement(
            self.pairs + other.pairs,
            self.void + other.void,
            self.near_cuts + other.near_cuts,
            max(self.largest_difference, other.largest_difference),
        )

    def to_json(self) -> dict[str, object]:
        """What a report says."""
        return {
            "pairs": self.pairs,
            "void": len(self.void),
            "reasons": list(dict.fromkeys(self.void))[:5],
            "near_cuts": self.near_cuts,
            "largest_difference": self.largest_difference,
        }


def agree(answer: Answer, reference: Answer, config: MonitorConfig) -> Agreement:
    """How an answer agrees with one of this process; a difference makes the pair void."""
    try:
        near_cuts, largest = _compare(answer, reference, config)
    except Differs as difference:
        return Agreement(1, (str(difference),))
    return Agreement(1, (), near_cuts, largest)


def _compare(answer: Answer, reference: Answer, config: MonitorConfig) -> tuple[int, float]:
    if answer.tokens != reference.tokens:
        pairs = enumerate(zip(answer.tokens, reference.tokens, strict=False))
        at = next((i for i, (a, b) in pairs if a != b), min(len(answer.tokens), len(reference.tokens)))
        raise Differs(f"token {at} is not the reference's")
    by_position = {entry.position: entry for entry in reference.entries}
    events = {event.position: event for event in reference.events}
    if not answer.entries:
        raise Differs("nothing was told of the lenses")
    near_cuts, largest = 0, 0.0
    for entry in answer.entries:
        other = by_position.get(entry.position)
        if other is None or (entry.phase, entry.state) != (other.phase, other.state):
            raise Differs(f"position {entry.position} is not the reference's")
        if entry.coverage != other.coverage:
            if not is_near_a_cut(events[entry.position], config):
                raise Differs(f"position {entry.position} has another coverage than the reference's")
            near_cuts += 1
        largest = max(largest, _difference(entry, other))
    return near_cuts, largest


def _difference(entry: Entry, other: Entry) -> float:
    """The largest difference of a probability; raises Differs beyond CUT."""
    here, there = dict(entry.top), dict(other.top)
    if len(here) != len(there):
        raise Differs(f"position {entry.position} names {len(here)} concepts, not {len(there)}")
    largest = max((abs(here[id] - there[id]) for id in here.keys() & there.keys()), default=0.0)
    for one, two in ((here, there), (there, here)):
        least = min(two.values(), default=0.0)
        largest = max([largest, *(one[id] - least for id in one.keys() - two.keys())])
    if largest > CUT:
        raise Differs(f"position {entry.position}: a probability is off by {largest:.2g}")
    return largest


def prompt_and_content(events: Iterable[Event]) -> tuple[list[Event], list[int]]:
    """Events of one run in order, and the tokens that were generated, each predicted by a row."""
    kept = list(events)
    return kept, [
        event.next_token
        for event, after in zip(kept, [*kept[1:], None], strict=True)
        if event.next_token is not None and (after is None or after.phase == "generation")
    ]
