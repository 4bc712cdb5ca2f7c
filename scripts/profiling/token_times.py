"""Per-token times of runs that took turns: each way's own, and differences paired by round, text and token.

The first token is apart (the prompt is in it), and so is the ending: from the last token to the return. Whole runs are
compared, too, first token and ending included.

Shapes: R rounds, N pairs.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from measuring.comparing import ratio
from measuring.samples import Summary

from lenses.metrics import Doubles
from profiling.runs import Run
from profiling.turns import AGAIN, CLOCKED, OFF, ON

Record = dict[str, Any]
ByTask = Sequence[Sequence[Run]]

PAIRS = {
    "overhead": (ON, OFF),
    "off again - off": (AGAIN, OFF),
    "clock": (CLOCKED, ON),
}
"""Differences by name: a - b."""


def token_times(runs: Mapping[str, ByTask]) -> Record:
    """The record of all ways and differences: summaries of milliseconds."""
    return {
        "ways": {name: _way(found) for name, found in runs.items()},
        "differences": {name: _difference(runs[a], runs[b]) for name, (a, b) in PAIRS.items()},
    }


def _way(found: ByTask) -> Record:
    flat = [run for by_round in found for run in by_round]
    return {
        "first_ms": Summary.of([run.token_ms[0] for run in flat]).to_json(),
        "token_ms": Summary.of(np.concatenate([run.token_ms[1:] for run in flat])).to_json(),
        "ending_ms": Summary.of([run.ending_ms for run in flat]).to_json(),
        "total_ms": Summary.of(_totals_R(found)).to_json(),
    }


def _difference(a: ByTask, b: ByTask) -> Record:
    pairs = [pair for by_a, by_b in zip(a, b, strict=True) for pair in zip(by_a, by_b, strict=True)]
    return {
        "first_ms": Summary.of([x.token_ms[0] - y.token_ms[0] for x, y in pairs]).to_json(),
        "token_ms": Summary.of(np.concatenate([x.token_ms[1:] - y.token_ms[1:] for x, y in pairs])).to_json(),
        "ending_ms": Summary.of([x.ending_ms - y.ending_ms for x, y in pairs]).to_json(),
        "total_ms": Summary.of(_totals_R(a) - _totals_R(b)).to_json(),
        "total_ratio": ratio(_totals_R(a), _totals_R(b)),
    }


def _totals_R(found: ByTask) -> Doubles:
    """[R] all texts of a round together, from the call of `generate` to its return."""
    return np.array([sum(run.total_ms for run in in_round) for in_round in zip(*found, strict=True)])
