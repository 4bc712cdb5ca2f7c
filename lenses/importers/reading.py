"""Reading `.pt` files of strangers: another process unpickles (`lenses.importers.reader`), this one gets plain bytes.

A file that asks for anything but tensors is refused and runs nothing; one that takes the reading process down, or more
memory or time than is allowed, is unreadable, and the next file has a new process. It knows nothing of lenses.
"""

import hashlib
import json
import math
import os
import select
import signal
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from lenses.errors import SourceError
from lenses.text import one_line, quoted

_READER = Path(__file__).with_name("reader.py")
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_START_S = 120.0
_MOST_ENDS = 10
"""Reading processes that files may take down before reading is given up."""
_LONGEST_HEAD = 1 << 20
_PIPE_BYTES = 1 << 20
"""So that a file and its answer pass in one go, and the two processes wait for each other twice a file."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What reading one file may take."""

    file_bytes: int = 256 << 20
    """Of the file, and of the tensors in it."""
    address_bytes: int = 1 << 30
    """Of address space that the reading process may map while it reads."""
    cpu_s: int = 20
    wall_s: float = 120.0


class Refused(Exception):
    """A pickle that asks to call something: what it asks for, which was not called."""


class Unreadable(Exception):
    """A file that holds no state dict, or more than may be read: why."""


@dataclass(frozen=True, slots=True)
class StateDict:
    """The tensors of one file, fp32 or bf16, and the hash of the file's bytes."""

    tensors: dict[str, torch.Tensor]
    sha256: str


class Reader:
    """The reading process, started when the first file is read, and again after a file took it down.

    A context manager; leaving it ends the process. Not for several threads.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._process: subprocess.Popen[bytes] | None = None
        self._ends = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def read(self, path: Path) -> StateDict:
        """The tensors in a `.pt` file; raises Refused, Unreadable; SourceError where no file can be read."""
        data = self._bytes_of(path)
        process = self._process or self._start()
        deadline = time.monotonic() + self.limits.wall_s
        try:
            assert process.stdin is not None
            process.stdin.write(struct.pack("<Q", len(data)))
            process.stdin.write(data)
            process.stdin.flush()
            tensors = self._answer(process, deadline)
        except (BrokenPipeError, EOFError, TimeoutError) as error:
            why = self._why_it_ended(process, error)
            self._end()
            self._ends += 1
            if self._ends > _MOST_ENDS:
                raise SourceError(
                    f"{one_line(path)}: {self._ends} files have ended the process that reads them, this one too "
                    f"({why}); nothing was imported; look where these files come from"
                ) from error
            raise Unreadable(why) from error
        return StateDict(tensors, hashlib.sha256(data).hexdigest())

    def _bytes_of(self, path: Path) -> bytes:
        try:
            # A pipe would block here without O_NONBLOCK, which regular files ignore.
            with open(
                path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK | os.O_CLOEXEC)
            ) as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise Unreadable("not a regular file")
                if status.st_size > self.limits.file_bytes:
                    raise Unreadable(
                        f"{status.st_size} bytes long, at most {self.limits.file_bytes} are read"
                    )
                return file.read(self.limits.file_bytes + 1)
        except OSError as error:
            raise Unreadable(one_line(error.strerror or error)) from error

    def _start(self) -> subprocess.Popen[bytes]:
        limits = self.limits
        numbers = map(str, (limits.address_bytes, limits.cpu_s, limits.file_bytes))
        # -P: the importers beside the program are no modules of its own.
        command = [sys.executable, "-P", str(_READER), *numbers]
        self._process = process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pipesize=_PIPE_BYTES,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        try:
            self._answer(process, time.monotonic() + _START_S)
        except (EOFError, TimeoutError) as error:
            why = self._why_it_ended(process, error)
            self._end()
            raise SourceError(
                f"the process that reads files of tensors cannot be started: {why}; check that torch works: "
                "phoropter doctor"
            ) from error
        return process

    def _answer(self, process: subprocess.Popen[bytes], deadline: float) -> dict[str, torch.Tensor]:
        """The tensors that the process answers with; trusts nothing of what it says but its bytes."""
        (length,) = struct.unpack("<I", self._exactly(process, 4, deadline))
        if length > _LONGEST_HEAD:
            raise EOFError
        said: dict[str, Any] = json.loads(self._exactly(process, length, deadline))
        if "refused" in said:
            raise Refused(one_line(said["refused"]))
        if "unreadable" in said:
            raise Unreadable(one_line(said["unreadable"]))
        named = [
            (key, dtype, shape, _size_bytes(dtype, shape)) for key, dtype, shape in said.get("tensors", ())
        ]
        total_bytes = sum(size_bytes for *_, size_bytes in named)
        if total_bytes > self.limits.file_bytes:
            raise EOFError
        raw, at = self._exactly(process, total_bytes, deadline), 0
        tensors: dict[str, torch.Tensor] = {}
        for key, dtype, shape, size_bytes in named:
            if dtype not in _DTYPES:
                raise Unreadable(f"{quoted(key)} is {one_line(dtype)}, expected float32 or bfloat16")
            # In memory of its own: aligned, and let go when the tensor is.
            piece = raw[at : at + size_bytes] or bytearray(1)
            count = math.prod(shape)
            tensors[key] = torch.frombuffer(piece, dtype=torch.uint8)[:size_bytes].view(_DTYPES[dtype])
            tensors[key] = tensors[key][:count].view(shape)
            at += size_bytes
        return tensors

    def _exactly(self, process: subprocess.Popen[bytes], count: int, deadline: float) -> bytearray:
        """So many bytes of what the process says; raises EOFError where it ends before, TimeoutError."""
        assert process.stdout is not None
        descriptor = process.stdout.fileno()
        raw = bytearray(count)
        view, done = memoryview(raw), 0
        while done < count:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError
            read = os.readv(descriptor, [view[done:]])
            if not read:
                raise EOFError
            done += read
        return raw

    def _why_it_ended(self, process: subprocess.Popen[bytes], error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"took more than {self.limits.wall_s:g} s"
        with suppress(subprocess.TimeoutExpired):
            process.wait(1)
        code = process.poll()
        if code == -signal.SIGXCPU:
            return f"took more than {self.limits.cpu_s} s of CPU time"
        if code is None or code >= 0:
            return f"ended the process that read it (exit code {code})"
        return f"ended the process that read it (signal {-code})"

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):  # what was not sent yet
                    pipe.close()


def _size_bytes(dtype: str, shape: Sequence[int]) -> int:
    kind = getattr(torch, dtype, None)
    if not isinstance(kind, torch.dtype) or any(type(size) is not int or size < 0 for size in shape):
        raise EOFError  # no answer that our own program gives
    return math.prod(shape) * kind.itemsize
