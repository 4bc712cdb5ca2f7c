"""Named variants that take turns: every round runs each of them once, in an order drawn anew.

Drift of the machine then falls on all alike, and the samples of one round belong together (`comparing` pairs them).
What is timed runs without Python's garbage collector; it collects between the rounds, off the clock.

Shape: R rounds.
"""

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lenses.errors import ConfigError
from lenses.metrics import Doubles
from measuring.samples import Summary


@dataclass(frozen=True, slots=True)
class Variant:
    """One thing to be timed."""

    name: str
    run: Callable[[], Any]
    """What is timed."""
    prepare: Callable[[], object] | None = None
    """What is done before each run, off the clock: an eviction, a reset."""
    check: Callable[[Any], object] | None = None
    """Takes what each run returned, off the clock; raises where that is not what it must be."""

    def again(self) -> "Variant":
        """The same under another name: an A/A pair with this one, which shows what difference means nothing."""
        return replace(self, name=f"{self.name} (again)")


@dataclass(frozen=True, slots=True)
class Rounds:
    """The samples of variants that took turns."""

    ms: Mapping[str, Doubles]
    """[R] milliseconds of each variant, by round."""

    def __getitem__(self, name: str) -> Doubles:
        return self.ms[name]

    def summary(self, name: str) -> Summary:
        """The summary of one variant's milliseconds."""
        return Summary.of(self.ms[name])


def alternate(
    variants: Sequence[Variant],
    *,
    rounds: int,
    warm_up: int = 2,
    seed: int = 0,
    between: Callable[[], object] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Rounds:
    """Time each variant once a round, after some rounds of warm-up whose samples are thrown away.

    `between` is called before every timed round: where a floor is sampled, or a bar moved. Raises ConfigError.
    """
    names = [variant.name for variant in variants]
    if rounds < 1 or not names or len(set(names)) < len(names):
        raise ConfigError(
            f"{rounds} rounds of {', '.join(names) or 'nothing'}; give one or more, of different names"
        )
    order = np.random.default_rng(seed)
    ms = {name: np.zeros(rounds) for name in names}
    with collector_off():
        for round in range(-warm_up, rounds):
            if between is not None and round >= 0:
                between()
            gc.collect()
            for at in order.permutation(len(variants)):
                elapsed = _time(variants[at], clock)
                if round >= 0:
                    ms[variants[at].name][round] = 1e3 * elapsed
    return Rounds(ms)


def _time(variant: Variant, clock: Callable[[], float]) -> float:
    if variant.prepare is not None:
        variant.prepare()
    begin = clock()
    result = variant.run()
    elapsed = clock() - begin
    if variant.check is not None:
        variant.check(result)
    return elapsed


@contextmanager
def collector_off() -> Iterator[None]:
    """Run what is inside without the garbage collector, and leave it as it was found.

    What lives already is set aside (`gc.freeze`), so that a collection by hand in here looks at new objects only.
    """
    was_on, had_frozen = gc.isenabled(), gc.get_freeze_count()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        if not had_frozen:
            gc.unfreeze()
        if was_on:
            gc.enable()
