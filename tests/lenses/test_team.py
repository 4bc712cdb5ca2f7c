"""A team does every piece once, with helpers where there are any, and leaves nobody in a call that is over."""

import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import carray, cfunc

from lenses.team import PIECE, Team, add_now, load_now, run_alone
from lenses.vectors import pointer

WAIT_S = 20.0


@cfunc(PIECE)  # type: ignore[untyped-decorator]
def count(call: Any, start: Any, stop: Any) -> None:
    """Count each number of the piece, in an array whose address and length the call has."""
    address, length = carray(pointer(call), 2, np.int64)
    counted = carray(pointer(address), length, np.int64)
    for i in range(start, stop):
        counted[i] += 1


@cfunc(PIECE)  # type: ignore[untyped-decorator]
def meet(call: Any, start: Any, stop: Any) -> None:
    """Come in, and wait long, but not for ever, until the others of the call have come too."""
    words = carray(pointer(call), 3, np.int64)
    came, met = call, call + 8
    add_now(came, 1)
    for _ in range(words[2]):
        if load_now(came) == 2:
            add_now(met, 1)
            break


def counted_by(team: Team, size: int, pieces: int) -> list[int]:
    counted = np.zeros(size, np.int64)
    team.run(count.address, np.array([counted.ctypes.data, size]), size, pieces)
    return counted.tolist()


def met_in(team: Team, turns: int = 3_000_000_000) -> bool:
    """Whether two threads were in a call at the same time."""
    call = np.array([0, 0, turns])
    team.run(meet.address, call, 2, 2)
    return int(call[1]) == 2  # alone, the second piece finds that the first has come


def helpers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("team-")]


def until(condition: Any) -> bool:
    end = time.monotonic() + WAIT_S
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return bool(condition())


@pytest.fixture
def team() -> Any:
    team = Team(3)
    yield team
    team.close()


@settings(max_examples=200, deadline=None)
@given(size=st.integers(0, 300), pieces=st.integers(1, 80))
def test_every_piece_is_done_once(shared_team: Team, size: int, pieces: int) -> None:
    assert counted_by(shared_team, size, pieces) == [1] * size


@pytest.fixture(scope="module")
def shared_team() -> Any:
    team = Team(4)
    yield team
    team.close()


def test_helpers_help_and_are_woken_when_they_sleep(team: Team) -> None:
    assert met_in(team)
    time.sleep(0.05)  # far longer than they stay awake
    assert met_in(team)


def test_alone_nobody_is_met() -> None:
    assert not met_in(Team(1), turns=1000)


def test_two_leaders_at_once_get_what_each_asked_for(team: Team) -> None:
    def lead(length: int) -> bool:
        return all(counted_by(team, length, length) == [1] * length for _ in range(2000))

    with ThreadPoolExecutor(3) as threads:
        assert all(threads.map(lead, (7, 40, 64)))


def test_one_piece_alone() -> None:
    counted = np.zeros(5, np.int64)
    run_alone(count.address, np.array([counted.ctypes.data, 5]), 1, 4)
    assert counted.tolist() == [0, 1, 1, 1, 0]


def test_threads_end_with_the_team_and_calls_go_on_without_them() -> None:
    before = set(helpers())
    team = Team(3)
    assert counted_by(team, 2, 2) == [1, 1]
    assert len(set(helpers()) - before) == 2
    team.close()
    team.close()
    assert until(lambda: set(helpers()) <= before)
    assert counted_by(team, 2, 2) == [1, 1]


def test_threads_end_when_a_team_is_let_go() -> None:
    before = set(helpers())
    team = Team(2)
    counted_by(team, 2, 2)
    del team
    gc.collect()
    assert until(lambda: set(helpers()) <= before)
