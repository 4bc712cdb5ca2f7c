"""A trend tells what was scored, and where nothing was: a gap is no zero."""

from dataclasses import replace

import numpy as np
import pytest

from lenses.errors import ConceptNotFound
from runtime.events import Event
from runtime.trend import FAILED, NOT_SCORED, PROMPT_END, Trend
from tests.watched import Watched, watch

BLOCKS = "▁▂▃▄▅▆▇█"
DEEP = "animal.large.old"


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    return watch(tmp_path_factory.mktemp("pack") / "p")


def trend_of(watched: Watched, id: str, events: list[Event] | None = None) -> Trend:
    trend = Trend(watched.pack.hierarchy, id)
    for event in watched.events if events is None else events:
        trend.add(event)
    return trend


def at_probability(event: Event, probability: float) -> Event:
    """The event as if every lens had said this."""
    heads = event.pack.heads
    odds = np.log(probability / (1 - probability))
    logits = (odds - heads.platt_offset[event.scored]) / heads.platt_slope[event.scored]
    return replace(event, logits=logits.astype(np.float32))


def test_a_line_has_a_mark_for_each_position_and_for_the_end_of_the_prompt(watched: Watched) -> None:
    line = trend_of(watched, "animal").line(1000)
    read = len(watched.prompt) - 1  # BOS is no place in the text
    assert len(line) == len(watched.events) - 1 + 1
    assert line.index(PROMPT_END) == read
    for mark, event in zip(line.replace(PROMPT_END, ""), watched.events[1:], strict=True):
        score = event.score_of("animal")
        assert score is not None
        assert mark == BLOCKS[min(int(score.probability * 8), 7)]


def test_a_concept_whose_family_was_not_opened_has_gaps_and_keeps_its_scores(watched: Watched) -> None:
    marks = trend_of(watched, DEEP).line(1000).replace(PROMPT_END, "")
    scored = [event.score_of(DEEP) is not None for event in watched.events[1:]]
    assert set(scored) == {True, False}, "the tiny pack opens families now and then"
    assert [mark != NOT_SCORED for mark in marks] == scored


def test_a_probability_of_nothing_is_not_a_gap(watched: Watched) -> None:
    event = watched.events[1]
    for probability, mark in ((1e-6, "▁"), (0.49, "▄"), (0.51, "▅"), (1 - 1e-6, "█")):
        assert trend_of(watched, "animal", [at_probability(event, probability)]).line(9) == mark


def test_what_could_not_be_scored_is_told_from_what_was_not_opened(watched: Watched) -> None:
    event = next(event for event in watched.events[1:] if event.score_of(DEEP) is None)
    lost = replace(event, failed=("animal.large",))
    other = replace(event, failed=("person.large",))
    none = np.empty(0, np.int32), np.empty(0, np.float32)
    odd = replace(event, state="non_finite", scored=none[0], logits=none[1])
    for given, mark in ((event, NOT_SCORED), (lost, FAILED), (other, NOT_SCORED), (odd, FAILED)):
        assert trend_of(watched, DEEP, [given]).line(9) == mark


def test_only_the_latest_positions_have_room(watched: Watched) -> None:
    trend = trend_of(watched, "animal")
    whole = trend.line(1000)
    for cells in (0, 1, 7, 23, 24, 25):
        assert trend.line(cells) == whole[len(whole) - cells :] if cells else trend.line(0) == ""


def test_a_later_event_for_a_position_takes_the_place_of_the_earlier(watched: Watched) -> None:
    first, second = watched.events[1:3]
    trend = trend_of(watched, "animal", [at_probability(first, 0.01), second, at_probability(first, 0.99)])
    assert trend.line(9)[0] == "█"
    assert len(trend.line(9)) == 2


def test_the_path_and_the_last_reading(watched: Watched) -> None:
    trend = trend_of(watched, DEEP)
    assert [concept.id for concept in trend.path] == ["animal", "animal.large", DEEP]
    assert trend.concept.name == "old large animal"
    assert trend.last is not None
    assert trend.last == trend.read(watched.events[-1])
    assert Trend(watched.pack.hierarchy, DEEP).last is None


def test_a_concept_that_is_not_there_is_one_line_with_those_that_come_close(watched: Watched) -> None:
    with pytest.raises(ConceptNotFound, match=r"no concept 'animal.lage' .*did you mean animal.large"):
        Trend(watched.pack.hierarchy, "animal.lage")
