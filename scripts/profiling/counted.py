"""What the cache counted in some runs: requests and where they were found, reads, moves, bytes held.

A request is a (position, family) pair. Counters are differences over each run, summed; peaks are the highest, budgets
as they are.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from profiling.watching import Watched

Record = dict[str, Any]

_REQUESTS = ("requests", "hot_hits", "warm_hits", "cold_misses", "failed")
_MOVES = ("reads", "bytes_read", "prefetched", "promotions", "demotions", "evictions")
_HIGHEST = ("hot_peak_bytes", "warm_peak_bytes", "hot_bytes", "warm_bytes")
_FIXED = ("base_bytes", "hot_budget_bytes", "warm_budget_bytes")


def counted(runs: Sequence[Watched]) -> Record:
    """The record of all these runs together."""
    before = [asdict(watched.before) for watched in runs]
    after = [asdict(watched.run.cache) for watched in runs if watched.run.cache is not None]
    assert len(after) == len(before), "only a run that was watched has counters"
    pairs = list(zip(before, after, strict=True))
    found: Record = {"runs": len(runs)}
    for phase in ("prompt", "generation"):
        counts = {name: sum(b[phase][name] - a[phase][name] for a, b in pairs) for name in _REQUESTS}
        found[phase] = counts | {
            "hot_rate": _share(counts["hot_hits"], counts["requests"]),
            "memory_rate": _share(counts["hot_hits"] + counts["warm_hits"], counts["requests"]),
        }
    found |= {name: sum(b[name] - a[name] for a, b in pairs) for name in _MOVES}
    found |= {name: max(one[name] for one in after) for name in (*_HIGHEST, *_FIXED)}
    return found


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
