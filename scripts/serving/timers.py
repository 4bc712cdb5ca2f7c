"""Where a server's time goes: its own functions, timed from outside. Sums are of one request at a time.

tokenise   texts to ids, with the way to its thread and back
queue      from the engine's taking of a request to the host's first forward
prefill    forwards over a prompt · decode: forwards of one token
lenses     rows to events: input states, scoring, fetching
draw       a token out of logits, its text, its event
"""

from collections.abc import Sequence
from time import perf_counter
from typing import Any

from runtime.reading import Reader
from runtime.serve.generation import Generation
from runtime.serve.scheduler import Scheduler
from runtime.serve.service import Service
from runtime.serve.tokens import Tokens
from serving.additions import Addition, Record

PARTS = ("tokenise", "queue", "prefill", "decode", "lenses", "draw")


class Timers:
    """Milliseconds since the server started, by part."""

    def __init__(self) -> None:
        self.ms = dict.fromkeys(PARTS, 0.0)
        self._taken_s: float | None = None

    def install(self) -> Addition:
        """Time the functions."""
        self._time_tokens()
        self._time_forwards()
        self._time(Reader, "read", "lenses")
        self._time(Generation, "draw", "draw")
        return Addition(self._look)

    def _look(self, _: Service) -> Record:
        return dict(self.ms)

    def _add(self, part: str, began_s: float) -> None:
        self.ms[part] += 1e3 * (perf_counter() - began_s)

    def _time(self, owner: type, name: str, part: str) -> None:
        plain = getattr(owner, name)

        def timed(*arguments: Any, **named: Any) -> Any:
            began_s = perf_counter()
            try:
                return plain(*arguments, **named)
            finally:
                self._add(part, began_s)

        setattr(owner, name, timed)

    def _time_tokens(self) -> None:
        for name in ("encode", "chat_text"):  # neither calls the other
            self._time_awaited(name)

    def _time_awaited(self, name: str) -> None:
        plain = getattr(Tokens, name)

        async def timed(*arguments: Any, **named: Any) -> Any:
            began_s = perf_counter()
            try:
                return await plain(*arguments, **named)
            finally:
                self._add("tokenise", began_s)

        setattr(Tokens, name, timed)

    def _time_forwards(self) -> None:
        plain_submit, plain_forward = Scheduler.submit, Scheduler._forward

        def submit(scheduler: Scheduler, request: Any) -> Any:
            self._taken_s = perf_counter()
            return plain_submit(scheduler, request)

        def forward(scheduler: Scheduler, first: int, token_BT: Sequence[Sequence[int]]) -> Any:
            began_s = perf_counter()
            if self._taken_s is not None:
                self.ms["queue"] += 1e3 * (began_s - self._taken_s)
                self._taken_s = None
            try:
                return plain_forward(scheduler, first, token_BT)
            finally:
                self._add("decode" if len(token_BT[0]) == 1 else "prefill", began_s)

        Scheduler.submit = submit  # type: ignore[method-assign, assignment]
        Scheduler._forward = forward  # type: ignore[method-assign, assignment]
