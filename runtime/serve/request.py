"""What somebody asks of the server, and what comes back: plain values, no tensors, nothing of HTTP."""

from dataclasses import dataclass, field
from typing import Literal

from runtime.events import Event
from runtime.rules import Rule

Finish = Literal["stop", "length", "rule", "cancelled", "deadline", "error"]
"""stop: an end token or a stop string · length: as many tokens as were asked for · rule: a rule stopped it."""
EventPolicy = Literal["block", "drop-oldest"]
"""What happens to events of a reader that is slower than the host: they wait (and so does the text), or the oldest go.
Events that raise an alarm or meet a rule never go."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn: as `generate` would with these settings."""

    temperature: float = 0.0
    """0 takes the most probable token."""
    top_p: float = 1.0
    top_k: int = 0
    """0: all tokens."""
    seed: int | None = None
    """Draws of this request alone; None: a seed is drawn, and told in the stream."""


@dataclass(frozen=True, slots=True)
class LensWishes:
    """What of the lenses somebody wants to see."""

    show: int = 5
    """Concepts an event names."""
    track: tuple[str, ...] = ()
    """Concepts that are scored and told at every position, whatever the walk opens."""
    rules: tuple[Rule, ...] = ()
    alarm_budget: float | None = None
    """Alarms per 1,000 tokens at the most, see `runtime.alarms`."""
    prompt: bool = False
    """Whether events of the prompt's positions are told as well."""
    policy: EventPolicy = "block"


@dataclass(frozen=True, slots=True)
class Request:
    """One sequence to generate."""

    token_ids: tuple[int, ...]
    """The prompt; of a session's turn only what is new."""
    max_new_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    """How many alternatives to tell beside each token's own log-probability; None: nothing."""
    lenses: LensWishes | None = None
    """None: no lens is shown to this client. The host runs as it would."""
    session: str | None = None
    client: str = ""
    """Whose request this is: clients take turns."""
    deadline_s: float | None = None
    """Seconds from submission after which it ends with what there is."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token's log-probability under the host's own distribution, before temperature."""

    token: int
    text: str
    logprob: float


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a request."""

    prompt: int
    """Fed in this turn."""
    kept: int
    """Of the session, that were not fed again."""
    completion: int
    dropped_events: int = 0


@dataclass(slots=True)
class Chunk:
    """What one step gave one request."""

    text: str = ""
    """New text; held back while it may be the beginning of a stop string or half a character."""
    token: int | None = None
    logprob: TokenLogprob | None = None
    top_logprobs: tuple[TokenLogprob, ...] = ()
    event: Event | None = None
    """Of the row that predicted `token`; None where none was asked for, or it was dropped."""
    prompt_events: tuple[Event, ...] = ()
    """In the first chunk, where they were asked for."""
    dropped: int = 0
    """Events that were dropped before this chunk, since the last one that told."""
    finish: Finish | None = None
    """In the last chunk, which every request gets exactly one of."""
    detail: str = ""
    """Of an error or a rule: what it was, in one line."""
    usage: Usage | None = None
    """In the last chunk."""
