"""What prompt and generation share is counted as sets say."""

from experiments.overlap import overlap, shares, wanted
from experiments.recording import Recording
from experiments.replay import play
from experiments.subject import Subject
from hypothesis import given
from hypothesis import strategies as st

from runtime.config import MonitorConfig
from runtime.monitor import Monitor

FAMILIES = st.lists(st.sets(st.integers(0, 6)), max_size=4)


@given(st.lists(st.tuples(FAMILIES, FAMILIES), min_size=1, max_size=3))
def test_shares_are_those_of_an_obvious_count(texts: list[tuple[list[set[int]], list[set[int]]]]) -> None:
    found = shares(texts)
    distinct = [
        (t, f) for t, (_, after) in enumerate(texts) for f in range(7) if any(f in one for one in after)
    ]
    requests = [(t, f) for t, (_, after) in enumerate(texts) for one in after for f in one]
    before = {(t, f) for t, (prompt, _) in enumerate(texts) for one in prompt for f in one}
    assert (
        found["generation_families"] * len(texts) == len(distinct)
        or abs(found["generation_families"] * len(texts) - len(distinct)) < 1e-9
    )
    for name, some in (("of_families", distinct), ("of_requests", requests)):
        expected = sum(one in before for one in some) / len(some) if some else None
        assert found[name] == expected


def test_what_is_wanted_is_what_is_asked_of_the_cache(subject: Subject, recording: Recording) -> None:
    prompt, generation = wanted(subject, recording, None)
    assert len(generation) == recording.generated_rows
    assert len(prompt) == recording.prompt
    assert not prompt[0]  # BOS is not scored
    with Monitor(subject.pack, MonitorConfig()) as monitor:
        play(monitor, subject.host, recording)
        stats = monitor.stats().cache
    assert sum(map(len, prompt)) == stats.prompt.requests
    assert sum(map(len, generation)) == stats.generation.requests


def test_a_row_a_length_that_is_reached(subject: Subject, recording: Recording) -> None:
    found = overlap(subject, [recording], None, [2, 9, 10])
    assert [row["length"] for row in found] == [2, 9]
    assert all(row["texts"] == 1 for row in found)
