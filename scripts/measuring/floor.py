"""The memory floor: the least time in which this machine reads so many bytes, measured beside what is held against it.

Bandwidth drifts with the neighbours of a shared machine and with its clock. So `sample()` is called between the rounds
of the thing measured, in the same process (`rounds.alternate(..., between=floor.sample)`), and the floor is the median
over these samples. A sample reads more than 200 MB, far beyond any cache, in as many threads as torch has.

Weights that fit into a cache of the processor can be read faster than the floor says. And a sample drives them out of
that cache: what is measured after it finds its weights in memory, as it does when a host ran in between.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Self

import numpy as np
import torch

from measuring.loops import sum_words
from measuring.samples import Summary

READ_BYTES = 256 * 2**20


class MemoryFloor:
    """Reads a quarter of a gibibyte whenever it is asked to, and remembers how fast that was."""

    def __init__(self, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self.threads = max(1, torch.get_num_threads())
        self._clock = clock
        words = READ_BYTES // 8
        # Written, not zeroed: untouched pages would all be one page of zeros, which stays in the cache.
        self._words = np.arange(words, dtype=np.uint64)
        self._total = words * (words - 1) // 2 % 2**64
        cuts = [words * part // self.threads for part in range(self.threads + 1)]
        self._parts = [self._words[start:stop] for start, stop in pairwise(cuts)]
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="memory-floor")
        self._bytes_per_s: list[float] = []
        self.sample()
        self._bytes_per_s.clear()  # that one was warm-up: it compiled the loop and started the threads

    def sample(self) -> None:
        """Read everything once more."""
        begin = self._clock()
        total = sum(int(part) for part in self._pool.map(sum_words, self._parts)) % 2**64
        elapsed = self._clock() - begin
        assert total == self._total, "not everything was read"
        self._bytes_per_s.append(READ_BYTES / elapsed)

    @property
    def bytes_per_s(self) -> Summary:
        """Read bandwidth over all samples; the first to be taken is the caller's to take."""
        return Summary.of(self._bytes_per_s)

    def floor_ms(self, size_bytes: int) -> float:
        """The least milliseconds in which so many bytes are read, at the median bandwidth."""
        return 1e3 * size_bytes / self.bytes_per_s.median

    def to_json(self) -> dict[str, object]:
        """As one JSON object for a report."""
        return {
            "threads": self.threads,
            "read_bytes": READ_BYTES,
            "bytes_per_s": self.bytes_per_s.to_json(),
        }

    def close(self) -> None:
        """End the threads; idempotent."""
        self._pool.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
