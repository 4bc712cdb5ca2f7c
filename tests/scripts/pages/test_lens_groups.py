"""Groups of lenses: each lens in one, none lost."""

from typing import Any

from pages.lens_groups import LETTERS, by_examples, control_values, grades, is_certain

from lenses.grade import UNMEASURED


def lens(
    level: int, grade: str, *, training_texts: int = 50, auroc: Any = (0.97, 0.96, 0.975)
) -> dict[str, Any]:
    return {
        "level": level,
        "grade": grade,
        "training_texts": training_texts,
        "text": {"auroc": list(auroc)},
        "tokens": {"auroc": [0.9, 0.8, 0.95]},
        "controls": {"text": {"random": 0.5}, "tokens": {"random": 0.6}},
    }


def test_grades_are_counted_in_all_and_by_level() -> None:
    lenses = [lens(0, "A"), lens(2, "A"), lens(2, "F"), lens(2, UNMEASURED)]
    everywhere, top, below = grades(lenses)
    assert (everywhere["level"], top["level"], below["level"]) == (None, 0, 2)
    assert (everywhere["A"], everywhere["F"], everywhere[UNMEASURED]) == (2, 1, 1)
    assert [top[letter] for letter in LETTERS] == [1, 0, 0, 0, 0, 0]
    assert sum(below[letter] for letter in LETTERS) == 3


def test_a_grade_is_certain_where_the_whole_interval_is_within_it() -> None:
    assert is_certain(lens(0, "B"))
    assert not is_certain(lens(0, "B", auroc=(0.97, 0.94, 0.975)))
    assert not is_certain(lens(0, "B", auroc=(0.97, 0.96, 0.981)))


def test_every_lens_is_in_one_group_of_examples() -> None:
    counts = (0, 39, 40, 159, 160, 640, 20_000)
    groups = by_examples([lens(0, "A", training_texts=count) for count in counts])
    assert [label for label, _ in groups] == ["0 to 39", "40 to 79", "80 to 159", "160 to 639", "640 or more"]
    assert [[one["training_texts"] for one in some] for _, some in groups] == [
        [0, 39],
        [40],
        [159],
        [160],
        [640, 20_000],
    ]


def test_a_control_stands_beside_the_lens_where_both_were_judged() -> None:
    some = [lens(0, "A")]
    assert control_values(some, "tokens", "lens") == [0.9]
    assert control_values(some, "tokens", "random") == [0.6]
    assert (
        control_values(some, "text_siblings", "lens") == control_values(some, "text_siblings", "random") == []
    )
