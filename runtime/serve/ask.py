"""What a client may send: bodies of requests, as OpenAI's API has them, and what is ours beside.

A parameter that would change the answer and is not supported is refused by its name. Those that change nothing in it
(`user`, `metadata` and so on) are taken and not read.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from runtime.rules import Rule
from runtime.serve.request import EventPolicy, LensWishes, Sampling

_TEXT_LENGTH = 1 << 24
Text = Annotated[str, Field(max_length=_TEXT_LENGTH)]
Short = Annotated[str, Field(min_length=1, max_length=512)]
TokenIds = Annotated[list[Annotated[int, Field(ge=0, le=2**31 - 1)]], Field(min_length=1)]


def _like(example: dict[str, Any]) -> ConfigDict:
    """With an example for the document."""
    return ConfigDict(json_schema_extra={"examples": [example]})


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class LensesBody(_Body):
    """What to tell of the lenses, at every token."""

    show: Annotated[int, Field(ge=0, le=1000)] = 5
    """Concepts that an entry names, the most probable first."""
    track: Annotated[list[Short], Field(max_length=64)] = []
    """Concepts that are scored and told at every token, by id."""
    rules: Annotated[list[Short], Field(max_length=64)] = []
    """Such as `animal.n.01 > 0.9 for 3 -> stop`."""
    alarm_budget: Annotated[float, Field(gt=0)] | None = None
    """Alarms per 1,000 tokens at the most."""
    prompt: bool = False
    """Whether the prompt's tokens have entries as well, in `lenses.prompt` of the first chunk."""
    policy: EventPolicy = "block"
    """For a client that reads slowly: wait, or drop the oldest entries (alarms and rules that are met never)."""
    run: bool = False
    """Whether an entry says where its families came from and what it took, which differs from run to run."""
    vectors: bool = False
    """Whether an entry holds all logits, as base64 of float16 in the order of `lenses.concepts`; NaN: not scored."""

    def wishes(self) -> LensWishes:
        """As the engine takes it; raises ConfigError for a rule that is none."""
        rules = tuple(map(Rule.parse, self.rules))
        return LensWishes(self.show, tuple(self.track), rules, self.alarm_budget, self.prompt, self.policy)


class StreamOptions(_Body):
    """Of a stream."""

    include_usage: bool = False
    """Whether a last chunk without choices has the usage."""
    include_obfuscation: bool = False
    """Not read: nothing is padded."""


class _Generation(_Body):
    """What completions and chats share."""

    model: Short | None = None
    """One of /v1/models; may be left out."""
    max_tokens: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """0 takes the most probable token; 1 if left out."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """Beyond OpenAI's API; 0: all tokens."""
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: Short | Annotated[list[Short], Field(max_length=16)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    lenses: LensesBody | None = None
    """Beyond OpenAI's API: what to tell of the lenses, in `lenses` of the choice. Nothing if left out."""
    session: Short | None = None
    """Beyond OpenAI's API: a session's id; then only what is new is sent."""
    deadline_s: Annotated[float, Field(gt=0, le=86_400)] | None = None
    """Beyond OpenAI's API: seconds after which the answer ends with what there is."""
    # Only as they are anyway.
    n: Literal[1] | None = None
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    presence_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None
    # Taken and not read.
    user: Short | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    @model_validator(mode="after")
    def _options_of_a_stream(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options are for streams; give stream as well, or leave them out")
        return self

    def sampling(self, seed: int) -> Sampling:
        """How tokens are drawn; `seed` is for who gave none."""
        return Sampling(
            1.0 if self.temperature is None else self.temperature,
            1.0 if self.top_p is None else self.top_p,
            self.top_k or 0,
            seed if self.seed is None else self.seed,
        )

    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class CompletionBody(_Generation):
    """Of POST /v1/completions."""

    model_config = _like({"prompt": "The dog", "max_tokens": 8, "lenses": {"show": 3}})

    prompt: Text | TokenIds | Annotated[list[Text], Field(min_length=1, max_length=1)]
    """A text, its token ids, or a list of one text. Of a session's turn only what is new."""
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    """Alternatives told beside each token's own log-probability."""
    best_of: Literal[1] | None = None
    echo: Literal[False] | None = None
    suffix: None = None

    @property
    def text_or_ids(self) -> str | list[int]:
        """The prompt."""
        first = self.prompt[0] if self.prompt else ""
        return first if isinstance(first, str) and isinstance(self.prompt, list) else self.prompt  # type: ignore[return-value]

    @property
    def alternatives(self) -> int | None:
        """As the engine takes it."""
        return self.logprobs

    @property
    def most_tokens(self) -> int | None:
        """Tokens to generate at the most, as OpenAI has it where nothing is said."""
        return 16 if self.max_tokens is None else self.max_tokens


class TextContent(_Body):
    """A piece of a message."""

    type: Literal["text"]
    text: Text


class Message(BaseModel):
    """One message of a chat. What an answer of ours has beside text may be sent back with it; it is not read."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[TextContent] | None = None

    def to_template(self) -> dict[str, str]:
        """As chat templates read it."""
        content = self.content or ""
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class TextFormat(_Body):
    """The only format that answers have."""

    type: Literal["text"]


class ChatBody(_Generation):
    """Of POST /v1/chat/completions."""

    model_config = _like(
        {"messages": [{"role": "user", "content": "The dog"}], "max_tokens": 8, "lenses": {"prompt": True}}
    )

    messages: Annotated[list[Message], Field(min_length=1, max_length=10_000)]
    """All of the chat; of a session's turn only what is new."""
    max_completion_tokens: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: TextFormat | None = None
    modalities: Annotated[list[Literal["text"]], Field(min_length=1, max_length=1)] | None = None

    @model_validator(mode="after")
    def _alternatives_of_something(self) -> Self:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs go with logprobs; give logprobs as well, or leave them out")
        return self

    @property
    def alternatives(self) -> int | None:
        """As the engine takes it."""
        return (self.top_logprobs or 0) if self.logprobs else None

    @property
    def most_tokens(self) -> int | None:
        """Tokens to generate at the most; None where nothing is said."""
        return self.max_completion_tokens or self.max_tokens


class TokenizeBody(_Body):
    """Of POST /v1/tokenize: a text or a chat."""

    model: Short | None = None
    prompt: Text | None = None
    messages: Annotated[list[Message], Field(min_length=1, max_length=10_000)] | None = None
    add_special_tokens: bool = True
    """Of a text. A chat has those of its template."""

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either prompt or messages")
        return self


class ScoreBody(_Body):
    """Of POST /v1/lenses/score, where it is JSON."""

    states: Annotated[list[list[float]], Field(min_length=1)]
    """Rows of the pack's hidden size."""


class SessionBody(_Body):
    """Of POST /v1/sessions, which may have none."""

    model: Short | None = None
