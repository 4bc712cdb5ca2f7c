"""What it takes to write one entry as bytes: JSON, and msgpack where it is installed. In this process, nothing is sent.

The entry is the server's own, of an event of this process. With a score vector, JSON has it as base64, msgpack as it
is. Shapes: N lenses.
"""

import base64
import importlib
import importlib.util
import json
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import numpy as np
from measuring.samples import Summary

from lenses.pack import LensPack
from runtime.events import Event
from runtime.serve.request import LensWishes
from runtime.serve.shown import Shown, vector
from runtime.serve.wire import Part, to_json
from serving.answers import Answer
from serving.calls import Record

Encode = Callable[[Record, bytes | None], bytes]


def as_json(entry: Record, vector_raw: bytes | None) -> bytes:
    """As the server does."""
    if vector_raw is None:
        return to_json(entry)
    return to_json(entry | {"vector": base64.b64encode(vector_raw).decode()})


def encoders() -> dict[str, Encode]:
    """Those that there are."""
    found: dict[str, Encode] = {"JSON": as_json}
    if importlib.util.find_spec("msgpack") is not None:
        pack: Callable[[Any], bytes] = importlib.import_module("msgpack").packb
        found["msgpack"] = lambda entry, raw: pack(entry if raw is None else entry | {"vector": raw})
    return found


def measure(pack: LensPack, reference: Answer, show: int, rounds: int) -> list[Record]:
    """Microseconds and bytes of an entry, by form and by whether it has a vector; forms take turns."""
    events = [event for event in reference.events if event.phase == "generation"]
    entries = [_entry(pack, event, show) for event in events]
    vectors = [base64.b64decode(vector(event, len(pack.hierarchy))) for event in events]
    found = []
    for payload, raw in (("events", [None] * len(events)), ("events and vectors", vectors)):
        forms = encoders()
        took_us: dict[str, list[float]] = {form: [] for form in forms}
        for _ in range(rounds):
            for form, encode in forms.items():
                took_us[form].append(_mean_us(encode, entries, raw))
        for form, encode in forms.items():
            sizes = [len(encode(entry, one)) for entry, one in zip(entries, raw, strict=True)]
            found.append(
                {
                    "payload": payload,
                    "form": form,
                    "us": Summary.of(took_us[form]).to_json(),
                    "bytes": float(np.mean(sizes)),
                }
            )
    return found


def _mean_us(encode: Encode, entries: Sequence[Record], raw: Sequence[bytes | None]) -> float:
    began_s = perf_counter()
    for entry, one in zip(entries, raw, strict=True):
        encode(entry, one)
    return 1e6 * (perf_counter() - began_s) / len(entries)


def _entry(pack: LensPack, event: Event, show: int) -> Record:
    """What the server tells of an event, before it is bytes."""
    shown: Any = Shown(pack, LensWishes(show), vectors=False, alarms=None)
    part: Part = shown._entry(event, event.next_token)
    entry: Record = json.loads(part.raw)
    return entry
