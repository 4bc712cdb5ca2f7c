"""Results that survive a stop: kept by question, a cut-off line taken out."""

from pathlib import Path

import pytest
from choosing.journal import Journal


def test_an_answer_is_found_again_by_its_question_only(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "some.jsonl"
    assert Journal(path).answer({"site": "a"}) is None
    assert Journal(path).keep({"site": "a", "widths": (8, 8)}, {"auroc": 0.5}) == {"auroc": 0.5}
    again = Journal(path)
    assert again.answer({"widths": [8, 8], "site": "a"}) == {"auroc": 0.5}
    assert again.answer({"site": "a", "widths": (8, 4)}) is None
    assert again.answer({"site": "a"}) is None


def test_a_line_that_a_stop_cut_off_is_taken_out_and_the_rest_stays(tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    journal = Journal(path)
    journal.keep({"n": 1}, {"x": 1})
    journal.keep({"n": 2}, {"x": 2})
    path.write_bytes(path.read_bytes()[:-9])
    stopped = Journal(path)
    assert stopped.answer({"n": 1}) == {"x": 1}
    assert stopped.answer({"n": 2}) is None
    stopped.keep({"n": 3}, {"x": 3})
    again = Journal(path)
    assert [again.answer({"n": n}) for n in (1, 2, 3)] == [{"x": 1}, None, {"x": 3}]


def test_what_is_no_number_is_never_kept(tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    with pytest.raises(ValueError, match="not JSON compliant"):
        Journal(path).keep({"n": 1}, {"x": float("nan")})
    assert Journal(path).answer({"n": 1}) is None
