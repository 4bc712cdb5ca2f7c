"""The byte ledger: what was sent, by what it was sent for.

    ids      concept ids and token ids           vectors  score vectors
    text     what the model wrote                scores   of /v1/lenses/score
    events   what lenses said                    framing  everything else: heads of HTTP, chunks, JSON around it
    logprobs

Whoever writes a message counts its parts when the server's socket has taken it; `total` is counted at the socket itself
(see `server`), so framing is what is left, and nothing is missing.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Literal

Cause = Literal["ids", "text", "logprobs", "events", "vectors", "scores"]
CAUSES: tuple[Cause, ...] = ("ids", "text", "logprobs", "events", "vectors", "scores")


class Ledger:
    """Bytes out by cause, and bytes in. Used in the event loop alone."""

    def __init__(self) -> None:
        self._by_cause: Counter[Cause] = Counter()
        self.total = 0
        """Bytes written to sockets."""
        self.received = 0
        """Bytes read from sockets."""

    def add(self, counts: Mapping[Cause, int]) -> None:
        """The parts of a message that was sent."""
        self._by_cause.update(counts)

    def by_cause(self) -> dict[str, int]:
        """All of `total`, by cause."""
        named: dict[str, int] = {cause: self._by_cause[cause] for cause in CAUSES}
        # A message that is cut off by a client who leaves was counted in part: never less than nothing.
        return named | {"framing": max(0, self.total - sum(named.values()))}
