"""A switch for what a server tells of its lenses, which it scores all the same, and the time that making entries takes.

as it is   an entry of every token
nothing    none: the stream has its text, and no more
tenfold    every entry is made ten times, and told once: a cost that is planted
"""

from time import thread_time
from typing import Any

from runtime.serve import generate_routes
from runtime.serve.service import Service
from runtime.serve.shown import Shown
from serving.additions import Addition, Record

AS_IT_IS, NOTHING, TENFOLD = "as it is", "nothing", "tenfold"
TIMES = 10


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
        self._repeat_entries()
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

    def _repeat_entries(self) -> None:
        plain = Shown._entry

        def entry(shown: Any, event: Any, token: int) -> Any:
            self.entries += 1
            if self.mode == TENFOLD:
                totals = shown._totals
                for _ in range(TIMES - 1):
                    shown._totals = type(totals)()  # what is not told is not counted
                    plain(shown, event, token)
                shown._totals = totals
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
