"""Variants take turns: each once a round, in changing order, the collector off, and only the run is timed."""

import gc
from collections import Counter

import numpy as np
import pytest
from measuring.rounds import Variant, alternate, collector_off

from lenses.errors import ConfigError
from tests.scripts.measuring.clocks import HandClock


def test_each_variant_runs_once_a_round_in_changing_order() -> None:
    ran: list[str] = []
    variants = [Variant(name, lambda name=name: ran.append(name)) for name in "abc"]
    found = alternate(variants, rounds=20, warm_up=3, seed=1)
    rounds = [tuple(ran[start : start + 3]) for start in range(0, len(ran), 3)]
    assert len(rounds) == 23
    assert {frozenset(one) for one in rounds} == {frozenset("abc")}
    assert len(set(rounds)) > 3
    assert {name: len(found[name]) for name in found.ms} == {"a": 20, "b": 20, "c": 20}


def test_the_order_is_the_same_for_the_same_seed() -> None:
    def order(seed: int) -> list[str]:
        ran: list[str] = []
        alternate([Variant(n, lambda n=n: ran.append(n)) for n in "abcd"], rounds=6, seed=seed)
        return ran

    assert order(3) == order(3)
    assert order(3) != order(4)


def test_only_the_run_is_timed_and_warm_up_is_thrown_away() -> None:
    clock = HandClock()
    seen: list[int] = []
    calls = iter(range(100))

    def run() -> int:
        call = next(calls)
        clock.pass_ms(1000.0 if call < 2 else float(call))
        return call

    found = alternate(
        [Variant("a", run, prepare=lambda: clock.pass_ms(50), check=lambda call: seen.append(call))],
        rounds=3,
        warm_up=2,
        between=lambda: clock.pass_ms(70),
        clock=clock,
    )
    np.testing.assert_allclose(found["a"], [2, 3, 4], rtol=1e-9)
    assert seen == [0, 1, 2, 3, 4]
    assert found.summary("a").median == pytest.approx(3)


def test_between_comes_before_every_timed_round_and_before_no_other() -> None:
    happened: list[str] = []
    alternate(
        [Variant("a", lambda: happened.append("a"))],
        rounds=2,
        warm_up=1,
        between=lambda: happened.append("floor"),
    )
    assert happened == ["a", "floor", "a", "floor", "a"]


def test_what_a_check_finds_wrong_ends_the_run() -> None:
    def check(result: int) -> None:
        if result != 1:
            raise ConfigError("contents differ")

    with pytest.raises(ConfigError, match="contents differ"):
        alternate([Variant("a", lambda: 2, check=check)], rounds=1)
    assert gc.isenabled()


def test_the_collector_is_off_while_timed_and_left_as_it_was() -> None:
    found: list[bool] = []
    assert gc.isenabled()
    gc.unfreeze()  # tests run with what lived before them set aside
    try:
        alternate([Variant("a", lambda: found.append(gc.isenabled()))], rounds=2)
        assert set(found) == {False}
        assert gc.isenabled()
        assert gc.get_freeze_count() == 0
        gc.disable()
        with collector_off():
            pass
        assert not gc.isenabled()
        gc.freeze()
        with collector_off():
            pass
        assert gc.get_freeze_count() > 0
    finally:
        gc.freeze()
        gc.enable()


def test_a_pair_of_the_same_has_two_names() -> None:
    ran: Counter[str] = Counter()
    one = Variant("a", lambda: ran.update("a"))
    found = alternate([one, one.again()], rounds=4, warm_up=0)
    assert list(found.ms) == ["a", "a (again)"]
    assert ran["a"] == 8


@pytest.mark.parametrize(("names", "rounds"), [("", 1), ("aa", 1), ("ab", 0)])
def test_turns_that_cannot_be_taken_are_refused(names: str, rounds: int) -> None:
    with pytest.raises(ConfigError):
        alternate([Variant(name, lambda: None) for name in names], rounds=rounds)
