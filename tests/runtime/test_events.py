"""Events are compared by what they say, and a score knows what its lens is worth."""

from dataclasses import replace

import pytest

from lenses.grade import grade
from runtime.events import Run, differing
from tests.watched import Watched, watch


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    return watch(tmp_path_factory.mktemp("pack") / "p", new_tokens=4)


def test_an_event_is_equal_to_itself_alone_and_contents_are_compared_by_name(watched: Watched) -> None:
    event = watched.events[2]
    twin = replace(event, scored=event.scored.copy(), run=Run(9, 9, 9, 9.0))
    assert event == event  # arrays have no truth value: `==` of fields would raise here
    assert event != twin
    assert event.same_content(twin)
    assert not event.same_content(replace(event, logits=event.logits + 1))
    assert len({event, twin}) == 2, "they can be kept in sets"
    assert differing([event], [twin]) == []


def test_ranked_is_every_score_once_best_first(watched: Watched) -> None:
    event = watched.events[2]
    ranked = list(event.ranked())
    assert sorted(event.pack.hierarchy.index(score.id) for score in ranked) == event.scored.tolist()
    assert [score.probability for score in ranked] == sorted((s.probability for s in ranked), reverse=True)
    assert ranked[:3] == event.top(3)


def test_a_score_has_the_grade_of_its_lens(watched: Watched) -> None:
    scores = watched.events[2].top(99)
    assert {score.grade for score in scores} > {"unmeasured"}
    assert all(score.grade == grade(score.concept.metrics) for score in scores)
