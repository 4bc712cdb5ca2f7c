"""What one client is told of the lenses: the `lenses` object of a choice, piece by piece.

    first chunk  {pack, coverage, concepts?, prompt?, content}     concepts: ids, where vectors are asked for
    next chunks  {content, dropped?}                               dropped: entries that went since the last chunk
    last chunk   {pack, coverage, content, dropped?}

`content` has an entry a token, like logprobs; null where it was dropped. Coverage is of all entries up to there. An
entry is of the row that predicted its token (an entry of the prompt: of the row that read it).
"""

import base64
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lenses.pack import LensPack
from runtime.alarms import Alarms
from runtime.events import Event, Score
from runtime.serve.request import Chunk, LensWishes
from runtime.serve.wire import Part

_COVERAGE = ("expected", "scored", "pending", "failed", "cut")


@dataclass(slots=True)
class _Totals:
    """Of the entries told so far."""

    entries: int = 0
    lenses: Counter[str] = field(default_factory=Counter)
    dropped: int = 0

    def to_json(self) -> dict[str, int]:
        return {"entries": self.entries, "dropped": self.dropped} | {n: self.lenses[n] for n in _COVERAGE}


class Shown:
    """One client's view of one generation."""

    def __init__(
        self, pack: LensPack, wishes: LensWishes, *, vectors: bool, alarms: Alarms | None, runs: bool = False
    ) -> None:
        self._pack, self._wishes, self._vectors, self._alarms = pack, wishes, vectors, alarms
        self._runs = runs
        self._track = [(id, pack.hierarchy.concepts[pack.hierarchy.index(id)].id) for id in wishes.track]
        self._totals = _Totals()

    def part(self, chunk: Chunk, *, is_first: bool) -> dict[str, Any]:
        """What goes with a chunk."""
        told: dict[str, Any] = {}
        if is_first and self._wishes.prompt:
            told["prompt"] = [self._entry(event, event.token) for event in chunk.prompt_events]
        content: list[object] = []
        if chunk.token is not None:
            content.append(None if chunk.event is None else self._entry(chunk.event, chunk.token))
        told["content"] = content
        self._totals.dropped += chunk.dropped
        if chunk.dropped:
            told["dropped"] = chunk.dropped
        if is_first and self._vectors:
            ids = [concept.id for concept in self._pack.hierarchy.concepts]
            told = {"concepts": Part.of("ids", ids)} | told
        if is_first or chunk.finish is not None:
            told = {"pack": self._pack.identity, "coverage": self._totals.to_json()} | told
        return told

    def _entry(self, event: Event, token: int) -> Part | tuple[Part, ...]:
        self._count(event)
        coverage = event.coverage
        entry: dict[str, object] = {
            "token": token,
            "position": event.position,
            "phase": event.phase,
            "state": event.state,
            "top": [_score_json(score) for score in event.top(self._wishes.show)],
            "coverage": {name: getattr(coverage, name) for name in _COVERAGE},
        }
        if event.failed:
            entry["failed_families"] = list(event.failed)
        if self._track:
            asked = {score.id: round(score.probability, 6) for score in event.asked}
            entry["track"] = {spelling: asked.get(id) for spelling, id in self._track}
        if self._wishes.rules:
            entry["rules"] = [met.to_json() for met in event.met]
        if self._alarms is not None:
            entry["alarms"] = [
                {"id": score.id, "name": score.concept.name, "probability": round(score.probability, 6)}
                for score in self._alarms.of(event)
            ]
        if self._runs:
            run = event.run
            entry["run"] = {"hot": run.hot, "warm": run.warm, "cold": run.cold, "ms": round(run.step_ms, 4)}
        events = Part.of("events", entry)
        if not self._vectors:
            return events
        numbers = Part.of("vectors", vector(event, len(self._pack.hierarchy)))
        return Part("events", events.raw[:-1] + b',"vector":'), numbers, Part("events", b"}")

    def _count(self, event: Event) -> None:
        self._totals.entries += 1
        self._totals.lenses.update({name: getattr(event.coverage, name) for name in _COVERAGE})


def merged(parts: list[dict[str, Any]]) -> dict[str, object]:
    """The pieces of all chunks as one object."""
    one: dict[str, Any] = {}
    for part in parts:
        one |= {name: value for name, value in part.items() if name not in ("content", "dropped")}
    one["content"] = [entry for part in parts for entry in part["content"]]
    return one


def vector(event: Event, concepts: int) -> str:
    """All logits of an event as base64 of little-endian float16, in canonical order; NaN where not scored."""
    logits_N = np.full(concepts, np.nan, "<f2")
    with np.errstate(over="ignore"):  # beyond 65,504 it is infinite, which says enough
        logits_N[event.scored] = event.logits
    return base64.b64encode(logits_N.tobytes()).decode()


def _score_json(score: Score) -> dict[str, object]:
    return {
        "id": score.id,
        "name": score.concept.name,
        "level": score.concept.level,
        "probability": round(score.probability, 6),
        "logit": round(score.logit, 5),
        "calibrated": score.calibrated,
        "grade": score.grade,
    }
