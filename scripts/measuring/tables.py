"""Timings as tables in Markdown: n, median, p95, spread, the memory floor and how far above it.

Takes summaries as a report's JSON has them, so that a page can be made again from its JSON.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pages.tables import table

TIMING = ("n", "median ms", "p95 ms", "spread ms", "floor ms", "times floor")


def timing_cells(ms: Mapping[str, Any] | None, floor_ms: float | None) -> tuple[str, ...]:
    """The cells of `TIMING` for one summary of milliseconds; dashes where it did not run, or nothing is its floor."""
    if ms is None:
        return ("—",) * len(TIMING)
    floor = ("—", "—") if floor_ms is None else (digits(floor_ms), digits(ms["median"] / floor_ms))
    return (str(ms["n"]), *(digits(ms[name]) for name in ("median", "p95", "spread")), *floor)


def timing_table(
    first: str,
    rows: Sequence[tuple[str, Mapping[str, Any] | None, float | None]],
    more: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """A table of named summaries with their floors; `more` is further columns by their titles, a cell a row."""
    further = more or {}
    cells = [
        (name, *timing_cells(ms, floor_ms), *(column[at] for column in further.values()))
        for at, (name, ms, floor_ms) in enumerate(rows)
    ]
    return table((first, *TIMING, *further), cells)


def floor_sentence(floor: Mapping[str, Any]) -> str:
    """What a page says of a `MemoryFloor`."""
    bandwidth = floor["bytes_per_s"]
    return (
        f"Memory floor: {bandwidth['median'] / 1e9:.1f} GB/s (spread {bandwidth['spread'] / 1e9:.1f}, "
        f"n = {bandwidth['n']}), read by {floor['threads']} threads over {floor['read_bytes'] / 1e6:.0f} MB "
        "between the rounds."
    )


def interval_cell(estimate: Sequence[float]) -> str:
    """A number with its interval."""
    value, low, high = map(digits, estimate)
    return f"{value} ({low} to {high})"


def digits(value: float) -> str:
    """A number to three digits, never with an exponent where it is of a size that people write out."""
    if value == 0 or not 1e-4 <= abs(value) < 1e9:
        return f"{value:.3g}"
    text = f"{value:.3g}"
    return text if "e" not in text else f"{float(text):.0f}"
