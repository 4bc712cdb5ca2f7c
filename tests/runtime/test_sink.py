"""Every event is a line of JSON, and the file is whole whatever ends the run."""

import json
from pathlib import Path

import pytest

from lenses.errors import ConfigError, WriteError
from runtime.sink import JsonLines
from tests.watched import Watched, watch


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    return watch(tmp_path_factory.mktemp("pack") / "p")


def write(path: Path, watched: Watched, *, show: int = 4, ended_by: BaseException | None = None) -> None:
    with JsonLines(path, show=show) as sink:
        for event in watched.events[:10]:
            sink(event)
        if ended_by is not None:
            raise ended_by


def test_a_line_is_the_event(tmp_path: Path, watched: Watched) -> None:
    write(tmp_path / "out.jsonl", watched, show=3)
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(lines) == 10
    for line, event in zip(lines, watched.events, strict=False):
        assert line == event.to_json(3)
        assert list(line) == [
            *("sequence", "position", "phase", "token", "next_token", "state"),
            *("top", "scored", "coverage", "run"),
        ]
    assert [len(line["top"]) for line in lines] == [0] + [3] * 9, "BOS is not scored"
    assert list(lines[1]["top"][0]) == [
        *("id", "name", "level", "logit", "probability", "calibrated", "grade")
    ]


def test_ctrl_c_keeps_what_was_written(tmp_path: Path, watched: Watched) -> None:
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "out.jsonl", watched, ended_by=KeyboardInterrupt())
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(line)["position"] for line in lines] == list(range(10))


def test_an_error_leaves_no_file_and_keeps_the_one_before(tmp_path: Path, watched: Watched) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("before\n")
    with pytest.raises(ZeroDivisionError):
        write(path, watched, ended_by=ZeroDivisionError())
    assert path.read_text() == "before\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_line(watched: Watched) -> None:
    with pytest.raises(WriteError, match="cannot write /dev/full") as caught:
        write(Path("/dev/full"), watched)
    assert "\n" not in str(caught.value)


def test_showing_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="1 or more"):
        JsonLines(tmp_path / "out.jsonl", show=0)
