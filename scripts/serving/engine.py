"""Answers of the server's engine in this process: `phoropter serve` without HTTP, JSON and a process of its own."""

import asyncio
from time import perf_counter
from typing import Self

from lenses.errors import EngineFailed
from lenses.pack import LensPack
from runtime.events import Event
from runtime.host import Host
from runtime.serve.config import ServeConfig
from runtime.serve.request import LensWishes, Request
from runtime.serve.scheduler import Scheduler
from serving.answers import Answer, Entry


class EngineHere:
    """An engine and its host, as a context manager."""

    def __init__(self, host: Host, pack: LensPack, show: int, max_context: int) -> None:
        self._tokenizer, self._show = host.tokenizer, show
        self._scheduler = Scheduler(host, pack, ServeConfig(max_context=max_context))
        self._scheduler.start()

    def answer(self, prompt: str, new_tokens: int) -> Answer:
        """Greedy, at most so many tokens, in a session that is opened and closed; events of all positions."""
        return asyncio.run(self._answer(prompt, new_tokens))

    async def _answer(self, prompt: str, new_tokens: int) -> Answer:
        began_s = perf_counter()
        session = self._scheduler.open_session()
        ids = tuple(self._tokenizer(prompt)["input_ids"])
        wishes = LensWishes(show=self._show, prompt=True)
        tokens: list[int] = []
        events: list[Event] = []
        first_s = 0.0
        async for chunk in self._scheduler.submit(Request(ids, new_tokens, lenses=wishes, session=session)):
            if chunk.finish == "error":
                raise EngineFailed(chunk.detail)
            if chunk.token is not None:
                tokens.append(chunk.token)
                first_s = first_s or perf_counter()
            events += [*chunk.prompt_events, *([] if chunk.event is None else [chunk.event])]
        entries = tuple(Entry.of_event(event, self._show) for event in events)
        self._scheduler.close_session(session)
        return Answer(tuple(tokens), entries, 1e3 * (first_s - began_s), 1e3 * (perf_counter() - began_s))

    def close(self) -> None:
        """End the engine."""
        self._scheduler.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
