"""How long the engine's slowest tokens take, and whether its memory grows: over states that were recorded, all hot.

The engine and an empty loop as long as its median take turns, token by token, and the garbage collector runs as it
likes: the loop shows what of the tail is the machine's. Memory is the process's resident set, sampled as tokens go by;
it grows where the median of the last quarter lies above that of the second: in the first, caches still fill. A control
that keeps something of every token must be seen to grow.

Shapes: P states, D hidden size, T tokens.
"""

import mmap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
from measuring.idle import EmptyLoop
from measuring.samples import Summary

from lenses.lens import Floats
from runtime.engine import Engine

Record = dict[str, Any]

LEAK_BYTES = 16 * 2**10
"""What the control keeps of every token."""
FLAT_BYTES = 400
"""Growth in bytes a token up to which memory counts as flat: an event's scores take more."""
_SAMPLES = 200
_WARM_UP = 200
"""Tokens before the first sample of memory; so long, allocators still take what they will need."""


def measure_tail(engine: Engine, states_PD: Floats, tokens: int, advance: Callable[[], object]) -> Record:
    """Score so many tokens in turns with the empty loop; the states come round again and again."""
    for state_D in states_PD:
        engine.score(state_D[None], "generation")
    before = engine.cache.stats()
    tried_ms = _timed_ms(engine, states_PD, len(states_PD))
    engine_ms, loop_ms = [], []
    loop = EmptyLoop(float(np.median(tried_ms)))
    try:
        for at in range(tokens):
            state_1D = states_PD[at % len(states_PD)][None]
            start = time.perf_counter()
            engine.score(state_1D, "generation")
            between = time.perf_counter()
            loop.run()
            stop = time.perf_counter()
            engine_ms.append(1e3 * (between - start))
            loop_ms.append(1e3 * (stop - between))
            advance()
    finally:
        loop.close()
    after = engine.cache.stats()
    requests = after.generation.requests - before.generation.requests
    return {
        "engine": tail(engine_ms),
        "empty loop": tail(loop_ms),
        "requests": requests,
        "hot_rate": (after.generation.hot_hits - before.generation.hot_hits) / requests if requests else None,
    }


def tail(ms: Sequence[float]) -> Record:
    """The summary of some times, and p99 over the median."""
    found = Summary.of(ms)
    return {"ms": found.to_json(), "p99_to_median": found.p99 / found.median}


@dataclass(slots=True)
class Memory:
    """The resident set while something goes on; `sample` as it does."""

    bytes_T: list[int]
    tokens_T: list[int]

    def sample(self, token: int) -> None:
        """Look at the process now."""
        self.bytes_T.append(int(psutil.Process().memory_info().rss))
        self.tokens_T.append(token)

    def to_json(self) -> Record:
        """As one JSON object: growth in bytes a token, from the second quarter to the last."""
        quarters = np.array_split(np.array(self.bytes_T), 4)
        at = np.array_split(np.array(self.tokens_T), 4)
        grown = float(np.median(quarters[3]) - np.median(quarters[1]))
        growth = grown / float(np.median(at[3]) - np.median(at[1]))
        return {
            "samples": len(self.bytes_T),
            "first_mib": self.bytes_T[0] / 2**20,
            "last_mib": self.bytes_T[-1] / 2**20,
            "most_mib": max(self.bytes_T) / 2**20,
            "growth_bytes_a_token": growth,
            "flat": growth <= FLAT_BYTES,
            "tokens_T": self.tokens_T,
            "mib_T": [size / 2**20 for size in self.bytes_T],
        }


def measure_memory(
    engine: Engine, states_PD: Floats, tokens: int, advance: Callable[[], object], *, leak: bool = False
) -> Record:
    """Score so many tokens and sample memory; with `leak`, keep `LEAK_BYTES` of each, as the control does."""
    memory = Memory([], [])
    kept: list[mmap.mmap] = []
    every = max(1, tokens // _SAMPLES)
    for at in range(-min(_WARM_UP, tokens), tokens):
        engine.score(states_PD[at % len(states_PD)][None], "generation")
        if leak:
            kept.append(mmap.mmap(-1, LEAK_BYTES))
            kept[-1].write(b"\1" * LEAK_BYTES)
        if at >= 0 and at % every == 0:
            memory.sample(at)
        advance()
    for one in kept:
        one.close()
    return {"tokens": tokens} | memory.to_json()


def _timed_ms(engine: Engine, states_PD: Floats, tokens: int) -> list[float]:
    found = []
    for at in range(tokens):
        start = time.perf_counter()
        engine.score(states_PD[at % len(states_PD)][None], "generation")
        found.append(1e3 * (time.perf_counter() - start))
    return found
