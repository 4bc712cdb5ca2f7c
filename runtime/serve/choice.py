"""Answers in the two shapes of OpenAI's API: completions and chats, whole or in chunks. One choice each.

Beside what OpenAI's API has, a choice says why it was stopped (`stop_reason`: the rule, the deadline) and what lenses
said (`lenses`, see `shown`), and an answer says its `seed`.
"""

import secrets
from dataclasses import dataclass, field
from time import time
from typing import Any, Protocol

from runtime.serve.request import Chunk, Finish, TokenLogprob, Usage
from runtime.serve.shown import merged
from runtime.serve.wire import Part

_FINISH: dict[Finish, str] = {"stop": "stop", "rule": "stop", "length": "length", "deadline": "length"}
"""What OpenAI's API calls how it ended."""
_LEAST = -9999.0
"""What OpenAI's API says of a probability of 0."""


@dataclass(slots=True)
class Told:
    """What is told of some chunks in a row: one of a stream, all of a whole answer."""

    text: str = ""
    logprobs: list[tuple[TokenLogprob, tuple[TokenLogprob, ...]]] = field(default_factory=list)
    lenses: list[dict[str, Any]] = field(default_factory=list)
    finish: Finish | None = None
    detail: str = ""
    usage: Usage | None = None

    def add(self, chunk: Chunk, lenses: dict[str, Any] | None) -> None:
        """One more chunk; its event stays out, it is in `lenses` as far as it was asked for."""
        self.text += chunk.text
        if chunk.logprob is not None:
            self.logprobs.append((chunk.logprob, chunk.top_logprobs))
        if lenses is not None:
            self.lenses.append(lenses)
        if chunk.finish is not None:
            self.finish, self.detail, self.usage = chunk.finish, chunk.detail, chunk.usage

    @property
    def is_nothing(self) -> bool:
        """Whether there is nothing to tell: the text is held back, and nothing else was asked for."""
        return not (self.text or self.logprobs or self.lenses or self.finish)


class Shape(Protocol):
    """How one of the APIs says what is told."""

    whole: str
    """The name of the object that is a whole answer."""
    chunk: str
    """The name of the object that is a part of one."""

    def new_id(self) -> str:
        """An id that no other answer has."""

    def said(self, told: Told, *, is_whole: bool, is_first: bool) -> dict[str, Any]:
        """The text and its log-probabilities."""


class CompletionShape:
    """Of /v1/completions. Counts where in the text each token begins."""

    whole = chunk = "text_completion"

    def __init__(self) -> None:
        self._offset = 0

    def new_id(self) -> str:
        """An id that no other answer has."""
        return f"cmpl-{secrets.token_hex(12)}"

    def said(self, told: Told, *, is_whole: bool, is_first: bool) -> dict[str, Any]:
        """The text and its log-probabilities."""
        return {
            "text": Part.of("text", told.text),
            "logprobs": self._logprobs(told) if told.logprobs else None,
        }

    def _logprobs(self, told: Told) -> Part:
        offsets = []
        for own, _ in told.logprobs:
            offsets.append(self._offset)
            self._offset += len(own.text)
        return Part.of(
            "logprobs",
            {
                "tokens": [own.text for own, _ in told.logprobs],
                "token_logprobs": [_finite(own) for own, _ in told.logprobs],
                "top_logprobs": [{one.text: _finite(one) for one in best} for _, best in told.logprobs],
                "text_offset": offsets,
            },
        )


class ChatShape:
    """Of /v1/chat/completions."""

    whole, chunk = "chat.completion", "chat.completion.chunk"

    def new_id(self) -> str:
        """An id that no other answer has."""
        return f"chatcmpl-{secrets.token_hex(12)}"

    def said(self, told: Told, *, is_whole: bool, is_first: bool) -> dict[str, Any]:
        """The text and its log-probabilities."""
        text = Part.of("text", told.text)
        if is_whole:
            said: dict[str, Any] = {"message": {"role": "assistant", "content": text, "refusal": None}}
        else:
            said = {"delta": {"role": "assistant", "content": text} if is_first else {"content": text}}
        said["logprobs"] = None
        if told.logprobs:
            content = [
                _spelled(own) | {"top_logprobs": [_spelled(one) for one in best]}
                for own, best in told.logprobs
            ]
            said["logprobs"] = {"content": Part.of("logprobs", content), "refusal": None}
        return said


class Answer:
    """One answer: its head, and its choice from what is told."""

    def __init__(self, shape: Shape, model: str, seed: int) -> None:
        self._shape = shape
        self.id = shape.new_id()
        self._head = {"id": self.id, "created": int(time()), "model": model, "seed": seed}

    def whole(self, told: Told) -> dict[str, Any]:
        """The whole answer."""
        assert told.usage is not None, "the last chunk has it"
        choices = [self._choice(told, is_whole=True, is_first=True)]
        return self._object(self._shape.whole) | {"choices": choices, "usage": usage_json(told.usage)}

    def part(self, told: Told, *, is_first: bool) -> dict[str, Any]:
        """One chunk of the answer."""
        choices = [self._choice(told, is_whole=False, is_first=is_first)]
        return self._object(self._shape.chunk) | {"choices": choices}

    def usage(self, usage: Usage) -> dict[str, Any]:
        """The chunk behind the last one, where it was asked for."""
        return self._object(self._shape.chunk) | {"choices": [], "usage": usage_json(usage)}

    def _object(self, name: str) -> dict[str, Any]:
        return {"id": self._head["id"], "object": name} | self._head

    def _choice(self, told: Told, *, is_whole: bool, is_first: bool) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": 0} | self._shape.said(told, is_whole=is_whole, is_first=is_first)
        choice["finish_reason"] = None if told.finish is None else _FINISH.get(told.finish, "stop")
        if reason := stop_reason(told):
            choice["stop_reason"] = reason
        if told.lenses:
            choice["lenses"] = merged(told.lenses) if is_whole else told.lenses[0]
        return choice


def stop_reason(told: Told) -> str | None:
    """Why it ended, where OpenAI's API has no word for it."""
    if told.finish == "rule":
        return f"rule: {told.detail}"
    return "deadline" if told.finish == "deadline" else None


def usage_json(usage: Usage) -> dict[str, Any]:
    """Tokens as OpenAI's API counts them: those of a session that were not fed again are cached ones."""
    prompt = usage.prompt + usage.kept
    return {
        "prompt_tokens": prompt,
        "completion_tokens": usage.completion,
        "total_tokens": prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.kept},
    }


def _finite(of: TokenLogprob) -> float:
    return max(_LEAST, round(of.logprob, 6))


def _spelled(of: TokenLogprob) -> dict[str, Any]:
    # Half a character has no bytes of its own here: its text is the sign for that.
    spelled = None if "\ufffd" in of.text else list(of.text.encode())
    return {"token": of.text, "logprob": _finite(of), "bytes": spelled}
