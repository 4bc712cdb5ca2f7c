"""Events are compared by what they say."""

from dataclasses import replace

import pytest

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
