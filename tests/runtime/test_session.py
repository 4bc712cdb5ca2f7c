"""What a session says of itself is what was counted."""

from pathlib import Path

import pytest

from runtime.session import Pace, format_bytes
from tests.watched import NEW_TOKENS, watch


def test_pace_tells_prompt_host_and_lenses_apart(tmp_path: Path) -> None:
    watched = watch(tmp_path / "p")
    ticks = iter(range(10_000))
    pace = Pace(clock_s=lambda: next(ticks) / 100)  # every look at the clock is 10 ms after the one before
    assert str(pace) == "no token timed yet"
    for event in watched.events:
        pace(event)
    generated = [event for event in watched.events if event.phase == "generation"]
    assert pace.steps == len(generated)
    assert pace.prompt_ms == pytest.approx(10 * len(watched.prompt))
    assert pace.generation_ms == pytest.approx(10 * len(generated))
    assert pace.lens_ms == pytest.approx(sum(event.run.step_ms for event in generated))
    assert list(pace.step_ms) == [event.position for event in generated]
    assert list(pace.step_ms.values()) == pytest.approx([10] * len(generated))
    lens_ms = pace.lens_ms / pace.steps
    assert str(pace) == f"10.0 ms a token (host {10 - lens_ms:.1f}, lenses {lens_ms:.1f})"


def test_facts_are_the_monitors_counters(tmp_path: Path) -> None:
    watched = watch(tmp_path / "p")
    session = watched.session()
    for event in watched.events:
        session.add(event)
    cache = watched.monitor.stats().cache
    hot = cache.prompt.hot_hits + cache.generation.hot_hits
    cold = cache.prompt.cold_misses + cache.generation.cold_misses
    facts = "; ".join(session.facts())
    assert hot
    assert f"{NEW_TOKENS}/{NEW_TOKENS} tokens" in facts
    assert f"tier hits: hot {hot}, warm 0, cold {cold}" in facts
    assert f"hot {format_bytes(cache.hot_bytes)} of 512 MiB, warm 0 of 2 GiB" in facts


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (1, "1 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (3840, "3.8 KiB"),
        (6_400_000, "6.1 MiB"),
        (512 * 2**20, "512 MiB"),
        (3 * 2**30 // 2, "1.5 GiB"),
        (5 * 2**40, "5120 GiB"),
    ],
)
def test_bytes_are_said_in_the_largest_unit_that_fits(count: int, text: str) -> None:
    assert format_bytes(count) == text
