"""What is in memory by bytes: never more than allowed, nothing that is used let go, every load closed once."""

import threading
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lenses.errors import ServerFull
from runtime.serve.residents import Loaded, Residents

SIZES = {"a": 1, "b": 2, "c": 3, "d": 5}
BUDGET = 6
steps = st.lists(
    st.tuples(st.sampled_from(["hold", "pin", "release", "drop"]), st.sampled_from("abcd")), max_size=40
)


@given(steps)
def test_whatever_is_asked_the_budget_holds_and_what_is_used_stays(steps: list[tuple[str, str]]) -> None:
    residents, held, pinned = Residents(BUDGET), Counter[str](), set[str]()
    loads, closes = Counter[str](), Counter[str]()

    def load(name: str) -> Loaded:
        loads[name] += 1
        return Loaded(name, SIZES[name], lambda: closes.update([name]))

    for step, name in steps:
        here = {one.name for one in residents.residences}
        used = {known for known in here if held[known]} | pinned
        if step in ("hold", "pin"):
            must_fit = sum(SIZES[one] for one in used | {name}) <= BUDGET
            try:
                assert residents.hold(name, lambda name=name: load(name), pin=step == "pin") == name
            except ServerFull:
                assert not must_fit
            else:
                assert must_fit
                held[name] += 1
                pinned |= {name} if step == "pin" else set()
        elif step == "release" and held[name]:
            residents.release(name)
            held[name] -= 1
        elif step == "drop":
            assert residents.drop(name) == (name in here and name not in used)
        here = {one.name for one in residents.residences}
        assert used - here <= ({name} if step == "drop" else set()) - used
        assert sum(SIZES[one] for one in here) == residents.counts.size_bytes <= BUDGET
        assert {one: loads[one] - closes[one] for one in SIZES} == {one: int(one in here) for one in SIZES}
    residents.close()
    assert loads == closes


def test_what_was_wanted_longest_ago_goes_first() -> None:
    residents = Residents(3)
    for name in ("a", "b", "c", "a", "d"):
        residents.hold(name, lambda name=name: Loaded(name, 1))
        residents.release(name)
    assert {one.name for one in residents.residences} == {"a", "c", "d"}
    counts = residents.counts
    assert (counts.hits, counts.loads, counts.evictions, counts.refusals) == (1, 4, 1, 0)


def test_what_has_users_beside_its_holders_stays() -> None:
    residents, users = Residents(1), [1]
    residents.hold("a", lambda: Loaded("a", 1, users=lambda: users[0]))
    residents.release("a")
    with pytest.raises(ServerFull, match="no room for b: 2 bytes are wanted, 1 are allowed"):
        residents.hold("b", lambda: Loaded("b", 1))
    users[0] = 0
    assert residents.hold("b", lambda: Loaded("b", 1)) == "b"


def test_room_is_made_by_rounds_an_engine_then_its_host() -> None:
    residents = Residents(3)

    def engine() -> Loaded:
        residents.hold("host", lambda: Loaded("host", 2))
        return Loaded("engine", 1, lambda: residents.release("host"))

    residents.hold("engine", engine)
    with pytest.raises(ServerFull):
        residents.hold("other", lambda: Loaded("other", 2))
    residents.release("engine")
    residents.hold("other", lambda: Loaded("other", 3))
    assert [one.name for one in residents.residences] == ["other"]


def test_a_load_that_fails_leaves_nothing_and_may_be_tried_again() -> None:
    residents = Residents(1)

    def broken() -> Loaded:
        raise OSError("the disk has gone")

    with pytest.raises(OSError, match="gone"):
        residents.hold("a", broken)
    assert residents.counts.loads == 0
    assert residents.hold("a", lambda: Loaded("a", 1)) == "a"


def test_many_who_want_it_at_once_have_it_loaded_once() -> None:
    residents, loads, begin = Residents(1), [0], threading.Barrier(8)

    def load() -> Loaded:
        loads[0] += 1
        return Loaded("a", 1)

    def want() -> None:
        begin.wait()
        residents.hold("a", load)

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loads == [1]
    assert residents.residences[0].holders == 8


def test_who_holds_what_is_here_does_not_wait_for_a_load() -> None:
    residents, loading, over = Residents(2), threading.Event(), threading.Event()
    residents.hold("a", lambda: Loaded("a", 1))

    def slow() -> Loaded:
        loading.set()
        assert over.wait(10)
        return Loaded("b", 1)

    thread = threading.Thread(target=lambda: residents.hold("b", slow))
    thread.start()
    assert loading.wait(10)
    assert residents.find("a") == "a"
    residents.release("a")
    assert residents.find("b") is None
    over.set()
    thread.join()
    assert residents.find("b") == "b"


def test_one_release_too_many_is_an_error() -> None:
    residents = Residents(1)
    residents.hold("a", lambda: Loaded("a", 1))
    residents.release("a")
    with pytest.raises(ValueError, match="released more often"):
        residents.release("a")
