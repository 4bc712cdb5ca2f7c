"""A watched run as a trace that Perfetto and chrome://tracing open: Chrome's trace-event format, as JSON.

One track of steps, each a slice named by the token that came of it; one of the components on the thread that
generates; one for each reader. All slices are complete events (`ph: X`): begin and length in microseconds.
"""

from collections.abc import Sequence
from typing import Any

from lenses.errors import PhoropterError
from runtime.clock import Span, Step

Record = dict[str, Any]
_PROCESS = 1
_STEPS = 1


class NotATrace(PhoropterError):
    """Something is not what the trace-event format says."""


def trace(steps: Sequence[Step], spans: Sequence[Span], tokens: Sequence[str]) -> Record:
    """The trace of one run: its steps, the spans of its clock, and the text of the token that each step gave."""
    begin_s = min([step.start_s for step in steps] + [span.start_s for span in spans])

    def at_us(second: float) -> float:
        return round(1e6 * (second - begin_s), 3)

    threads = list(dict.fromkeys(span.thread for span in spans))
    events = [_name("process_name", 0, "phoropter"), _name("thread_name", _STEPS, "tokens")]
    events += [_name("thread_name", at, thread) for at, thread in enumerate(threads, start=_STEPS + 1)]
    for step, token in zip(steps, tokens, strict=True):
        stop_s = step.start_s + step.total_ms / 1e3
        told = {
            "phase": step.name,
            **{name: round(ms, 4) for name, ms in step.parts_ms.items()},
            **step.counts,
        }
        events.append(_slice(repr(token), "step", _STEPS, at_us(step.start_s), at_us(stop_s), told))
    for span in spans:
        tid = _STEPS + 1 + threads.index(span.thread)
        events.append(_slice(str(span.name), "component", tid, at_us(span.start_s), at_us(span.stop_s), {}))
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def check_trace(found: Record) -> None:
    """Raise NotATrace unless events are complete or metadata, and the slices of a track lie apart or in each other."""
    tracks: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for event in found["traceEvents"]:
        if event["ph"] == "M":
            if not isinstance(event["args"].get("name"), str):
                raise NotATrace(f"metadata event {event} names nothing; give args a name")
            continue
        if event["ph"] != "X" or not event["name"] or event["ts"] < 0 or event["dur"] < 0:
            raise NotATrace(
                f"event {event} is no complete event; give a name, a begin and a length of 0 or more"
            )
        tracks.setdefault((event["pid"], event["tid"]), []).append((event["ts"], event["ts"] + event["dur"]))
    for track, slices in tracks.items():
        open_until: list[float] = []
        for start, stop in sorted(slices, key=lambda one: (one[0], -one[1])):
            while open_until and open_until[-1] <= start + _GRAIN_US:
                open_until.pop()
            if open_until and stop > open_until[-1] + _GRAIN_US:
                raise NotATrace(
                    f"track {track}: a slice from {start} to {stop} us crosses the end of another"
                )
            open_until.append(stop)


_GRAIN_US = 0.002
"""Twice what a time is rounded to."""


def _name(kind: str, tid: int, name: str) -> Record:
    return {"ph": "M", "name": kind, "pid": _PROCESS, "tid": tid, "ts": 0, "args": {"name": name}}


def _slice(name: str, category: str, tid: int, start_us: float, stop_us: float, told: Record) -> Record:
    return {
        "ph": "X",
        "name": name,
        "cat": category,
        "pid": _PROCESS,
        "tid": tid,
        "ts": start_us,
        "dur": round(stop_us - start_us, 3),
        "args": told,
    }
