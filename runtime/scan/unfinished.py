"""What there is of a scan so far, in a hidden directory beside its output, so that it can go on where it was.

    .OUT.scan/plan.json    what is scanned with what: whoever goes on with another plan is told what differs
             rows.jsonl    the rows of all windows that are done, and perhaps some of the next
             done.jsonl    after each window a line: how many bytes of input and of rows that was, and the counts
             lock          held by the process that scans

1. A window's rows are appended and synced, then its line is: rows beyond the last line of `done.jsonl` are cut off when
   the scan goes on.
2. The finished rows (or what is made of them) take the name OUT by one rename, and the directory goes. Who is killed
   between the two finds no rows, and knows that the scan is over.

Knows nothing about what is scanned.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lenses.errors import ConfigError, WriteError
from lenses.files import PathLike, local_path, write_atomically
from lenses.text import one_line

_PLAN, _ROWS, _DONE, _LOCK = "plan.json", "rows.jsonl", "done.jsonl", "lock"


@dataclass(frozen=True, slots=True)
class Done:
    """How far a scan is: at the end of a window."""

    input_bytes: int = 0
    rows_bytes: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)


class Unfinished:
    """A scan on its way to `out`, as a context manager; what is there stays until `finish`.

    Raises WriteError where `out` cannot be written or somebody else scans to it, and ConfigError where the scan that
    is there has another `plan`.
    """

    def __init__(self, out: PathLike, plan: Mapping[str, Any]) -> None:
        self.out = Path(os.path.realpath(local_path(out)))
        self.directory = self.out.with_name(f".{self.out.name}.scan")
        self._plan = dict(plan)
        self.done = Done()
        """How far the scan was when this began, and is."""
        self.is_over = False
        """All is done and has its name already."""
        self._files = ExitStack()
        self._rows: FileIO
        self._journal: FileIO

    def __enter__(self) -> Self:
        if self.out.exists() and not self.out.is_file():
            raise WriteError(f"cannot write {one_line(self.out)}: it is no file; give the name of one")
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._take_lock()
            self._open()
        except OSError as error:
            self._files.close()
            raise self._failed(error) from error
        except BaseException:
            self._files.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()

    def add(self, rows: bytes, *, input_bytes: int, counts: Mapping[str, int]) -> None:
        """Keep the rows of one window, at whose end so many bytes of input are read; raises WriteError."""
        try:
            _write(self._rows, rows)
            self.done = Done(input_bytes, self.done.rows_bytes + len(rows), dict(counts))
            line = {"input_bytes": input_bytes, "rows_bytes": self.done.rows_bytes, "counts": dict(counts)}
            _write(self._journal, json.dumps(line).encode() + b"\n")
        except OSError as error:
            raise self._failed(error) from error

    def finish(self, convert: Callable[[Path, Path], None] | None = None) -> None:
        """Give the rows, or what `convert(rows, made)` makes of them, their name; raises WriteError."""
        rows = self.directory / _ROWS
        try:
            if not self.is_over:
                made = rows
                if convert is not None:
                    made = self.directory / "made"
                    convert(rows, made)
                    _sync(made)
                os.replace(made, self.out)
                _sync(self.out.parent)
                rows.unlink(missing_ok=True)
            shutil.rmtree(self.directory)
        except OSError as error:
            raise self._failed(error) from error

    def _take_lock(self) -> None:
        lock = self._files.enter_context((self.directory / _LOCK).open("wb"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise WriteError(
                f"cannot write {one_line(self.out)}: another scan is writing it; wait for that, or choose another name"
            ) from error

    def _open(self) -> None:
        plan, rows, journal = (self.directory / name for name in (_PLAN, _ROWS, _DONE))
        if plan.exists():
            self._check(json.loads(plan.read_bytes()))
            self.done = _last(journal)
            self.is_over = self.done.input_bytes == self._plan["input_bytes"] > 0 and not rows.exists()
        else:
            write_atomically(plan, json.dumps(self._plan, indent=1))
        if self.is_over:
            return
        self._rows = self._files.enter_context(rows.open("ab", buffering=0))
        self._rows.truncate(self.done.rows_bytes)
        self._journal = self._files.enter_context(journal.open("ab", buffering=0))
        self._journal.truncate(_whole_bytes(journal))

    def _check(self, found: Mapping[str, Any]) -> None:
        differing = [name for name in self._plan if found.get(name) != self._plan[name]]
        if differing:
            raise ConfigError(
                f"beside {one_line(self.out)} is an unfinished scan with another {', '.join(differing)}; type that one "
                f"again to go on with it, or remove {one_line(self.directory)}"
            )

    def _failed(self, error: OSError) -> WriteError:
        return WriteError(
            f"cannot write {one_line(self.out)}: {one_line(error.strerror or error)}; what is done is kept, type the "
            "same again to go on when that is mended"
        )


def _last(journal: Path) -> Done:
    """The last whole line of the journal."""
    lines = journal.read_bytes()[: _whole_bytes(journal)].splitlines() if journal.exists() else []
    return Done(**json.loads(lines[-1])) if lines else Done()


def _whole_bytes(journal: Path) -> int:
    """How long the journal is up to the end of its last whole line."""
    return journal.read_bytes().rfind(b"\n") + 1


def _write(file: FileIO, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
    os.fsync(file.fileno())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
