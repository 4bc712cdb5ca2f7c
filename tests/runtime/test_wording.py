"""Paths, readings and strange text as people read them."""

from dataclasses import replace

import numpy as np
import pytest

from runtime.trend import Trend
from runtime.wording import format_path, format_reading, visible
from tests.watched import Watched, watch


@pytest.mark.parametrize(
    ("width", "text"),
    [
        (60, "artifact > device > musical instrument > violin"),
        (46, "artifact > … > musical instrument > violin"),
        (30, "artifact > … > violin"),
        (12, "… > violin"),
        (8, "violin"),
        (5, "viol…"),
    ],
)
def test_a_path_loses_its_middle_first(width: int, text: str) -> None:
    path = format_path(["artifact", "device", "musical instrument", "violin"], width)
    assert path.plain == text
    assert path.cell_len <= width


def test_control_characters_are_shown_not_obeyed() -> None:
    assert visible("a\x1b[2Jb\nc\t") == "a\\x1b[2Jb\nc\\t"


def test_not_scored_is_not_zero_and_not_failed(tmp_path_factory: pytest.TempPathFactory) -> None:
    watched: Watched = watch(tmp_path_factory.mktemp("pack") / "p")
    trend = Trend(watched.pack.hierarchy, "animal.large.old")
    assert format_reading(trend.last) == ""
    event = next(event for event in watched.events[1:] if event.score_of("animal.large.old") is None)
    assert format_reading(trend.read(event)) == "not scored"
    assert format_reading(trend.read(replace(event, failed=("animal.large",)))) == "failed"
    slope = event.pack.heads.platt_slope[event.scored]
    zero = replace(event, logits=(np.full_like(event.logits, -50) / slope).astype(np.float32))
    assert format_reading(Trend(watched.pack.hierarchy, "animal").read(zero)).startswith("0.00")
