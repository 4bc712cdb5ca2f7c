"""How a monitored generation is shown: a live view for terminals, plain lines for the rest, and tables.

Views are told events and decide when and where to paint; what a picture holds is `Frame`'s. They know nothing
about models, tiers or where events come from.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stderr
from io import StringIO
from threading import Event as Signal
from threading import Lock, Thread
from time import thread_time
from typing import IO, TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from runtime.frame import Frame
from runtime.screen import Screen
from runtime.session import Session
from runtime.wording import format_word

if TYPE_CHECKING:  # imports torch, which tables need not wait for
    from runtime.environment import Finding
    from runtime.events import Event

BUDGET_MS = 2.0
"""Processor time that the live view may take of a token; a frame that would go beyond waits for more tokens."""
_FRAME_S = 0.04
"""Frames are at least this far apart: an eye sees no more."""
_LOOK_S = 0.25
"""How often the terminal's size is looked at while nothing else happens."""


class PlainView:
    """A line a token, then a summary, for files and pipes: no escape codes, no boxes.

    A line of which lenses are to come says so, and is printed once more when they came: holding lines back until then
    would show nothing of a text while it is written.
    """

    def __init__(self, session: Session, out: IO[str]) -> None:
        self._session = session
        self._out = out

    def __enter__(self) -> PlainView:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or issubclass(kind, KeyboardInterrupt):
            self._print("; ".join(self._session.facts()))

    def add(self, event: Event) -> None:
        """Print the lines of the words that this event speaks for."""
        session = self._session
        for word in session.add(event):
            if event.state != "bos" or not word.is_read:
                self._print(
                    format_word(
                        word, session.transcript.tokenizer, session.show, session.trends, session.alarms
                    )
                )

    def _print(self, line: str) -> None:
        print(line, file=self._out, flush=True)


class LiveView:
    """The text growing, tinted, over panels of concepts; the last frame stays when it is over.

    A thread of its own paints, so that the last of a burst of events is painted too, and a terminal that
    changes its size while a slow host thinks. What others write to standard error meanwhile comes after it.
    """

    def __init__(
        self, session: Session, console: Console, *, clock_s: Callable[[], float] = thread_time
    ) -> None:
        self._session = session
        self._console = console
        self._clock_s = clock_s
        self._frame = Frame(session)
        self._screen = Screen(console)
        self._lock = Lock()  # held while the frame takes an event in or is read, not while writing
        self._news = Signal()
        self._over = Signal()
        self._view_ms = session.view_ms = 0.0
        self._thread: Thread | None = None
        self._error: BaseException | None = None
        self._aside = StringIO()
        self._redirected = redirect_stderr(self._aside)

    def __enter__(self) -> LiveView:
        try:
            self._screen.open()
            self.paint()
        except BaseException:
            self._screen.close()
            raise
        self._redirected.__enter__()
        # daemon: a terminal that takes no more must not keep the program from ending.
        self._thread = Thread(target=self._paint_all, name="phoropter-paint", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._over.set()
        self._news.set()
        try:
            if self._thread is not None:
                self._thread.join()
        finally:
            self._redirected.__exit__(None, None, None)
            self._screen.close()
            print(self._aside.getvalue(), end="", file=sys.stderr, flush=True)
        if kind is None or issubclass(kind, KeyboardInterrupt):
            self._raise_what_went_wrong()
            for line in self.frame(self._console.width, None):
                self._console.print(line, no_wrap=True, overflow="crop")

    def add(self, event: Event) -> None:
        """Take an event in; it is painted in a moment. Raises what went wrong with painting, if anything did."""
        self._raise_what_went_wrong()
        began_s = self._clock_s()
        with self._lock:
            self._frame.add(event)
        self._took(began_s)
        self._news.set()

    def frame(self, width: int, height: int | None) -> list[Text]:
        """The view at this width; at most this high if a height is given, else with all of the text."""
        colours = self._console.color_system is not None and not self._console.no_color
        with self._lock:
            return self._frame.lines(width, height, colours=colours)

    def paint(self) -> None:
        """Paint now, whatever the budget says."""
        began_s = self._clock_s()
        width, height = self._console.size
        self._screen.paint(self.frame(width, height), width, height)
        if self._session.events:  # the opening frame is part of starting up: no token waits for it
            self._took(began_s)

    @property
    def may_paint(self) -> bool:
        """Whether there is something to paint that the budget has room for."""
        if self._screen.is_stale:
            return True
        return self._news.is_set() and self._view_ms <= BUDGET_MS * self._session.events

    def _took(self, began_s: float) -> None:
        with self._lock:
            self._view_ms += (self._clock_s() - began_s) * 1e3
            self._session.view_ms = self._view_ms

    def _paint_all(self) -> None:
        try:
            while not self._over.wait(_FRAME_S):
                self._news.wait(_LOOK_S)
                if self.may_paint and not self._over.is_set():
                    self._news.clear()
                    self.paint()
        except BaseException as error:  # nothing is swallowed: whoever adds events raises it
            self._error = error

    def _raise_what_went_wrong(self) -> None:
        if self._error is not None:
            raise self._error


def progress_bars(**options: Any) -> Progress:
    """Bars on standard error for what is counted: a name, how much of it is done, the time that is left."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=Console(stderr=True), **options)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table: drawn on a terminal; elsewhere a line a row with tabs, as `cut` and `awk` like it."""
    if sys.stdout.isatty():
        table = Table(box=box.SIMPLE_HEAD)
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*map(Text, row))
        Console().print(table)
        return
    for row in [columns, *rows]:
        print("\t".join(row))


def print_findings(findings: Sequence[Finding]) -> None:
    """Print what a check-up found and how many problems that are: a table on a terminal, lines with tabs elsewhere."""
    count = {status: sum(finding.status == status for finding in findings) for status in _STATUS_STYLES}
    if sys.stdout.isatty():
        table = Table(box=box.SIMPLE_HEAD)
        for column in ("", "check", "found, and what to do"):
            table.add_column(column, overflow="fold")
        for finding in findings:
            style = _STATUS_STYLES[finding.status]
            said = Text(finding.found)
            if finding.advice:
                said.append(f"\n→ {finding.advice}", style)
            table.add_row(Text(finding.status, style), finding.check, said)
        Console().print(table)
    else:
        for finding in findings:
            print("\t".join(filter(None, (finding.status, finding.check, finding.found, finding.advice))))
    print(f"{_counted(count['problem'], 'problem')}, {_counted(count['warning'], 'warning')}")


_STATUS_STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def _counted(count: int, noun: str) -> str:
    return f"{count or 'no'} {noun}{'' if count == 1 else 's'}"
