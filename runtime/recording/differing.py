"""Where two recordings part: in their tokens, in what was said at each position, and in which concepts.

Positions are compared by sequence and position, concepts by id, of two revisions of an event the later one; so runs of
two packs can be compared, and neither pack is needed. Contents are what `Event.same_content` compares. Knows nothing
about how differences are shown.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from runtime.recording.fields import to_json
from runtime.recording.recording import Recording
from runtime.recording.seen import Seen

_CONTENT = ("phase", "token", "next_token", "state")
_COVERAGE = ("expected", "scored", "pending", "failed", "cut")
Place = tuple[int, int]
"""Sequence and position."""


@dataclass(frozen=True, slots=True)
class Moved:
    """One concept that two runs say differently of at one position; None where a run has not scored it."""

    id: str
    name: str
    a: float | None
    b: float | None
    """Calibrated probabilities."""
    logits: tuple[float | None, float | None]

    @property
    def distance(self) -> float | None:
        """How far the probabilities are apart; None where they cannot be compared."""
        return None if self.a is None or self.b is None else abs(self.a - self.b)


@dataclass(frozen=True, slots=True)
class PositionDifference:
    """One position at which two runs differ."""

    sequence: int
    position: int
    what: tuple[str, ...]
    """In what: `token`, `scores` and so on; `missing in a` or `missing in b` where one run has no such position."""
    moved: tuple[Moved, ...]
    """Concepts, those first whose probabilities are furthest apart, then those that one run alone has scored."""


@dataclass(frozen=True, slots=True)
class TokenDifference:
    """Where the tokens of a sequence part; None is a sequence that is over."""

    sequence: int
    position: int
    a: int | None
    b: int | None


@dataclass(frozen=True, slots=True)
class Differences:
    """What is different about two runs."""

    settings: tuple[tuple[str, str, str], ...]
    """Of how they were made: name, and what each says. Runs that differ in nothing else are equal."""
    tokens: tuple[TokenDifference, ...]
    """The first of each sequence whose tokens part."""
    positions: tuple[PositionDifference, ...]
    compared: int
    """Positions that either has."""

    @property
    def are_equal(self) -> bool:
        """Whether tokens and contents are the same."""
        return not self.tokens and not self.positions


def differing(a: Recording, b: Recording) -> Differences:
    """Compare two recordings."""
    left, right = a.seen.newest(), b.seen.newest()
    places = sorted(left.keys() | right.keys())
    compare = _Compare(a, b)
    positions = [
        difference
        for place in places
        if (difference := compare.at(place, left.get(place), right.get(place))) is not None
    ]
    return Differences(tuple(_settings(a, b)), tuple(_tokens(a, b)), tuple(positions), len(places))


def _tokens(a: Recording, b: Recording) -> Iterator[TokenDifference]:
    left, right = ([sequence.tokens for sequence in run.sequences] for run in (a, b))
    for number in range(max(len(left), len(right))):
        one = left[number] if number < len(left) else []
        other = right[number] if number < len(right) else []
        for at in range(max(len(one), len(other))):
            tokens = [of[at] if at < len(of) else None for of in (one, other)]
            if tokens[0] != tokens[1]:
                yield TokenDifference(number, at, tokens[0], tokens[1])
                break


def _settings(a: Recording, b: Recording) -> Iterator[tuple[str, str, str]]:
    left, right = _flat(a), _flat(b)
    for name in left | right:
        if left.get(name) != right.get(name):
            said = ("-" if (value := of.get(name)) is None else str(value) for of in (left, right))
            yield name, *said  # type: ignore[misc]  # there are two


def _flat(recording: Recording) -> dict[str, Any]:
    """How a run was made, by name; without when, and what was counted."""
    about = recording.about
    generations = {f"generation {number}": to_json(of) for number, of in enumerate(about.generations)}
    told: Mapping[str, Any] = {
        "pack": f"{about.pack.name} {about.pack.identity[:12]}",
        "site": about.site,
        "ended": about.ended,
        "host": to_json(about.host),
        "config": to_json(about.config),
        "versions": dict(about.versions),
        **(generations if len(generations) > 1 else {"generate": generations.get("generation 0", {})}),
    }
    return dict(_leaves("", told))


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(f"{name}.{key}" if name else key, item)
    else:
        yield name, value


class _Compare:
    """Two recordings, position by position."""

    def __init__(self, a: Recording, b: Recording) -> None:
        self._seen = a.seen, b.seen
        self._rules = [[str(rule) for rule in run.about.config.rules] for run in (a, b)]
        self._met = [_by_event(seen) for seen in self._seen]

    def at(self, place: Place, *numbers: int | None) -> PositionDifference | None:
        """What differs at a place at which the two have these events; None where nothing does."""
        a, b = numbers
        if a is None or b is None:
            return PositionDifference(*place, (f"missing in {'a' if a is None else 'b'}",), ())
        moved = self._moved(a, b)
        left, right = self._said(0, a), self._said(1, b)
        what = [name for name in left if left[name] != right[name]]
        if moved:
            what.append("scores")
        return PositionDifference(*place, tuple(what), tuple(moved)) if what else None

    def _said(self, run: int, number: int) -> dict[str, object]:
        """What an event says beside its scores."""
        seen = self._seen[run]
        said: dict[str, object] = {name: int(seen.events[name][number]) for name in _CONTENT}
        said["coverage"] = [int(seen.events[name][number]) for name in _COVERAGE]
        said["failed families"] = seen.failed.get(str(number), ())
        has_asked = bool(seen.has_asked_E[number])
        said["asked"] = (
            list(zip(seen.asked, seen.asked_EA[number].tolist(), strict=True)) if has_asked else []
        )
        said["rules"] = [(self._rules[run][rule], *rest) for rule, *rest in self._met[run].get(number, [])]
        return said

    def _moved(self, a: int, b: int) -> list[Moved]:
        left, right = (_scores(seen, number) for seen, number in zip(self._seen, (a, b), strict=True))
        if left == right:
            return []
        none = None, None
        moved = [
            Moved(*concept, one[1], other[1], (one[0], other[0]))
            for concept in left | right
            if (one := left.get(concept, none)) != (other := right.get(concept, none))
        ]
        return sorted(moved, key=_order)


def _by_event(seen: Seen) -> dict[int, list[list[int]]]:
    found: dict[int, list[list[int]]] = {}
    for event, *rest in seen.met_M.tolist():
        found.setdefault(event, []).append(rest)
    return found


def _scores(seen: Seen, number: int) -> dict[tuple[str, str], tuple[float, float]]:
    """Logit and probability of each concept that an event scored, by id and name."""
    concepts = seen.concept_S[seen.scores(number)].tolist()
    logits, probabilities = seen.logit_S[seen.scores(number)].tolist(), seen.probabilities(number).tolist()
    return {
        seen.concepts[concept]: (logit, p)
        for concept, logit, p in zip(concepts, logits, probabilities, strict=True)
    }


def _order(moved: Moved) -> tuple[bool, float, float, str]:
    distance = moved.distance
    if distance is None:
        return True, -max(p for p in (moved.a, moved.b) if p is not None), 0.0, moved.id
    one, other = moved.logits
    assert one is not None
    assert other is not None
    return False, -distance, -abs(one - other), moved.id
