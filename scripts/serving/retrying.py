"""One call, tried again while what went wrong may pass: an error of the server's, or a connection that ended.

What the client did wrong (4xx) is never tried again: it would be wrong once more. Waits grow and are jittered, attempts
are bounded. The only file here that knows stamina.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import stamina
import stamina.instrumentation

from serving.calls import Refused

T = TypeVar("T")
ATTEMPTS = 5
FIRST_WAIT_S, LONGEST_WAIT_S, JITTER_S = 0.01, 0.2, 0.02


@dataclass(slots=True)
class Tried:
    """How often one call was tried."""

    attempts: int = 0


def may_pass(error: Exception) -> bool:
    """Whether the same call may succeed later."""
    return error.status >= 500 if isinstance(error, Refused) else isinstance(error, OSError | EOFError)


@contextmanager
def unlogged() -> Iterator[None]:
    """Nothing is written of attempts that failed: a line each would be part of what is measured."""
    stamina.instrumentation.set_on_retry_hooks([])
    try:
        yield
    finally:
        stamina.instrumentation.set_on_retry_hooks(None)


async def persist(act: Callable[[], Awaitable[T]], tried: Tried, *, attempts: int = ATTEMPTS) -> T:
    """What `act` gives, tried up to so often; raises what the last attempt raised."""
    async for attempt in stamina.retry_context(
        on=may_pass,
        attempts=attempts,
        timeout=None,
        wait_initial=FIRST_WAIT_S,
        wait_max=LONGEST_WAIT_S,
        wait_jitter=JITTER_S,
    ):
        with attempt:
            tried.attempts += 1
            return await act()
    raise AssertionError("an attempt returns or raises")


def succeed(rate: float, attempts: int) -> float:
    """The share of calls that succeed within so many attempts, each of which breaks with this probability."""
    return float(1 - rate**attempts)


def mean_attempts(rate: float, attempts: int) -> float:
    """How often a call is tried on average then."""
    return float(sum(rate**before for before in range(attempts)))
