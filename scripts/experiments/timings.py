"""Samples of variants that took turns as rows of a report, and what they gave compared. Shapes: R rounds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from measuring.comparing import ratio
from measuring.floor import MemoryFloor
from measuring.rounds import Rounds
from measuring.samples import Summary
from profiling.runs import Differs

from experiments.replay import Seen, largest_difference
from experiments.subject import base_bytes, beyond
from lenses.pack import LensPack
from runtime.config import MonitorConfig
from runtime.walk import Scores

Record = dict[str, Any]


def timing(ms_R: Sequence[float] | Any, size_bytes: float, floor: MemoryFloor) -> Record:
    """A summary of milliseconds with its floor: what is read of memory, on average."""
    return {"ms": Summary.of(ms_R).to_json(), "floor_ms": floor.floor_ms(round(size_bytes))}


def against(found: Rounds, name: str, reference: str) -> Record:
    """Median over the reference's median, with its interval; None of the reference itself."""
    if name == reference:
        return {"ratio": None}
    estimate = ratio(found[name], found[reference])
    return {"ratio": [estimate.value, estimate.low, estimate.high]}


def times_floor(part: Mapping[str, Any]) -> float:
    """How far above its floor a timing's median is."""
    return float(part["ms"]["median"] / part["floor_ms"])


def all_hot(pack: LensPack, **settings: Any) -> MonitorConfig:
    """A configuration whose hot tier has room for the whole pack."""
    levels = pack.config.base_levels
    rest = sum(map(pack.family_bytes, beyond(pack, levels)))
    return MonitorConfig(hot_budget_bytes=base_bytes(pack, levels) + rest, warm_budget_bytes=0, **settings)


def seen(scores: Sequence[Scores]) -> list[Seen]:
    """What an engine's scores say, by position."""
    return [(*one.ordered(), one.cut) for one in scores]


def check_close(name: str, found: Sequence[Seen], expected: Sequence[Seen], most: float) -> None:
    """Raise Differs unless the same was scored, and logits differ by `most` of the largest; 0: bit for bit."""
    off = largest_difference(found, expected)
    if not off <= most:
        raise Differs(f"{name}: logits differ by {off:.3g} of the largest, expected at most {most}")


def check_control(expected: Sequence[Seen], off_by: float) -> None:
    """The negative control: logits a little off are seen to differ. Raises Differs."""
    off = [(concepts, logits + np.float32(off_by), cut) for concepts, logits, cut in expected]
    if largest_difference(off, expected) == 0:
        raise Differs(f"logits that are off by {off_by} pass for the same: nothing was compared")


def lenses_of(found: Sequence[Seen]) -> float:
    """How many lenses were scored at a position, on average."""
    return float(np.mean([len(concepts) for concepts, _, _ in found]))
