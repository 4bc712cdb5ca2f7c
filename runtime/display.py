"""How a monitored generation looks: a live view for terminals, plain lines for the rest, and tables.

Views are told events and paint; they know nothing about models, tiers or where events come from; `branches` has
the colours.
Shown are the most specific concepts (`event.leaves`): the strongest are nearly always the most general ones.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from time import perf_counter
from typing import IO, TYPE_CHECKING

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from lenses.text import is_plain, one_line
from runtime.branches import TINT_FROM, Branches, Tint, format_probability, strongest_of
from runtime.session import Session
from runtime.transcript import Word

if TYPE_CHECKING:  # these import torch, which tables need not wait for
    from runtime.environment import Finding
    from runtime.events import Event

_FRAME_S = 0.04
"""Frames are at least this far apart: painting must not cost what it shows."""
_PARTS = " ▏▎▍▌▋▊▉"


class PlainView:
    """A line a token, then a summary, for files and pipes: no escape codes, no boxes."""

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
        for word in self._session.add(event):
            if event.state != "bos" or not word.is_read:
                self._print(format_word(word, self._session.transcript.tokenizer, self._session.show))

    def _print(self, line: str) -> None:
        print(line, file=self._out, flush=True)


class LiveView:
    """The text growing, tinted, over a panel of concepts; the last frame stays when it is over.

    It has the alternate screen, which makes resizing clean: a terminal that wraps lines anew moves them under
    whoever repaints in place.
    """

    def __init__(self, session: Session, console: Console) -> None:
        self._session = session
        self._console = console
        self._live = Live(self, console=console, screen=True, auto_refresh=False)
        self._branches: Branches | None = None
        self._word: Word | None = None
        self._tints: dict[int, Tint] = {}
        self._painted_s = 0.0

    def __enter__(self) -> LiveView:
        try:
            self._live.start(refresh=True)
        except BaseException:
            self._live.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._live.stop()
        if kind is None or issubclass(kind, KeyboardInterrupt):
            self._console.print(self.frame(self._console.width, None))

    def add(self, event: Event) -> None:
        """Take an event in, and paint unless that was done a moment ago."""
        if self._branches is None:
            self._branches = Branches(event.pack.hierarchy)
        for word in self._session.add(event):
            if word.text:  # what is active before the end of the text would be the last thing to see
                self._word = word
            strongest = strongest_of(event)
            if strongest is not None:
                self._tints[word.position] = self._branches.tint(strongest.concept)
        if perf_counter() - self._painted_s >= _FRAME_S:
            self._live.refresh()
            self._painted_s = perf_counter()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.frame(options.max_width, options.height or console.height)

    def frame(self, width: int, height: int | None) -> RenderableType:
        """The view at this width; at most this high if a height is given, else with all of the text."""
        session, inner = self._session, width - 4
        colours = self._console.color_system is not None and not self._console.no_color
        status = _status(session.facts(), width)
        legend = [self._legend(width)] if colours else []
        fixed = len(status) + len(legend) + 4
        rows = session.show if height is None else max(1, min(session.show, height - fixed - 1))
        lines = list(self._text().wrap(self._console, inner))
        if height is not None:
            room = max(1, height - fixed - rows)
            wanted = max(len(lines), min(room, self._lines_in_the_end(inner)))
            lines = lines[-min(room, wanted) :]
            lines.extend(Text() for _ in range(min(room, wanted) - len(lines)))
        hint = f"italic: read · coloured from {TINT_FROM:.2f}" if colours else "italic: read"
        text = _panel(Text(session.title), lines, width, subtitle=hint)
        return Group(text, self._concepts(width, rows), *legend, *status)

    def _lines_in_the_end(self, width: int) -> int:
        """About how many lines the text will have, so that what is below it need not move as it grows."""
        words = self._session.transcript.words
        cells_a_word = sum(len(word.text) for word in words) / max(1, len(words))
        most = len(self._session.transcript.prompt) + self._session.limit
        return int(1.2 * most * cells_a_word / width) + 1

    def _text(self) -> Text:
        text = Text(overflow="fold")
        for word in self._session.transcript.words:
            tint = self._tints.get(word.position)
            style = tint.colour if tint else ""
            text.append(visible(word.text), f"italic dim {style}" if word.is_read else style)
        return text

    def _concepts(self, width: int, rows: int) -> Panel:
        word, title, lines = self._word, Text("reading the prompt"), []
        if word is not None and word.event is not None and self._branches is not None:
            title = Text(f"active {'at' if word.is_read else 'before'} {_name(word, self._session)}")
            bar = 10 if width < 90 else 20
            for score in word.event.leaves(rows):
                line = Text(overflow="ellipsis", no_wrap=True)
                line.append(_bar(score.probability, bar), self._branches.tint(score.concept).colour)
                line.append(f" {format_probability(score):<5} ")
                path = self._branches.path(score.concept)
                line.append_text(format_path(path, width - 4 - line.cell_len))
                lines.append(line)
            if not lines:
                lines.append(Text(f"not scored: {word.event.state}"))
        lines.extend(Text() for _ in range(rows - len(lines)))
        return _panel(title, lines, width)

    def _legend(self, width: int) -> Text:
        legend = Text(" ", no_wrap=True, overflow="ellipsis")
        for tint in dict.fromkeys(self._tints.values()):
            legend.append("■ ", tint.colour)
            legend.append(f"{tint.branch}  ")
        legend.truncate(width, overflow="ellipsis")
        return legend


def format_word(word: Word, tokenizer: object, show: int) -> str:
    """One plain line for a word: position, whether it was read or written, its text, its concepts."""
    event = word.event
    assert event is not None, "a word is printed when its event came"
    concepts = ", ".join(f"{score.concept.name} {format_probability(score)}" for score in event.leaves(show))
    notes = [concepts or f"not scored: {event.state}"]
    if event.coverage.failed:
        notes.append(f"[{event.coverage.failed} lenses not scored: {', '.join(event.failed) or event.state}]")
    text = f"'{one_line(word.text)}'" if word.text else special_name(tokenizer, word.token)
    return f"{word.position:5d}  {'read ' if word.is_read else 'wrote'}  {text:<16}  {' '.join(notes)}"


def format_path(names: Sequence[str], width: int) -> Text:
    """`top > ... > concept` in at most `width` cells: the middle is left out first, then the top."""
    above = list(names[:-1])
    for dropped in range(len(above) + 1):
        kept = above if not dropped else [*above[:1], "…", *above[1 + dropped :]]
        if dropped == len(above):
            kept = ["…"] if above else []
        lead = "".join(f"{name} > " for name in kept)
        text = Text.assemble((lead, "dim"), names[-1])
        if text.cell_len <= width:
            return text
    text.truncate(max(1, width), overflow="ellipsis")
    return text


def visible(text: str) -> str:
    """Text that a terminal may be given: control characters escaped, line ends kept."""
    return "\n".join(part if is_plain(part) else one_line(part) for part in text.split("\n"))


def special_name(tokenizer: object, token: int) -> str:
    """What a tokenizer calls a token that has no text."""
    return one_line(tokenizer.convert_ids_to_tokens(token))  # type: ignore[attr-defined]


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


def _panel(title: Text, lines: Iterable[Text], width: int, subtitle: str | None = None) -> Panel:
    return Panel(
        Group(*lines),
        title=title,
        title_align="left",
        subtitle=subtitle,
        subtitle_align="right",
        box=box.ROUNDED,
        border_style="dim",
        width=width,
    )


def _name(word: Word, session: Session) -> str:
    text = visible(word.text).strip()
    return f"“{text}”" if text else special_name(session.transcript.tokenizer, word.token)


def _bar(share: float, width: int) -> str:
    """A bar of `width` cells, filled to this share with eighths of a cell."""
    eighths = round(share * width * 8)
    full, part = divmod(eighths, 8)
    return ("█" * full + (_PARTS[part] if part else "")).ljust(width, "·")


def _status(facts: list[str], width: int) -> list[Text]:
    """Facts as lines of at most `width` cells, broken between facts where that is possible."""
    lines = [""]
    for fact in facts:
        joined = f"{lines[-1]} · {fact}" if lines[-1] else f" {fact}"
        if len(joined) <= width or not lines[-1]:
            lines[-1] = joined
        else:
            lines.append(f" {fact}")
    return [Text(line, "dim", no_wrap=True, overflow="ellipsis") for line in lines]
