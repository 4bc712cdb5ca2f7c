"""What a server can be told about its engine, checked where it is said."""

from dataclasses import dataclass

from lenses.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """Limits of the engine; all of them are reached by refusing or waiting, never by running out of memory."""

    max_sequences: int = 32
    """Sequences whose keys and values are in memory: those that are generated, and sessions between turns."""
    max_context: int = 2048
    """Tokens of a sequence, prompt and generated, at the most."""
    kv_bytes: int = 4 * 2**30
    """Room for keys and values of all of them at their longest. Memory is taken as it is needed."""
    max_waiting: int = 256
    """Requests that may wait to begin; more are refused."""
    prefill_tokens: int = 256
    """Tokens of a prompt that are read at a time, between two steps of what is being generated."""
    max_sessions: int = 256
    session_lease_s: float = 600.0
    """Seconds without a turn after which a session is over."""
    session_bytes: int = 2**30
    """Room in host memory for sessions that gave up their place; beyond it the one that slept longest is over."""

    def __post_init__(self) -> None:
        for name in ("max_sequences", "max_context", "max_waiting", "prefill_tokens", "max_sessions"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name.replace('_', ' ')} is {getattr(self, name)}; give 1 or more")
        if self.session_lease_s <= 0 or self.session_bytes < 0:
            raise ConfigError(
                f"sessions have {self.session_lease_s:g} seconds and {self.session_bytes} bytes; give more than 0 "
                "seconds, and 0 bytes or more"
            )
