"""What counts as the same answer, and what makes a pair void."""

from dataclasses import replace

import pytest
from serving.answers import Agreement, Answer, Entry, agree

from runtime.config import MonitorConfig

TOP = (("dog", 0.9), ("cat", 0.5), ("oak", 0.2))


def answer(top: tuple[tuple[str, float], ...] = TOP, tokens: tuple[int, ...] = (7, 8)) -> Answer:
    entries = tuple(Entry(at, "generation", "ok", top, (3, 3, 0, 0, 0)) for at in range(2))
    return Answer(tokens, entries, 1.0, 2.0)


def void(one: Answer) -> str | None:
    return next(iter(agree(one, answer(), MonitorConfig()).void), None)


def test_the_last_digits_may_differ_and_are_told() -> None:
    found = agree(answer((("dog", 0.90005), *TOP[1:])), answer(), MonitorConfig())
    assert found.void == ()
    assert found.largest_difference == pytest.approx(5e-5)


def test_concepts_that_are_as_good_as_level_may_change_places() -> None:
    assert void(answer((*TOP[:2], ("elm", 0.20004)))) is None


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (answer(tokens=(7, 9)), "token 1"),
        (answer(tokens=(7,)), "token 1"),
        (answer((("dog", 0.9011), *TOP[1:])), "a probability is off"),
        (answer((*TOP[:2], ("elm", 0.3))), "a probability is off"),
        (answer(TOP[:2]), "names 2 concepts"),
        (replace(answer(), entries=()), "nothing was told"),
        (replace(answer(), entries=(replace(answer().entries[0], state="bos"),)), "position 0"),
        (replace(answer(), entries=(replace(answer().entries[0], position=9),)), "position 9"),
    ],
)
def test_what_differs_is_void_and_says_why(other: Answer, said: str) -> None:
    assert said in str(void(other))


def test_agreements_add_up() -> None:
    found = Agreement(1, ("a",), 2, 0.1).and_also(Agreement(1, (), 1, 0.2))
    assert found.to_json() == {
        "pairs": 2,
        "void": 1,
        "reasons": ["a"],
        "near_cuts": 3,
        "largest_difference": 0.2,
    }
