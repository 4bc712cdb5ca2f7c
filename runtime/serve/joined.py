"""Scoring states for whoever sends some: calls that come while one is computed are computed together next.

There is no timer that holds a lone caller back. Every lens is scored for every state: what a walk would open depends on
a text, and these states have none. Each row is taken as a sequence of its own, so it is its own pool.

Shapes: R states of a call, D hidden size, N lenses.
"""

from collections import deque
from concurrent.futures import Future
from threading import Lock

import numpy as np

from lenses.bank import Bank
from lenses.errors import ConfigError
from lenses.lens import Floats
from lenses.pack import LensPack
from lenses.state import normalise


class JoinedScores:
    """Calls for scores, answered together."""

    def __init__(self, pack: LensPack) -> None:
        self._pack = pack
        self._bank: Bank | None = None
        self._calls: deque[tuple[Floats, Future[Floats]]] = deque()
        self._lock = Lock()
        self.calls = self.passes = 0
        """Calls answered, and how often lenses were gone through for them."""

    def ask(self, states_RD: Floats) -> "Future[Floats]":
        """Logits `[R, N]` in fp32, once they are there; raises ConfigError for rows of another size."""
        expected = self._pack.config.host.hidden_size
        if states_RD.ndim != 2 or states_RD.shape[1] != expected or not len(states_RD):
            raise ConfigError(
                f"states have the shape {list(states_RD.shape)}; give one or more rows of {expected} numbers"
            )
        if not np.isfinite(states_RD).all():
            raise ConfigError("states hold numbers that are not finite; leave those rows out")
        future: Future[Floats] = Future()
        with self._lock:
            self._calls.append((states_RD.astype(np.float32, copy=False), future))
        return future

    @property
    def waiting(self) -> int:
        """Calls that nobody has begun with."""
        return len(self._calls)

    def answer(self) -> None:
        """Answer all calls that wait, in one pass over the lenses."""
        with self._lock:
            calls = [call for call in self._calls if call[1].set_running_or_notify_cancel()]
            self._calls.clear()
        if not calls:
            return
        try:
            scores_PN = self._score(np.concatenate([states for states, _ in calls]))
        except Exception as error:
            for _, future in calls:
                future.set_exception(error)
            return
        ends = np.cumsum([len(states) for states, _ in calls])
        for (_, future), part in zip(calls, np.split(scores_PN, ends[:-1]), strict=True):
            future.set_result(part)
        self.calls += len(calls)
        self.passes += 1

    def _score(self, states_PD: Floats) -> Floats:
        if self._bank is None:
            self._bank = Bank(self._pack, range(len(self._pack.hierarchy.families)))
        return self._bank.score_base(self._bank.inputs(normalise(states_PD, self._pack.config.input)))

    def close(self) -> None:
        """End the bank; calls that wait are cancelled."""
        with self._lock:
            for _, future in self._calls:
                future.cancel()
            self._calls.clear()
        if self._bank is not None:
            self._bank.close()
