"""One picture of a monitored generation, as lines for a terminal: the text, tracked concepts, what is active.

A frame is one box in sections, with a line of help, a legend and the facts of the run under it. What is where
depends on the size of the terminal and on what was asked for, not on what the text turns out to be, so that
nothing moves while it is read. Knows nothing about screens, cursors or when to paint.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.text import Text

from lenses.text import one_line
from runtime.branches import GREY, TINT_FROM, Branches, Tint, format_probability, strongest_of
from runtime.flow import Flow
from runtime.session import Session
from runtime.transcript import Word
from runtime.trend import FAILED, NOT_SCORED, PROMPT_END, Trend
from runtime.wording import format_path, format_reading, special_name, visible

if TYPE_CHECKING:  # these import torch, which a picture need not wait for
    from runtime.events import Event

_CELLS_A_TOKEN = 5
"""How much of a line a token takes, spaces included: how high the text will be is guessed once."""
_VALUE = len("not scored")
_GAPS = {NOT_SCORED, FAILED, PROMPT_END}
_PARTS = " ▏▎▍▌▋▊▉"
_READ_AND_PREDICTED = (
    "italic: the prompt, as read · upright: as predicted",
    "italic: read · upright: predicted",
    "italic: read",
)
_NUMBERS = (
    "0.90 means: the evidence for it is 9 to 1 (0.50: none either way)",
    "0.90: the evidence for it is 9 to 1, 0.50: none",
    "0.90: evidence 9 to 1, 0.50: none",
)
_TYPICAL_FACTS = (
    "999/999 tokens",
    "99.9 ms a token (host 99.9, lenses 99.9)",
    "view 9.9 ms a token",
    "tier hits: hot 9999, warm 999, cold 999",
    "memory: hot 99.9 MiB of 512 MiB, warm 99.9 MiB of 2 GiB",
)
"""How long facts will be once there is something to say: the lines that they take are kept from the beginning."""


class Frame:
    """The picture of a session as it is now; events go in, lines come out."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._branches: Branches | None = None
        self._marks_scores = self._may_tint = False
        self._word: Word | None = None
        self._tints: dict[int, Tint] = {}
        self._text = _Paragraphs(session)
        self._facts_were: dict[int, int] = {}

    def add(self, event: Event) -> None:
        """Take an event in, or a later revision of one, which changes what its words show and nothing else."""
        if self._branches is None:
            self._branches = Branches(event.pack.hierarchy)
            vouched_N = event.pack.vouched_N
            self._marks_scores, self._may_tint = not vouched_N.all(), bool(vouched_N.any())
        words = self._session.add(event)
        strongest = strongest_of(event) if words else None
        alarms = self._session.alarms
        loud = words and alarms is not None and alarms.of(event)
        for word in words:
            if (
                word.text and not event.run.revision
            ):  # what is active before the end of the text would be the last thing to see
                self._word = word
            self._tints.pop(word.position, None)
            if strongest is not None:
                self._tints[word.position] = self._branches.tint(strongest.concept)
            self._text.alarmed.discard(word.position)
            if loud:
                self._text.alarmed.add(word.position)

    def lines(self, width: int, height: int | None, *, colours: bool) -> list[Text]:
        """The picture at this width; at most this high if a height is given, else with all of the text."""
        session, inner = self._session, max(1, width - 4)
        status = self._status(width)
        legend = [self._legend(width)] if colours else []
        help_line = [self._help(width)]
        text = self._text.flow(inner)
        if height is None:
            status = [line for line in status if line]
            text_rows, track_rows, rows = len(text.lines), len(session.trends), session.show
        else:
            # In a low terminal the words about the picture go first, the picture itself last.
            wanted = 2 + len(session.trends) + min(session.show, 3)
            spare = height - self._rules - wanted
            status = status[: max(1, spare)]
            help_line = help_line if spare > len(status) else []
            legend = legend if spare > len(status) + len(help_line) else []
            room = height - self._rules - len(status) - len(legend) - len(help_line)
            track_rows = max(0, min(len(session.trends), room - 2))
            rows = max(1, min(session.show, room - track_rows - 3))
            guessed = self._cells_in_the_end() // inner + 2
            text_rows = max(1, min(room - track_rows - rows, max(guessed, len(text.lines))))
        lines = [
            _rule("╭", session.title, "╮", width, _READ_AND_PREDICTED),
            *self._boxed(self._text.lines(inner, text_rows, self._word, self._tints), text_rows, width),
        ]
        if session.trends:
            hidden = len(session.trends) - track_rows
            title = f"tracked (no room for {hidden} of {len(session.trends)})" if hidden else "tracked"
            lines.append(_rule("├", title, "┤", width))
            lines += self._boxed(self._tracks(track_rows, inner), track_rows, width)
        lines.append(_rule("├", self._title(), "┤", width))
        lines += self._boxed(self._active(rows, inner), rows, width)
        lines.append(_rule("╰", "", "╯", width))
        lines += [*help_line, *legend, *status]
        return lines[:height]

    @property
    def _rules(self) -> int:
        return 4 if self._session.trends else 3

    def _cells_in_the_end(self) -> int:
        """About how many cells the text will have, so that what is below it need not move as it grows."""
        transcript = self._session.transcript
        read = sum(len(word.text) for word in transcript.words[: len(transcript.prompt)])
        return read + _CELLS_A_TOKEN * self._session.limit

    def _boxed(self, lines: Sequence[Text], rows: int, width: int) -> list[Text]:
        """Exactly `rows` lines between borders."""
        boxed = []
        for line in [*lines, *(Text() for _ in range(rows - len(lines)))][:rows]:
            line.truncate(max(1, width - 4), overflow="ellipsis", pad=True)
            boxed.append(_cut(Text.assemble(("│ ", GREY), line, (" │", GREY)), width))
        return boxed

    def _title(self) -> str:
        word = self._word
        if word is None:
            return "reading the prompt"
        text = visible(word.text).strip()
        name = f"“{text}”" if text else special_name(self._session.transcript.tokenizer, word.token)
        title = f"active as {name} is read" if word.is_read else f"active before {name} is written"
        pending = 0 if word.event is None else word.event.coverage.pending
        return f"{title}, {pending} lenses to come" if pending else title

    def _active(self, rows: int, width: int) -> list[Text]:
        """The most specific active concepts: bar, probability, path."""
        if self._word is None or self._word.event is None or self._branches is None:
            return []
        bar = 6 if width < 50 else 10 if width < 90 else 20
        lines = []
        alarms = self._session.alarms
        loud = alarms.of(self._word.event)[:rows] if alarms is not None else []
        names = {score.id for score in loud}
        rest = [score for score in self._word.event.leaves(rows) if score.id not in names]
        for score in [*loud, *rest][:rows]:
            line = Text()
            line.append(_bar(score.probability, bar), self._branches.tint(score.concept).colour)
            said = format_probability(score) + "!" * (score.id in names)
            line.append(f" {said:<5} ", "bold" * (score.id in names))
            line.append_text(format_path(self._branches.path(score.concept), width - line.cell_len))
            lines.append(line)
        return lines or [Text(f"not scored: {self._word.event.state}")]

    def _tracks(self, rows: int, width: int) -> list[Text]:
        """The tracked concepts: path, probability now, trend line."""
        trends = self._session.trends[:rows]
        paths = [[concept.name for concept in trend.path] for trend in trends]
        longest = max((Text(" > ".join(path)).cell_len for path in paths), default=0)
        name = min(longest, width // 3 if width < 50 else width * 2 // 5)
        return [self._track(trend, path, name, width) for trend, path in zip(trends, paths, strict=True)]

    def _track(self, trend: Trend, path: list[str], name: int, width: int) -> Text:
        line = format_path(path, name)
        line.pad_right(name - line.cell_len)
        gone = trend.last is not None and trend.last.score is None
        line.append(f" {format_reading(trend.last):<{_VALUE}} ", GREY if gone else "bold")
        colour = self._branches.tint(trend.concept).colour if self._branches else ""
        for is_gap, marks in groupby(trend.line(max(0, width - line.cell_len)), key=_GAPS.__contains__):
            line.append("".join(marks), GREY if is_gap else colour)
        return line

    def _help(self, width: int) -> Text:
        """What the numbers and marks mean, as much of it as has room in one line."""
        parts = []
        if self._session.rules:
            parts.append("underlined: a rule is met")
        if self._session.trends:
            parts += [f"{NOT_SCORED} not scored", f"{PROMPT_END} prompt ends"]
        if self._marks_scores:
            parts.append("? unmeasured or uncalibrated")
        if self._session.alarms is not None:
            parts.insert(0, "! alarm (word reversed)")
        while True:
            for lead in _NUMBERS:
                line = Text.assemble((" " + "   ".join([lead, *parts]), GREY))
                if line.cell_len <= width or (not parts and lead == _NUMBERS[-1]):
                    return _cut(line, width)
            parts.pop()

    def _legend(self, width: int) -> Text:
        """The branches that gave a word its colour, in the order in which they came; `+3` for three more."""
        if self._branches is not None and not self._may_tint:
            return _cut(Text(" no colours: no lens of this pack is calibrated and measured", GREY), width)
        tints = list(dict.fromkeys(self._tints.values()))
        lead = f" a word's colour, from {TINT_FROM:.2f}: " if width >= 80 else " "
        for count in range(len(tints), -1, -1):
            legend = Text.assemble((lead, GREY))
            for tint in tints[:count]:
                legend.append("■ ", tint.colour)
                legend.append(f"{tint.branch}  ", GREY)
            legend.append(f"+{len(tints) - count}" if count < len(tints) else "", GREY)
            legend.rstrip()
            if legend.cell_len <= width:
                return legend
        return _cut(legend, width)

    def _status(self, width: int) -> list[Text]:
        """The facts of the run; never fewer lines than before, or numbers that shrink would move the frame."""
        lines = _filled(self._session.facts(), width)
        typical = [*_TYPICAL_FACTS, *self._session.rule_facts()]
        were = self._facts_were.get(width) or len(_filled(typical, width))
        self._facts_were[width] = max(were, len(lines))
        lines += [""] * (self._facts_were[width] - len(lines))
        return [_cut(Text.assemble((line, GREY)), width) for line in lines]


class _Paragraphs:
    """The words of a session in lines, tinted."""

    def __init__(self, session: Session) -> None:
        self._words = session.transcript.words
        self.alarmed: set[int] = set()
        """Positions of words at which lenses alarm."""
        self._width = 0
        self._flow = Flow(1)
        self._starts: list[int] = []
        """Where each word begins in the flow's text."""

    def flow(self, width: int) -> Flow:
        """The text so far in lines of this width."""
        if width != self._width:
            self._width, self._flow, self._starts = width, Flow(width), []
        new = self._words[len(self._starts) :]
        at = len(self._flow.text)
        pieces = [visible(word.text) for word in new]
        for piece in pieces:
            self._starts.append(at)
            at += len(piece)
        self._flow.add("".join(pieces))
        return self._flow

    def lines(self, width: int, rows: int, now: Word | None, tints: dict[int, Tint]) -> list[Text]:
        """The last `rows` lines; the word of `now` stands out."""
        flow = self.flow(width)
        return [self._line(flow, *ends, now, tints) for ends in flow.lines[-rows:]]

    def _line(self, flow: Flow, start: int, end: int, now: Word | None, tints: dict[int, Tint]) -> Text:
        line = Text()
        index = max(0, bisect_right(self._starts, start) - 1)
        styled_to, style_was = start, None
        while start < end:
            word = self._words[index]
            until = self._starts[index + 1] if index + 1 < len(self._starts) else end
            tint = tints.get(word.position)
            is_met = word.event is not None and bool(word.event.met)
            is_loud = word.position in self.alarmed
            fonts = "italic" * word.is_read, "bold" * (word is now), "underline" * is_met, "reverse" * is_loud
            marks = (tint.colour if tint else "", *fonts)
            style = " ".join(filter(None, marks))
            if until > start and style != style_was:  # neighbours that look alike are one piece
                line.append(flow.text[styled_to:start], style_was)
                styled_to, style_was = start, style
            start, index = max(start, until), index + 1
        line.append(flow.text[styled_to:end], style_was)
        return line


def _rule(left: str, title: str, right: str, width: int, notes: Sequence[str] = ()) -> Text:
    """A line of the box with a title, and the first of the notes that leaves the title its room, or else some."""
    title = one_line(title)
    fitting = [n for n in notes if cell_len(title) + len(n) + 10 <= width]
    fitting = fitting or [n for n in notes if 16 + len(n) + 10 <= width]
    note = fitting[0] if fitting else ""
    name = Text(title)
    name.truncate(max(1, width - 6 - (len(note) + 4 if note else 0)), overflow="ellipsis")
    lead = Text.assemble(
        (f"{left}─", GREY), *([(" ", GREY), (name.plain, "bold"), (" ", GREY)] if title else [])
    )
    tail = f" {note} ─{right}" if note else f"─{right}"
    lead.append("─" * max(0, width - lead.cell_len - len(tail)) + tail, GREY)
    return _cut(lead, width)


def _filled(facts: Sequence[str], width: int) -> list[str]:
    """Facts as lines of at most `width` cells, broken between facts where that is possible."""
    lines = [""]
    for fact in facts:
        joined = f"{lines[-1]} · {fact}" if lines[-1] else f" {fact}"
        if len(joined) <= width:
            lines[-1] = joined
            continue
        flow = Flow(width - 1)
        flow.add(fact)
        folded = [f" {fact[start:end]}" for start, end in flow.lines]
        lines = [*lines, *folded] if lines[-1] else folded
    return lines


def _bar(share: float, width: int) -> str:
    """A bar of `width` cells, filled to this share with eighths of a cell."""
    eighths = round(share * width * 8)
    full, part = divmod(eighths, 8)
    return ("█" * full + (_PARTS[part] if part else "")).ljust(width)


def _cut(line: Text, width: int) -> Text:
    line.truncate(max(1, width), overflow="ellipsis")
    return line
