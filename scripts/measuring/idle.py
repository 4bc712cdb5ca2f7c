"""An empty loop of a given length, as a control for tails: what it shows of slow runs is the machine's, not ours."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from lenses.errors import ConfigError
from measuring.loops import spin
from measuring.rounds import Variant

_TRIED = 200_000


class EmptyLoop:
    """Computes for about `target_ms` in as many threads as torch has, and touches no memory.

    Work that is split between threads waits for the slowest of them, so its control does that too.
    """

    def __init__(self, target_ms: float, *, clock: Callable[[], float] = time.perf_counter) -> None:
        if not target_ms > 0:
            raise ConfigError(f"an empty loop of {target_ms} ms; give more than 0")
        self.threads = max(1, torch.get_num_threads())
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="empty-loop")
        spin(1)  # compiles it
        tried_ms = []
        for _ in range(5):
            begin = clock()
            spin(_TRIED)
            tried_ms.append(1e3 * (clock() - begin))
        self.steps = max(1, round(_TRIED * target_ms / float(np.median(tried_ms))))

    def run(self) -> None:
        """Loop once, all threads."""
        for _ in self._pool.map(spin, [self.steps] * self.threads):
            pass

    def variant(self) -> Variant:
        """The loop as a variant that takes turns with what it is the control of."""
        return Variant("empty loop", self.run)

    def close(self) -> None:
        """End the threads; idempotent."""
        self._pool.shutdown()
