"""A switch for a server's joining of calls: with it off, every call for scores or tokens is answered alone.

The calls wait as they would, and are answered in the order in which they came.
"""

import asyncio
from typing import Any

from runtime.serve.joined import JoinedScores
from runtime.serve.service import Service
from runtime.serve.tokens import Tokens
from serving.additions import Addition, Record


class Joining:
    """The switch; on, as the server has it."""

    def __init__(self) -> None:
        self.is_on = True

    def install(self) -> Addition:
        """Put it in."""
        self._switch_scores()
        self._switch_tokens()
        return Addition(self._look, self._tell)

    def _look(self, service: Service) -> Record:
        joined: Any = service.scheduler._joined
        return {
            "is_on": self.is_on,
            "score": {"calls": joined.calls, "passes": joined.passes},
            "tokenize": {"calls": service.tokens.calls, "passes": service.tokens.passes},
        }

    def _tell(self, told: Record) -> None:
        self.is_on = bool(told["is_on"])

    def _switch_scores(self) -> None:
        plain = JoinedScores.answer

        def answer(joined: JoinedScores) -> None:
            later: list[Any] = []
            if not self.is_on:
                with joined._lock:
                    while len(joined._calls) > 1:
                        later.insert(0, joined._calls.pop())
            plain(joined)
            with joined._lock:
                joined._calls.extendleft(reversed(later))

        JoinedScores.answer = answer  # type: ignore[method-assign, assignment]

    def _switch_tokens(self) -> None:
        plain = Tokens._answer

        async def answer(tokens: Tokens) -> None:
            if self.is_on:
                await plain(tokens)
                return
            loop = asyncio.get_running_loop()
            try:
                while tokens._calls:
                    text, special, future = tokens._calls.pop(0)
                    (ids,) = await loop.run_in_executor(tokens._thread, tokens._encode, [text], special)
                    if not future.done():
                        future.set_result(ids)
            finally:
                tokens._work = None

        Tokens._answer = answer  # type: ignore[method-assign, assignment]
