"""What a family cache counts: requests by where they were served, reads, moves and bytes. Numbers only."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PhaseCounts:
    """Requests of one phase, each a (position, family) pair: requests = hot + warm + cold + failed."""

    requests: int
    hot_hits: int
    warm_hits: int
    cold_misses: int
    """Requests that caused a read, and those that did not wait for one. Who waits for another's read hits the tier
    where that landed."""
    failed: int
    """Requests for a family that is quarantined, also where it was found out after they had gone on."""


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Counters since the cache was made, and bytes at one instant. All bytes are allocated bytes."""

    prompt: PhaseCounts
    generation: PhaseCounts
    reads: int
    """Families read from the source, on request or by prefetch, damaged ones not counted."""
    bytes_read: int
    prefetched: int
    """Of `reads`, those by prefetch."""
    promotions: int
    """Families that went from warm to hot."""
    demotions: int
    """Families that went from hot to warm."""
    evictions: int
    """Families that left memory."""
    base_bytes: int
    hot_bytes: int
    """In the hot tier now: base and families, without reads in flight."""
    warm_bytes: int
    in_flight_bytes: int
    """Set aside for reads and copies under way in both tiers, and buffers beside the budgets."""
    hot_peak_bytes: int
    """The most that the hot tier ever used, reads in flight included; never above its budget."""
    warm_peak_bytes: int
    hot_budget_bytes: int
    warm_budget_bytes: int
