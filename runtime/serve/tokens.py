"""Texts to token ids, in a thread of its own: a long text holds nobody else back.

Calls that come while one is computed are computed together next; no timer holds a lone one back.
"""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lenses.errors import PromptError
from runtime.generate import chat_text

_Call = tuple[str, bool, "asyncio.Future[list[int]]"]


class Tokens:
    """Tokenises for many callers in one event loop."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="phoropter-tokens")
        self._calls: list[_Call] = []
        self._work: asyncio.Task[None] | None = None
        self.calls = self.passes = 0
        """Texts tokenised, and how often the tokenizer was called for them."""

    async def prompt(self, text: str) -> list[int]:
        """Token ids of a text to go on from, with the special tokens that stand before a text; raises PromptError."""
        if not text.strip():
            raise PromptError("the prompt is empty; give some text to go on from")
        return await self.encode(text, special=True)

    async def chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Token ids of a chat up to where the answer begins; raises PromptError."""
        return await self.encode(await self.chat_text(messages), special=False)

    async def chat_text(self, messages: Sequence[Mapping[str, str]]) -> str:
        """A chat as its template writes it; raises PromptError."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, chat_text, self._tokenizer, messages)

    async def decode(self, token_ids: Sequence[int]) -> str:
        """The text of token ids, special tokens left out."""
        loop = asyncio.get_running_loop()
        text: str = await loop.run_in_executor(
            self._thread, lambda: self._tokenizer.decode(list(token_ids), skip_special_tokens=True)
        )
        return text

    async def encode(self, text: str, *, special: bool) -> list[int]:
        """Token ids of a text, with or without special tokens around it."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[int]] = loop.create_future()
        self._calls.append((text, special, future))
        if self._work is None:
            self._work = loop.create_task(self._answer())
        return await future

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _answer(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._calls:
                calls, self._calls = self._calls, []
                for special in {special for _, special, _ in calls}:
                    some = [(text, future) for text, asked, future in calls if asked == special]
                    ids = await loop.run_in_executor(
                        self._thread, self._encode, [text for text, _ in some], special
                    )
                    for (_, future), of_text in zip(some, ids, strict=True):
                        if not future.done():  # who asked may have gone
                            future.set_result(of_text)
        finally:
            self._work = None
            for _, _, future in self._calls:
                future.cancel()

    def _encode(self, texts: list[str], special: bool) -> list[list[int]]:
        self.calls += len(texts)
        self.passes += 1
        # verbose: the context is checked by the engine, against the model.
        ids: list[list[int]] = self._tokenizer(texts, add_special_tokens=special, verbose=False)["input_ids"]
        return ids
