"""Sessions: what the host and the lenses know of a sequence, kept from one turn to the next.

A session is in a slot while there is room; when a slot is wanted, the one that slept longest is parked in host memory,
within a budget; beyond that the one that slept longest is over. A turn names its session: an unknown one is refused,
since its text could only be guessed.

Knows nothing about how turns are generated.
"""

import secrets
from dataclasses import dataclass, field
from time import monotonic

from lenses.errors import ServerFull, SessionBusy, SessionNotFound
from lenses.text import quoted
from runtime.rows import Sequence as RowSequence
from runtime.serve.slots import Parked


@dataclass(slots=True, eq=False)
class Session:
    """One sequence between its turns, or in one."""

    id: str
    slot: int = -1
    """-1 while it is parked, or has read nothing yet."""
    parked: Parked | None = None
    parked_bytes: int = 0
    sequence: RowSequence | None = None
    token_ids: list[int] = field(default_factory=list)
    """What it is made of so far, in order: prompts and what was generated, end tokens aside."""
    pending: list[int] = field(default_factory=list)
    """Of these the last ones, which the host has not read yet."""
    is_busy: bool = False
    is_over: bool = False
    """Nobody can name it any more; its slot is free to take."""
    used_s: float = field(default_factory=monotonic)

    @property
    def length(self) -> int:
        """Tokens that the host has read."""
        return len(self.token_ids) - len(self.pending)


class Sessions:
    """All sessions by their ids; `lease_s` without a turn ends one."""

    def __init__(self, most: int, lease_s: float, parked_bytes: int) -> None:
        self._most, self.lease_s, self._budget_bytes = most, lease_s, parked_bytes
        self._sessions: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def parked_bytes(self) -> int:
        """What parked sessions take."""
        return sum(session.parked_bytes for session in self._sessions.values())

    def open(self) -> Session:
        """A new session; raises ServerFull."""
        if len(self._sessions) >= self._most:
            raise ServerFull(
                f"there are {self._most} sessions already; close one, or wait", self.lease_s / 10
            )
        session = Session(f"session-{secrets.token_hex(12)}")
        self._sessions[session.id] = session
        return session

    def get(self, id: str) -> Session:
        """The session of this id; raises SessionNotFound."""
        session = self._sessions.get(id)
        if session is None:
            raise SessionNotFound(
                f"there is no session {quoted(id)}: it was never opened, was closed, slept for more than "
                f"{self.lease_s:g} s or gave way to others; open a new one and send the whole text"
            )
        return session

    def take(self, id: str) -> Session:
        """The session for a turn of its own; raises SessionNotFound, SessionBusy."""
        session = self.get(id)
        if session.is_busy:
            raise SessionBusy(f"the session {quoted(id)} is in a turn; wait until that has ended")
        session.is_busy = True
        return session

    def drop(self, session: Session) -> None:
        """The session is over."""
        self._sessions.pop(session.id, None)
        session.is_over, session.parked, session.parked_bytes = True, None, 0

    def expired(self) -> list[Session]:
        """Those that nobody has used for the length of a lease."""
        before_s = monotonic() - self.lease_s
        return [s for s in self._sessions.values() if not s.is_busy and s.used_s < before_s]

    def sleepiest(self) -> Session | None:
        """Of those that sleep in a slot, the one that has slept longest."""
        asleep = [s for s in self._sessions.values() if not s.is_busy and s.slot >= 0]
        return min(asleep, key=lambda session: session.used_s, default=None)

    def park(self, session: Session, kept: Parked) -> list[Session]:
        """The session's memory is here now; those that are over because there is no room for all, itself perhaps."""
        session.slot, session.parked = -1, kept
        session.parked_bytes = sum(tensor.nbytes for part in kept for tensor in part)
        over = []
        parked = sorted((s for s in self._sessions.values() if s.parked is not None), key=lambda s: s.used_s)
        for one in parked:
            if self.parked_bytes <= self._budget_bytes:
                break
            if not one.is_busy:
                self.drop(one)
                over.append(one)
        return over
