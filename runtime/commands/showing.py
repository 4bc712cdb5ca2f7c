"""How commands show a run, one that is generated or one that is replayed: views, events to a file, the page."""

import errno
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

if TYPE_CHECKING:
    from lenses.concept import Hierarchy
    from runtime.display import LiveView, PlainView
    from runtime.events import Event, Sink
    from runtime.page.contents import Shown
    from runtime.session import Session
    from runtime.trend import Trend

    class Source(Shown, Protocol):
        """A monitor, or a replay of what one saw."""

        def subscribe(self, sink: Sink) -> Callable[[], None]:
            """Have every event delivered to `sink`."""


Show = Annotated[int, typer.Option(help="How many concepts are shown.")]
Track = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CONCEPT",
        help="Show this concept always, by its id, with a trend line; may be given again. "
        "It does not change what is scored.",
    ),
]
AlarmBudget = Annotated[
    float | None,
    typer.Option(
        metavar="N",
        help="Mark alarms: concepts above thresholds such that over all lenses at most N alarms per 1,000 tokens "
        "are expected on texts that are of none of them. Lenses graded F or unmeasured never alarm.",
    ),
]
Jsonl = Annotated[
    str | None, typer.Option(metavar="FILE", help="Also write every event to FILE, one a line.")
]
Html = Annotated[
    str | None, typer.Option(metavar="FILE", help="Also write the run to FILE, as one page for a browser.")
]


def trends(hierarchy: "Hierarchy", track: Sequence[str] | None) -> "list[Trend]":
    """The concepts to track, each once though it may have two spellings; raises ConceptNotFound."""
    from runtime.trend import Trend

    tracked = [Trend(hierarchy, id) for id in track or []]
    return list({trend.concept.id: trend for trend in tracked}.values())


def show_run(
    source: "Source",
    session: "Session",
    events: "Generator[Event, None, None]",
    *,
    jsonl: str | None,
    html: str | None,
    facts: Sequence[tuple[str, str]],
) -> None:
    """Show events as they come and write them; leaves whole files and a whole terminal behind whatever happens."""
    from runtime.sink import JsonLines

    reader_gone = False
    with ExitStack() as stack:
        source.subscribe(session.pace)
        if jsonl is not None:
            source.subscribe(stack.enter_context(JsonLines(jsonl, show=session.show, alarms=session.alarms)))
        if html is not None:
            stack.enter_context(_page_at_the_end(html, source, session, facts))
        # Closed before the file is: the host's thread writes to it until it has ended.
        stack.enter_context(closing(events))
        try:
            with _view(session) as view:
                for event in events:
                    view.add(event)
        except BrokenPipeError:
            reader_gone = True  # no reason to lose the file
    if reader_gone:
        raise BrokenPipeError(errno.EPIPE, "the reader of the output has gone")


@contextmanager
def _page_at_the_end(
    path: str, source: "Source", session: "Session", facts: Sequence[tuple[str, str]]
) -> "Iterator[None]":
    """Write the page of the run when it is over, after Ctrl-C too; whether it can be written shows before."""
    from lenses.files import AtomicFile
    from runtime.page import format_page

    def page() -> str:
        return format_page(
            source,
            session.transcript,
            title=session.title,
            pace=session.pace,
            facts=facts,
            tracks=[trend.concept.id for trend in session.trends],
            alarms=session.alarms,
        )

    with AtomicFile(path) as file:
        try:
            yield
        except KeyboardInterrupt:
            file.write(page())
            raise
        file.write(page())


def _view(session: "Session") -> "LiveView | PlainView":
    from rich.console import Console

    from runtime.display import LiveView, PlainView

    console = Console(force_terminal=sys.stdout.isatty())
    draws = console.encoding.startswith("utf")  # frames and trend lines are not in ASCII
    if console.is_terminal and not console.is_dumb_terminal and draws:
        return LiveView(session, console)
    return PlainView(session, sys.stdout)
