"""What answers look like, for the OpenAPI document alone: answers are made as bytes and never pass through here."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class _Answer(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class ErrorBody(_Answer):
    """What was wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class Error(_Answer):
    """Every refusal."""

    error: ErrorBody


class Model(_Answer):
    """A host."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class Models(_Answer):
    """All that may be asked for."""

    object: Literal["list"]
    data: list[Model]


class PromptDetails(_Answer):
    """Of the prompt's tokens."""

    cached_tokens: int
    """Of a session, that were not fed again."""


class UsageBody(_Answer):
    """Tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


class Top(_Answer):
    """One concept at one position."""

    id: str
    name: str
    level: int
    probability: float
    logit: float
    calibrated: bool
    grade: str


class Lenses(_Answer):
    """What lenses said: `content` has an entry a token, or null where it was dropped."""

    pack: str
    """The pack's identity."""
    coverage: dict[str, int]
    content: list[dict[str, Any] | None]
    prompt: list[dict[str, Any]] = []
    concepts: list[str] = []


class CompletionChoice(_Answer):
    """The choice."""

    index: Literal[0]
    text: str
    logprobs: dict[str, Any] | None
    finish_reason: Literal["stop", "length"]
    stop_reason: str | None = None
    lenses: Lenses | None = None


class Completion(_Answer):
    """A whole answer."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    seed: int
    choices: list[CompletionChoice]
    usage: UsageBody


class ChatMessage(_Answer):
    """The answer."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(_Answer):
    """The choice."""

    index: Literal[0]
    message: ChatMessage
    logprobs: dict[str, Any] | None
    finish_reason: Literal["stop", "length"]
    stop_reason: str | None = None
    lenses: Lenses | None = None


class ChatCompletion(_Answer):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    seed: int
    choices: list[ChatChoice]
    usage: UsageBody


class Tokenized(_Answer):
    """A text's tokens."""

    tokens: list[int]
    count: int
    max_model_len: int


class SessionOpened(_Answer):
    """A session that was opened."""

    id: str
    object: Literal["session"]
    model: str
    lease_s: float
    """Seconds without a turn after which it is over."""


class SessionClosed(_Answer):
    """A session that was closed."""

    id: str
    object: Literal["session"]
    deleted: Literal[True]


class Lens(_Answer):
    """One concept and what its lens's logits mean: probability = sigmoid(slope * logit + offset)."""

    id: str
    name: str
    level: int
    parent: str | None
    grade: str
    calibrated: bool
    slope: float
    offset: float


class LensList(_Answer):
    """All concepts in the order of score vectors."""

    object: Literal["list"]
    pack: str
    site: str
    hidden_size: int
    data: list[Lens]


class Scores(_Answer):
    """Logits, a row for each state, in the order of GET /v1/lenses."""

    pack: str
    scores: list[list[float | None]]


class HealthBody(_Answer):
    """Whether the server moves."""

    status: Literal["ok", "stalled"]
    detail: str | None = None


class ReadyBody(_Answer):
    """What is served, and whether a known text is scored as it was."""

    status: Literal["ready", "not ready"]
    model: str
    pack: str
    pack_name: str
    known_scores: str


EVENT_STREAM: dict[str, Any] = {
    "text/event-stream": {
        "schema": {"type": "string"},
    }
}
