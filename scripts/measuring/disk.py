"""Reading a file that is not in the page cache: how to get there, and how fast the disk itself is.

`evict` asks the kernel to forget the pages of a file, which needs no special right, and then looks (mincore) whether it
did: pages that are dirty, mapped by someone, or of a file system that lives in memory stay.

The disk's own speed for some ranges of a file is the faster of two plain ways to read them, in turns:

    buffered   pread through the page cache just emptied
    direct     pread past it (O_DIRECT), over the pages around each range; where the file system lets one

Both read into the same memory, which is touched before. What a disk behind the machine's own keeps in its memory cannot
be seen from here: repeated reads of one file may be faster than a first one.
"""

import ctypes
import mmap
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lenses.errors import ConfigError, SourceError
from lenses.text import one_line
from measuring.samples import Summary

Range = tuple[int, int]
"""Start in the file, and length."""


@dataclass(frozen=True, slots=True)
class Eviction:
    """What became of asking the kernel to forget a file."""

    path: Path
    pages: int
    left: int
    """Pages that are in memory still."""

    def check(self) -> None:
        """Raise SourceError unless all pages have left: a read that follows would not be a cold one."""
        if self.left:
            raise SourceError(
                f"{one_line(self.path.name)}: {self.left} of {self.pages} pages stay in the page cache, expected none; "
                "put the file on a disk (not in memory), and let nobody map or write it"
            )


def evict(path: Path) -> Eviction:
    """Drop a file from the page cache; raises SourceError where that cannot even be tried."""
    with _opened(path) as descriptor:
        os.fsync(descriptor)  # what is not written yet cannot be dropped
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    in_memory = cached_pages(path)
    return Eviction(path, len(in_memory), int(in_memory.sum()))


def cached_pages(path: Path) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """[pages of the file] which of them are in memory, as the kernel says."""
    with _opened(path) as descriptor:
        size = os.fstat(descriptor).st_size
        found: np.ndarray[tuple[int], np.dtype[np.uint8]] = np.zeros(-(-size // mmap.PAGESIZE), np.uint8)
        if not size:
            return found.astype(np.bool_)
        with mmap.mmap(descriptor, size, prot=mmap.PROT_READ) as mapped:
            view = np.frombuffer(mapped, np.uint8)
            address, answer = ctypes.c_void_p(view.ctypes.data), ctypes.c_void_p(found.ctypes.data)
            failed = ctypes.CDLL(None, use_errno=True).mincore(address, ctypes.c_size_t(size), answer)
            del view  # a map with views on it cannot be closed
        if failed:
            raise SourceError(
                f"{one_line(path.name)}: mincore says {os.strerror(ctypes.get_errno())}; use Linux"
            )
    return (found & 1).astype(np.bool_)


class DiskSpeed:
    """The disk's own time for cold reads of some ranges of one file, each sample after an eviction.

    `readers` threads take the ranges between them; give as many as the thing measured has.
    """

    def __init__(
        self,
        path: Path,
        ranges: Sequence[Range],
        *,
        readers: int = 1,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if not ranges or readers < 1:
            raise ConfigError(f"{len(ranges)} ranges for {readers} readers; give at least one of each")
        self._path, self._ranges, self._readers, self._clock = path, tuple(ranges), readers, clock
        self.size_bytes = sum(length for _, length in ranges)
        self._buffered_ms: list[float] = []
        self._direct_ms: list[float] = []
        self.direct_refused = ""
        """Why there are no direct reads; empty where there are."""

    def sample(self) -> None:
        """Read all ranges cold, once in each way; raises SourceError where the file does not leave the page cache."""
        self._buffered_ms.append(self._read_ms(os.O_RDONLY, self._ranges))
        if self.direct_refused:
            return
        try:
            self._direct_ms.append(
                self._read_ms(os.O_RDONLY | os.O_DIRECT, [_aligned(one) for one in self._ranges])
            )
        except OSError as error:
            self.direct_refused = one_line(error.strerror or error)

    @property
    def buffered_ms(self) -> Summary:
        """Milliseconds through the page cache."""
        return Summary.of(self._buffered_ms)

    @property
    def direct_ms(self) -> Summary | None:
        """Milliseconds past the page cache; None where the file system does not let one."""
        return Summary.of(self._direct_ms) if self._direct_ms else None

    @property
    def own_ms(self) -> float:
        """The disk's own time: the median of the faster way."""
        direct = self.direct_ms
        return min(self.buffered_ms.median, np.inf if direct is None else direct.median)

    def to_json(self) -> dict[str, object]:
        """As one JSON object for a report."""
        direct = self.direct_ms
        return {
            "size_bytes": self.size_bytes,
            "reads": len(self._ranges),
            "readers": self._readers,
            "own_ms": self.own_ms,
            "buffered_ms": self.buffered_ms.to_json(),
            "direct_ms": None if direct is None else direct.to_json(),
            "direct_refused": self.direct_refused,
        }

    def _read_ms(self, flags: int, ranges: Sequence[Range]) -> float:
        evict(self._path).check()
        with _opened(self._path, flags) as descriptor, ThreadPoolExecutor(self._readers) as pool:
            # A buffer a reader; anonymous maps begin at a page, as direct reads want it, and written pages exist.
            longest = max(length for _, length in ranges)
            buffers = [mmap.mmap(-1, max(1, longest)) for _ in range(self._readers)]
            for buffer in buffers:
                buffer.write(b"\1" * longest)
            shares = [ranges[reader :: self._readers] for reader in range(self._readers)]
            list(pool.map(len, shares))  # starts the threads
            begin = self._clock()
            for _ in pool.map(_read_all, [descriptor] * self._readers, shares, buffers):
                pass
            elapsed_ms = 1e3 * (self._clock() - begin)
            for buffer in buffers:
                buffer.close()
        return elapsed_ms


def _read_all(descriptor: int, ranges: Sequence[Range], buffer: mmap.mmap) -> None:
    size = os.fstat(descriptor).st_size
    with memoryview(buffer) as view:
        for start, length in ranges:
            done = 0
            while done < min(length, size - start):
                with view[done:length] as rest:
                    done += os.preadv(descriptor, [rest], start + done)


def _aligned(one: Range) -> Range:
    """The whole pages around a range."""
    start, length = one
    first = start // mmap.PAGESIZE * mmap.PAGESIZE
    return first, -(-(start + length - first) // mmap.PAGESIZE) * mmap.PAGESIZE


@contextmanager
def _opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    if not hasattr(os, "posix_fadvise"):
        raise SourceError("reading cold needs posix_fadvise, which this system has not; measure on Linux")
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC)
    except OSError as error:
        if flags & os.O_DIRECT:
            raise
        raise SourceError(
            f"{one_line(path)}: {one_line(error.strerror or error)}; give another file"
        ) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)
