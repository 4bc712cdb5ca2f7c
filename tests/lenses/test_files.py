"""Files and directories appear whole or not at all, and what a kill left behind is swept."""

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lenses import files
from lenses.errors import WriteError
from lenses.files import AtomicFile, atomic_directory, sweep, write_atomically


def dead_pid() -> int:
    """The id of a process that ran and is gone."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


def failing(number: int):
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def write_and_fail(path: Path, error: type[BaseException]) -> None:
    with AtomicFile(path) as file:
        file.write("one\n")
        raise error


def fill_and_fail(path: Path, error: type[BaseException]) -> None:
    with atomic_directory(path) as aside:
        (aside / "new").write_text("y")
        raise error


@pytest.mark.parametrize("data", ["text: é\n", b"\x00\xff", ""])
def test_a_written_file_holds_what_was_written_and_nothing_is_left_beside_it(tmp_path, data):
    write_atomically(tmp_path / "a", data)
    assert (tmp_path / "a").read_bytes() == (data.encode() if isinstance(data, str) else data)
    assert names(tmp_path) == ["a"]


def test_a_file_is_replaced_as_a_whole(tmp_path):
    (tmp_path / "a").write_text("a long old content")
    write_atomically(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "new"


def test_a_link_stays_a_link_when_its_file_is_written(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    write_atomically(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_a_file_is_not_seen_before_its_block_ends_and_every_line_is_in_the_temporary_file(tmp_path):
    with AtomicFile(tmp_path / "a") as file:
        file.write("one\n")
        (aside,) = tmp_path.iterdir()
        assert aside.name.startswith(f".a.tmp-{os.getpid()}-")
        assert aside.read_text() == "one\n"
        file.write("two\n")
    assert (tmp_path / "a").read_text() == "one\ntwo\n"


def test_ctrl_c_keeps_what_was_written(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write_and_fail(tmp_path / "a", KeyboardInterrupt)
    assert (tmp_path / "a").read_text() == "one\n"
    assert names(tmp_path) == ["a"]


def test_another_exception_removes_what_was_written_and_keeps_the_old_file(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(ZeroDivisionError):
        write_and_fail(tmp_path / "a", ZeroDivisionError)
    assert (tmp_path / "a").read_text() == "old"
    assert names(tmp_path) == ["a"]


def test_a_full_device_is_one_line_and_is_not_replaced(one_line):
    with pytest.raises(WriteError) as caught:
        write_atomically("/dev/full", "text\n")
    one_line(caught, "/dev/full", "No space left", "free some space")
    assert not Path("/dev/full").is_file()


def test_a_device_is_written_directly():
    write_atomically("/dev/null", "text\n")
    assert not Path("/dev/null").is_file()


def test_a_pipe_is_written_directly(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    received: list[str] = []
    reader = threading.Thread(target=lambda: received.append((tmp_path / "pipe").read_text()))
    reader.start()
    write_atomically(tmp_path / "pipe", "text\n")
    reader.join()
    assert received == ["text\n"]


@pytest.mark.parametrize(
    ("number", "advice"), [(errno.ENOSPC, "free some space"), (errno.EIO, "choose another place")]
)
def test_a_disk_that_fails_while_syncing_leaves_the_old_file(tmp_path, monkeypatch, one_line, number, advice):
    (tmp_path / "a").write_text("old")
    monkeypatch.setattr(files.os, "fsync", failing(number))
    with pytest.raises(WriteError) as caught:
        write_atomically(tmp_path / "a", "new")
    one_line(caught, str(tmp_path / "a"), os.strerror(number), advice)
    monkeypatch.undo()
    assert (tmp_path / "a").read_text() == "old"
    assert names(tmp_path) == ["a"]


def test_no_permission_is_one_line_before_anything_is_written(tmp_path, monkeypatch, one_line):
    monkeypatch.setattr(files.os, "open", failing(errno.EACCES))
    with pytest.raises(WriteError) as caught, AtomicFile(tmp_path / "a"):
        pytest.fail("the block must not run")
    one_line(caught, str(tmp_path / "a"), "Permission denied", "choose a place that you may write to")


def test_a_directory_in_the_place_of_a_file_is_refused_before_the_block(tmp_path, one_line):
    with pytest.raises(WriteError) as caught, AtomicFile(tmp_path):
        pytest.fail("the block must not run")
    one_line(caught, str(tmp_path), "is a directory", "add the name of a file")


def test_a_missing_directory_is_one_line(tmp_path, one_line):
    with pytest.raises(WriteError) as caught:
        write_atomically(tmp_path / "none" / "a", "text")
    one_line(caught, str(tmp_path / "none" / "a"), "No such file")


def test_a_directory_appears_when_its_block_ends(tmp_path):
    with atomic_directory(tmp_path / "deep" / "pack") as aside:
        (aside / "file").write_text("x")
        assert not (tmp_path / "deep" / "pack").exists()
    assert names(tmp_path / "deep") == ["pack"]
    assert (tmp_path / "deep" / "pack" / "file").read_text() == "x"


def test_a_directory_replaces_the_old_one_as_a_whole(tmp_path):
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "old").write_text("x")
    with atomic_directory(tmp_path / "pack") as aside:
        (aside / "new").write_text("y")
    assert names(tmp_path) == ["pack"]
    assert names(tmp_path / "pack") == ["new"]


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_a_block_that_fails_leaves_the_old_directory_alone(tmp_path, error):
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "old").write_text("x")
    with pytest.raises(error):
        fill_and_fail(tmp_path / "pack", error)
    assert names(tmp_path) == ["pack"]
    assert names(tmp_path / "pack") == ["old"]


def test_a_rename_that_fails_puts_the_old_directory_back(tmp_path, monkeypatch):
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "old").write_text("x")
    rename = os.rename

    def fail_once(source: Path, target: Path) -> None:
        if Path(target).name == "pack" and not Path(source).name.endswith(".old"):
            raise OSError(errno.EIO, "I/O error")
        rename(source, target)

    monkeypatch.setattr(files.os, "rename", fail_once)
    with pytest.raises(WriteError), atomic_directory(tmp_path / "pack"):
        pass
    assert names(tmp_path) == ["pack"]
    assert names(tmp_path / "pack") == ["old"]


def test_a_disk_that_is_full_in_the_block_is_one_line_and_leaves_nothing(tmp_path, one_line):
    with pytest.raises(WriteError) as caught, atomic_directory(tmp_path / "pack"):
        raise OSError(errno.ENOSPC, "No space left on device")
    one_line(caught, str(tmp_path / "pack"), "No space left", "free some space")
    assert names(tmp_path) == []


def test_a_file_in_the_place_of_a_directory_is_refused(tmp_path, one_line):
    (tmp_path / "pack").write_text("x")
    with pytest.raises(WriteError) as caught, atomic_directory(tmp_path / "pack"):
        pytest.fail("the block must not run")
    one_line(caught, str(tmp_path / "pack"), "a file of that name is in the way", "choose another")


def test_a_killed_writer_leaves_nothing_visible_and_is_swept_by_the_next(tmp_path):
    program = (
        "import os, signal, sys; from lenses.files import AtomicFile, atomic_directory\n"
        "with atomic_directory(sys.argv[1] + '/pack') as aside, AtomicFile(sys.argv[1] + '/log') as log:\n"
        "    (aside / 'half').write_text('x'); log.write('line\\n'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    left = names(tmp_path)
    assert [name[:9] for name in left] == [".log.tmp-", ".pack.tmp"]
    write_atomically(tmp_path / "other", "text")
    assert names(tmp_path) == ["other"]


def test_a_directory_caught_between_two_renames_is_put_back(tmp_path):
    pid = dead_pid()
    for suffix, content in ((".old", "old"), ("", "new")):
        (tmp_path / f".pack.tmp-{pid}-0123abcd{suffix}").mkdir()
        (tmp_path / f".pack.tmp-{pid}-0123abcd{suffix}" / content).write_text("x")
    sweep(tmp_path)
    assert names(tmp_path) == ["pack"]
    assert names(tmp_path / "pack") == ["old"]


def test_an_old_directory_is_removed_when_the_new_one_stands(tmp_path):
    (tmp_path / "pack").mkdir()
    (tmp_path / f".pack.tmp-{dead_pid()}-0123abcd.old").mkdir()
    sweep(tmp_path)
    assert names(tmp_path) == ["pack"]


def test_what_a_living_process_writes_and_what_only_looks_like_it_is_left_alone(tmp_path):
    kept = [f".a.tmp-{os.getpid()}-0123abcd", ".a.tmp", ".a.tmp-x-0123abcd", f"a.tmp-{dead_pid()}-0123abcd"]
    for name in kept:
        (tmp_path / name).write_text("x")
    sweep(tmp_path)
    assert names(tmp_path) == sorted(kept)


def test_sweeping_follows_no_link(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("x")
    (tmp_path / f".a.tmp-{dead_pid()}-0123abcd").symlink_to("precious")
    sweep(tmp_path)
    assert names(tmp_path) == ["precious"]
    assert names(tmp_path / "precious") == ["file"]


def test_sweeping_a_directory_that_is_not_there_does_nothing(tmp_path):
    sweep(tmp_path / "none")
