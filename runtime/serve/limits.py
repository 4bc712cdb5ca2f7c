"""What one client may ask of the HTTP side, checked where it is said. The engine's own limits are in `config`."""

from dataclasses import dataclass

from lenses.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Limits:
    """All of them are met with a refusal that says which it was."""

    body_bytes: int = 16 * 2**20
    """Of one request."""
    body_s: float = 30.0
    """Seconds that a body may take to arrive."""
    prompt_tokens: int = 1 << 20
    """Of one request; the context is a limit too."""
    new_tokens: int = 1024
    """Of one request; also what a chat gets that does not say."""
    score_rows: int = 1024
    """States in one call of /v1/lenses/score."""
    rate_per_minute: float | None = None
    """Requests of one client's address; None: as many as they like."""
    stall_s: float = 30.0
    """Seconds without a step, while there is work, after which the server is not healthy."""

    def __post_init__(self) -> None:
        for name in ("body_bytes", "prompt_tokens", "new_tokens", "score_rows"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name.replace('_', ' ')} is {getattr(self, name)}; give 1 or more")
        for name in ("body_s", "stall_s", "rate_per_minute"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name.replace('_', ' ')} is {value:g}; give more than 0")
