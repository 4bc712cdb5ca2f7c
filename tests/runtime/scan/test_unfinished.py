"""A scan that is killed anywhere goes on where it was, and nobody sees half of one."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lenses.errors import ConfigError, WriteError
from runtime.scan.unfinished import Unfinished

WINDOWS = [b"a\n" * 3, b"", b"bb\n", b"c\n" * 5]
PLAN = {"input": "abc", "input_bytes": 40, "show": 8}


class Killed(BaseException):
    """The process is gone: nothing is cleaned up."""


def go_on(out: Path, *, stop_after: int | None = None, convert: bool = False) -> None:
    """Scan what is left, ten bytes of input a window; killed after so many windows."""
    with Unfinished(out, PLAN) as unfinished:
        first = unfinished.done.input_bytes // 10
        for at in range(first, len(WINDOWS)):
            if stop_after == at:
                raise Killed
            unfinished.add(WINDOWS[at], input_bytes=10 * (at + 1), counts={"lines": at + 1})
        assert unfinished.done.counts == {"lines": len(WINDOWS)}
        unfinished.finish(
            (lambda rows, made: made.write_bytes(rows.read_bytes().upper())) if convert else None
        )


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 3),
    st.binary(max_size=9),
    st.binary(max_size=40).filter(lambda b: b"\n" not in b),
    st.booleans(),
)
def test_killed_between_or_within_two_writes_it_goes_on(
    tmp_path_factory: pytest.TempPathFactory, stop: int, rows: bytes, journal: bytes, convert: bool
) -> None:
    out = tmp_path_factory.mktemp("out") / "out.jsonl"
    with pytest.raises(Killed):
        go_on(out, stop_after=stop)
    hidden = out.with_name(".out.jsonl.scan")
    assert not out.exists()
    for name, half in {"rows.jsonl": rows, "done.jsonl": journal}.items():
        with (hidden / name).open("ab") as file:
            file.write(half)
    go_on(out, convert=convert)
    whole = b"".join(WINDOWS)
    assert out.read_bytes() == (whole.upper() if convert else whole)
    assert os.listdir(out.parent) == ["out.jsonl"]


def test_killed_between_the_rename_and_the_end_it_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.jsonl"
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda path: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            go_on(out)
    assert out.read_bytes() == b"".join(WINDOWS)
    with Unfinished(out, PLAN) as unfinished:
        assert unfinished.is_over
        unfinished.finish()
    assert out.read_bytes() == b"".join(WINDOWS)
    assert os.listdir(tmp_path) == ["out.jsonl"]


def test_what_was_there_stays_until_all_is_done(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("before")
    with pytest.raises(Killed):
        go_on(out, stop_after=2)
    assert out.read_text() == "before"
    go_on(out)
    assert out.read_bytes() == b"".join(WINDOWS)


def test_another_plan_is_refused_and_what_is_done_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with pytest.raises(Killed):
        go_on(out, stop_after=2)
    with (
        pytest.raises(ConfigError, match=r"another input, show; .*\.out\.jsonl\.scan"),
        Unfinished(out, PLAN | {"input": "x", "show": 9}),
    ):
        pass
    with Unfinished(out, PLAN) as unfinished:
        assert unfinished.done.input_bytes == 20


def test_two_scans_do_not_write_one_file(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with Unfinished(out, PLAN), pytest.raises(WriteError, match="another scan"), Unfinished(out, PLAN):
        pass


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file" / "out.jsonl", tmp_path, Path("/dev/null")):
        with pytest.raises(WriteError, match="cannot write") as caught, Unfinished(out, PLAN):
            pass
        assert "\n" not in str(caught.value)


def test_the_journal_is_lines_of_json(tmp_path: Path) -> None:
    with Unfinished(tmp_path / "out.jsonl", PLAN) as unfinished:
        unfinished.add(b"abc\n", input_bytes=10, counts={"lines": 1})
        line = json.loads((unfinished.directory / "done.jsonl").read_text())
    assert line == {"input_bytes": 10, "rows_bytes": 4, "counts": {"lines": 1}}
