"""What a page holds: the words of one sequence and what their events say, as one small JSON value.

1. Events that speak for a word are kept, each once: the last row of the prompt speaks for two.
2. Concepts that any of them scored, and those above them, get numbers of the page's own, in canonical order.
3. Of every event all scores are kept: which, as runs of neighbouring concepts (families are scored whole, so
   runs are few and long); how probable, as 16 bits each, base64. 200 tokens with 150 scores each are 80 KB.
4. The most specific concepts are listed in their order, because it is taken from unrounded numbers.

Knows nothing about HTML, and nothing that a view on the terminal would know differently: words, colours and
strongest concepts come from where it has them.
"""

import base64
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lenses.concept import Concept, Hierarchy
from lenses.grade import GRADES, MEASURED_FROM, grade
from lenses.pack import LensPack
from runtime.alarms import Alarms
from runtime.branches import TINT_FROM, Branches, strongest_of
from runtime.config import MonitorConfig
from runtime.events import Event, Score
from runtime.monitor import MonitorStats
from runtime.packs import about_rows, grade_rows
from runtime.session import Pace, format_bytes
from runtime.transcript import Transcript, Word
from runtime.wording import format_met, special_name, visible

LISTED = 12
"""Most specific concepts that an event lists."""
_STEPS = 65_535
_UNSAID = {"path", "travels with it", "size"}
"""Of what a pack says about itself, what is about the machine it lies on."""

Rows = list[list[str]]


class Shown(Protocol):
    """What a page tells of beside the words: a `Monitor`, or a recording of what one saw."""

    @property
    def pack(self) -> LensPack:
        """The lenses."""

    @property
    def config(self) -> MonitorConfig:
        """What the monitor was told."""

    def stats(self) -> MonitorStats:
        """What it counted."""


def page_contents(
    shown: Shown,
    transcript: Transcript,
    *,
    title: str,
    pace: Pace | None,
    facts: Sequence[tuple[str, str]],
    tracks: Sequence[str],
    alarms: Alarms | None,
) -> dict[str, Any]:
    """Everything that the page's script reads, ready for JSON; raises ConceptNotFound for a track of no concept."""
    pack, words = shown.pack, transcript.words
    hierarchy = pack.hierarchy
    events = list({id(word.event): word.event for word in words if word.event is not None}.values())
    numbers = {id(event): number for number, event in enumerate(events)}
    wanted = [hierarchy.index(track) for track in tracks]
    seen = _seen(hierarchy, events, wanted)
    return {
        "title": title,
        "prompt": sum(word.is_read for word in words),
        "words": [visible(word.text) for word in words],
        "marks": {
            word.position: special_name(transcript.tokenizer, word.token) for word in words if not word.text
        },
        "event_of": [-1 if word.event is None else numbers[id(word.event)] for word in words],
        "events": [_event(event, seen, pace, alarms) for event in events],
        "tracks": np.searchsorted(seen, wanted).tolist(),
        **_known(pack, seen),
        "time": _time(pace),
        "facts": [[heading, rows] for heading, rows in _facts(shown, transcript, events, facts, alarms)],
        "problems": _problems(shown.stats(), events, words),
    }


def start_contents(pack: LensPack, *, title: str) -> dict[str, Any]:
    """What a page reads of lenses before there is a run: all of them, and what makes probabilities of their logits.

    Numbers of concepts are their places in canonical order.
    """
    heads = pack.heads
    known = _known(pack, np.arange(len(pack.hierarchy)))
    known["concepts"] |= {"slope": _floats(heads.platt_slope), "offset": _floats(heads.platt_offset)}
    return {"title": title, **known, "listed": LISTED, "facts": [["Lens pack", _about(pack)]]}


def _known(pack: LensPack, seen: NDArray[np.int64]) -> dict[str, Any]:
    """What is true of concepts whatever the run."""
    return {
        "tint_from": TINT_FROM,
        "grades": [[letter, least] for least, letter in GRADES],
        "measured_from": MEASURED_FROM,
        "concepts": _concepts(pack, seen),
        "colours": _colours(pack.hierarchy, seen),
        "of": len(pack.hierarchy),
    }


def _floats(values: Any) -> list[float]:
    return [float(f"{value:.8g}") for value in values.tolist()]


def _about(pack: LensPack) -> Rows:
    grades = ", ".join(f"{count} {name}" for name, _, count in grade_rows(pack) if count != "0")
    rows = [["pack", pack.name], *about_rows(pack), ["grades", grades]]
    return [row for row in rows if row[0] not in _UNSAID]


def _seen(hierarchy: Hierarchy, events: Iterable[Event], more: Iterable[int]) -> NDArray[np.int64]:
    """Indices of the concepts that the page names, ascending."""
    mask = np.zeros(len(hierarchy), np.bool_)
    for event in events:
        mask[event.scored] = True
    mask[list(more)] = True
    for index in np.flatnonzero(mask):
        mask[list(hierarchy.path(int(index)))] = True
    return np.flatnonzero(mask)


def _event(event: Event, seen: NDArray[np.int64], pace: Pace | None, alarms: Alarms | None) -> dict[str, Any]:
    def number_of(score: Score) -> int:
        return int(np.searchsorted(seen, event.pack.hierarchy.index(score.id)))

    numbers = np.searchsorted(seen, event.scored)
    begins = np.flatnonzero(np.diff(numbers, prepend=-2) != 1)
    lengths = np.diff(begins, append=len(numbers))
    rounded = np.rint(event.probabilities.astype(np.float64) * _STEPS).astype("<u2")
    strongest = strongest_of(event)
    coverage, run = event.coverage, event.run
    step_ms = None if pace is None else pace.step_ms.get(event.position)
    return {
        "at": event.position,
        "phase": event.phase,
        "state": event.state,
        "runs": np.stack([numbers[begins], lengths], axis=1).ravel().tolist(),
        "p": base64.b64encode(rounded.tobytes()).decode("ascii"),
        "top": [number_of(score) for score in event.leaves(LISTED)],
        "tint": None if strongest is None else number_of(strongest),
        "coverage": [coverage.expected, coverage.scored, coverage.pending, coverage.failed, coverage.cut],
        "failed": list(event.failed),
        "alarms": [] if alarms is None else [number_of(score) for score in alarms.of(event)],
        "met": [format_met(met) for met in event.met],
        "tiers": [run.hot, run.warm, run.cold],
        "lens_ms": round(run.step_ms, 3),
        "step_ms": None if step_ms is None else round(step_ms, 3),
    }


def _concepts(pack: LensPack, seen: NDArray[np.int64]) -> dict[str, Any]:
    """Columns over the page's numbers."""
    concepts = [pack.hierarchy.concepts[index] for index in seen]
    parents = pack.hierarchy.parents[seen]
    return {
        "id": [concept.id for concept in concepts],
        "name": [concept.name for concept in concepts],
        "parent": np.where(parents < 0, -1, np.searchsorted(seen, parents)).tolist(),
        "calibrated": "".join("01"[int(pack.heads.calibrated[index])] for index in seen),
        "vouched": "".join("01"[int(pack.vouched_N[index])] for index in seen),
        "grade": [grade(concept.metrics) for concept in concepts],
        "auroc": [_metric(concept, "auroc") for concept in concepts],
        "positives": [_metric(concept, "positives") for concept in concepts],
    }


def _metric(concept: Concept, name: str) -> float | None:
    value = concept.metrics.get(name)
    return None if value is None else round(value, 4)


def _colours(hierarchy: Hierarchy, seen: NDArray[np.int64]) -> dict[int, str]:
    branches = Branches(hierarchy)
    return {
        number: branches.tint(hierarchy.concepts[index]).colour
        for number, index in enumerate(seen)
        if hierarchy.parents[index] < 0
    }


def _time(pace: Pace | None) -> dict[str, Any] | None:
    return None if pace is None else {"prompt_ms": round(pace.prompt_ms, 3), "said": str(pace)}


# What is said about the run.


def _facts(
    shown: Shown,
    transcript: Transcript,
    events: Sequence[Event],
    facts: Sequence[tuple[str, str]],
    alarms: Alarms | None,
) -> list[tuple[str, Rows]]:
    counts = _counts(shown.stats(), transcript, events)
    if alarms is not None:
        counts.append(["alarms", str(alarms)])
    return [
        ("Run", [[name, value] for name, value in facts] + counts),
        ("Configuration", _configuration(shown)),
        ("Lens pack", _about(shown.pack)),
    ]


def _counts(stats: MonitorStats, transcript: Transcript, events: Sequence[Event]) -> Rows:
    read = sum(word.is_read for word in transcript.words)
    scored = [event for event in events if len(event.scored)]
    coverage = [event.coverage for event in events]
    cache, phases = stats.cache, (stats.cache.prompt, stats.cache.generation)
    rows = [["tokens", f"{read:,} read, {transcript.generated:,} generated"]]
    if scored:
        concepts = len(scored[0].pack.hierarchy)
        mean = sum(len(event.scored) for event in scored) / len(scored)
        rows.append(["lenses a position", f"{mean:,.0f} of {concepts:,} ({mean / concepts:.0%})"])
    if stats.deferred:
        rows.append(
            ["late", f"{stats.deferred:,} positions waited for families, {stats.blocked:,} held others up"]
        )
    return [
        *rows,
        [
            "coverage",
            f"{sum(c.expected for c in coverage):,} expected, {sum(c.scored for c in coverage):,} scored, "
            f"{sum(c.pending for c in coverage):,} pending, {sum(c.failed for c in coverage):,} failed",
        ],
        ["families cut", f"{sum(c.cut for c in coverage):,} beyond the width"],
        ["positions", ", ".join(f"{count:,} {state}" for state, count in stats.positions.items() if count)],
        [
            "families came from",
            f"hot {sum(phase.hot_hits for phase in phases):,}, warm {sum(phase.warm_hits for phase in phases):,}, "
            f"cold {sum(phase.cold_misses for phase in phases):,}",
        ],
        [
            "memory",
            f"hot {format_bytes(cache.hot_bytes)} of {format_bytes(cache.hot_budget_bytes)}, "
            f"warm {format_bytes(cache.warm_bytes)} of {format_bytes(cache.warm_budget_bytes)}",
        ],
    ]


def _configuration(shown: Shown) -> Rows:
    config, reach = shown.config, shown.config.reach(shown.pack)
    width = "every lens at every position" if config.exhaustive else f"{reach.top_k} families a level"
    return [
        ["scored at every token", f"level {', '.join(map(str, reach.base_levels))}"],
        ["width", width],
        ["opened from", f"probability {reach.load_threshold:g}"],
        ["down to", f"level {reach.max_level}"],
        ["prompt events", config.prompt_events],
        ["pre-warming", "on" if config.prewarm else "off"],
        ["missing families", config.missing],
        ["tokens read at a time", f"{config.read_every:,}"],
        ["device of lenses", config.device],
        *(["rule", str(rule)] for rule in config.rules),
    ]


def _problems(stats: MonitorStats, events: Sequence[Event], words: Sequence[Word]) -> list[str]:
    """Whatever was not seen and should have been, in sentences."""
    problems = []
    read = sum(word.is_read for word in words)  # the next word has no event where the prompt was to have none
    if count := stats.positions["non_finite"]:
        problems.append(f"{count:,} rows of the host were not finite; nothing could be scored there.")
    lost = [event for event in events if event.coverage.failed and event.state != "non_finite"]
    if lost:
        names = sorted({name for event in lost for name in event.failed})
        problems.append(
            f"{len(names):,} families could not be read, and are missing at {len(lost):,} positions: "
            f"those under {', '.join(name or 'the top' for name in names[:8])}{' ...' if names[8:] else ''}."
        )
    if pending := sum(event.coverage.pending > 0 for event in events):
        problems.append(f"{pending:,} positions are incomplete: some families had not come yet.")
    if unseen := sum(word.event is None for word in words[read + 1 :]):
        problems.append(f"{unseen:,} generated words have no event.")
    return problems
