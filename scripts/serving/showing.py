"""A switch for what a server tells of its lenses, which it scores all the same, and the time that making entries takes.

as it is   an entry of every token
nothing    none: the stream has its text, and no more
slowed     making an entry takes a millisecond of the processor more: a cost that is planted
"""

from time import thread_time
from typing import Any

from runtime.serve import generate_routes
from runtime.serve.service import Service
from runtime.serve.shown import Shown
from serving.additions import Addition, Record

AS_IT_IS, NOTHING, SLOWED = "as it is", "nothing", "slowed"
PLANTED_MS = 1.0


class Showing:
    """The switch, and counters."""

    def __init__(self) -> None:
        self.mode = AS_IT_IS
        self.entries = 0
        self.making_ms = 0.0
        """From an event to what is told of it, and from there to the bytes of a message."""

    def install(self) -> Addition:
        """Put it in."""
        self._switch_parts()
        self._slow_entries()
        self._time_messages()
        return Addition(self._look, self._tell)

    def _look(self, _: Service) -> Record:
        return {"mode": self.mode, "entries": self.entries, "making_ms": self.making_ms}

    def _tell(self, told: Record) -> None:
        self.mode = str(told["mode"])

    def _switch_parts(self) -> None:
        plain = Shown.part

        def part(shown: Shown, chunk: Any, *, is_first: bool) -> Any:
            if self.mode == NOTHING:
                return None
            began_s = thread_time()
            told = plain(shown, chunk, is_first=is_first)
            self.making_ms += 1e3 * (thread_time() - began_s)
            return told

        Shown.part = part  # type: ignore[method-assign, assignment]

    def _slow_entries(self) -> None:
        plain = Shown._entry

        def entry(shown: Any, event: Any, token: int) -> Any:
            self.entries += 1
            if self.mode == SLOWED:
                until_s = thread_time() + PLANTED_MS / 1e3
                while thread_time() < until_s:
                    pass
            return plain(shown, event, token)

        Shown._entry = entry  # type: ignore[method-assign, assignment]

    def _time_messages(self) -> None:
        routes: Any = generate_routes  # where it is imported to, and looked up
        plain = routes.event

        def event(tree: Any) -> Any:
            began_s = thread_time()
            message = plain(tree)
            self.making_ms += 1e3 * (thread_time() - began_s)
            return message

        routes.event = event
