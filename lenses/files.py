"""Writing files and directories so that nobody ever sees half of one.

Everything is written aside, under a temporary name beside its target, synced, and renamed into place. It
knows nothing about what is written. A kill leaves a name like `.pack.tmp-4711-9f3ac2d1` behind; `sweep`
removes those whose process is gone, and every writer sweeps the directory that it writes into.

A directory that replaces another takes two renames (POSIX has no single one): the old directory steps aside
as `.pack.tmp-4711-9f3ac2d1.old`, and `sweep` puts it back when a kill came between the two.
"""

import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType
from typing import Self

from lenses.errors import WriteError
from lenses.text import one_line

PathLike = str | os.PathLike[str]

_TEMPORARY = re.compile(r"\.(?P<name>.+)\.tmp-(?P<pid>\d{1,10})-[0-9a-f]{8}(?P<old>\.old)?")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


def write_atomically(path: PathLike, data: bytes | str) -> None:
    """Writes `data` (text as UTF-8) to `path`, whole or not at all; raises WriteError."""
    with AtomicFile(path) as file:
        file.write(data)


class AtomicFile:
    """A context manager for a file that appears at `path` complete, on leaving the `with`.

    Text goes to the temporary file line by line, so that what was written can be followed and survives a
    failure of the writer's memory. A clean exit and Ctrl-C both keep what was written; any other exception
    removes it. A path that is a device or a pipe (`/dev/stdout`) has nothing to replace, and is written
    directly. Raises WriteError from entering, writing and leaving.
    """

    def __init__(self, path: PathLike) -> None:
        self.path = Path(os.path.realpath(path))
        self._aside: Path | None = None
        self._text: TextIOWrapper | None = None

    def __enter__(self) -> Self:
        with write_errors(self.path):
            if self.path.is_dir():
                raise WriteError(
                    f"cannot write {one_line(self.path)}: it is a directory; add the name of a file"
                )
            if _is_special(self.path):
                descriptor = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
            else:
                sweep(self.path.parent)
                self._aside = _aside(self.path)
                descriptor = os.open(self._aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            self._text = os.fdopen(descriptor, "w", encoding="utf-8", newline="\n", buffering=1)
        return self

    def write(self, data: bytes | str) -> None:
        """Appends text or bytes; a whole line of text is in the temporary file when this returns."""
        assert self._text is not None, "AtomicFile is written inside its with block"
        with write_errors(self.path):
            if isinstance(data, bytes):
                self._text.flush()
                self._text.buffer.write(data)
            else:
                self._text.write(data)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._text is not None
        try:
            with write_errors(self.path):
                if kind is None or issubclass(kind, KeyboardInterrupt):
                    self._text.flush()
                    if self._aside is not None:
                        os.fsync(self._text.fileno())
                        os.replace(self._aside, self.path)
                        self._aside = None
                        _sync_directory(self.path.parent)
        finally:
            with suppress(OSError):
                self._text.close()
            if self._aside is not None:
                self._aside.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: PathLike) -> Iterator[Path]:
    """Yields an empty directory to fill, which becomes `path` when the block ends without an exception.

    An existing directory at `path` is replaced as a whole. Raises WriteError for any OSError, the block's own
    included.
    """
    target = Path(os.path.realpath(path))
    with write_errors(target):
        if target.exists() and not target.is_dir():
            raise WriteError(
                f"cannot write {one_line(target)}: a file of that name is in the way; choose another"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep(target.parent)
        aside = _aside(target)
        aside.mkdir()
        try:
            yield aside
            _sync_tree(aside)
            _step_in(aside, target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def local_path(path: PathLike) -> Path:
    """`path` with `~` expanded; an unknown `~user` stays as it is, and is then no such file."""
    return Path(os.path.expanduser(path))


def sweep(directory: PathLike) -> None:
    """Removes what killed writers left in `directory`, and puts back a directory caught between two renames.

    Names of living processes are left alone. A directory that cannot be listed or changed is left as it is:
    sweeping is a courtesy, and what cannot be swept cannot be mistaken for a finished file either.
    """
    try:
        names = sorted(os.listdir(directory), reverse=True)  # `x.old` before `x`: put back, then remove
    except OSError:
        return
    for name in names:
        found = _TEMPORARY.fullmatch(name)
        if not found or _is_alive(int(found["pid"])):
            continue
        leftover, target = Path(directory, name), Path(directory, found["name"])
        with suppress(OSError):
            if found["old"] and not os.path.lexists(target):
                os.rename(leftover, target)
            elif leftover.is_dir() and not leftover.is_symlink():
                shutil.rmtree(leftover)
            else:
                leftover.unlink()


def _aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}")


def _step_in(aside: Path, target: Path) -> None:
    """Renames `aside` to `target`; what stood there steps aside first and is removed last."""
    old = aside.with_name(f"{aside.name}.old")
    if target.exists():
        os.rename(target, old)
    try:
        os.rename(aside, target)
    except OSError:
        if old.exists():
            os.rename(old, target)
        raise
    _sync_directory(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _sync_tree(directory: Path) -> None:
    for folder, _, names in os.walk(directory):
        for name in names:
            descriptor = os.open(os.path.join(folder, name), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        _sync_directory(Path(folder))


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_special(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def write_errors(target: Path) -> Iterator[None]:
    """Raises WriteError, which says what to do, for an OSError inside."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            advice = "free some space there, or choose another place"
        elif error.errno in _FORBIDDEN:
            advice = "choose a place that you may write to"
        else:
            advice = "choose another place"
        found = one_line(error.strerror or error)
        raise WriteError(f"cannot write {one_line(target)}: {found}; {advice}") from error
