"""How an event and a run look in a notebook: strings of HTML, shown where `event` or `monitor.events` ends a cell.

    an event    its most specific concepts, strongest first: a bar, a probability, the path from level 0 down
    a run       the text of every sequence, each word tinted by its strongest concept, which a tooltip names

Styles stand at each element and there is no script: notebooks drop both `<style>` and `<script>` of a file they do not
trust. Nothing is requested from anywhere. Tints are translucent, so that text keeps its own colour, light or dark.
Whatever comes from a pack or a tokenizer is escaped. Knows nothing about how a run came about.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING, Any

from lenses.grade import UNMEASURED
from lenses.text import is_plain, one_line
from runtime.branches import TINT_FROM, Branches, Tint, format_probability, strongest_of
from runtime.transcript import TextPieces

if TYPE_CHECKING:
    from runtime.events import Event, EventQueue, Score

_ROWS = 8
"""Concepts of an event that are shown."""
_NAMED = 3
"""Concepts that a word's tooltip names."""
_LATEST = 500
"""Positions of a run that are shown: a queue may hold a hundred thousand."""
_BAR_EM = 8
_ALPHA = "66"
"""Opacity of a tint, as the last two digits of a colour."""
_TEXT = "white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.7;max-width:60em"
_CELL = "text-align:left;border:0;padding:.1em .6em .1em 0"


def event_html(event: Event) -> str:
    """A compact table of the event's most specific concepts, each with a bar and its path."""
    branches = Branches(event.pack.hierarchy)
    rows = [_row(score, branches) for score in event.leaves(_ROWS)]
    what = f"position {event.position} of sequence {event.sequence} · {event.phase} · token {event.token}"
    if event.next_token is not None:
        what += f" → {event.next_token}"
    coverage = event.coverage
    count = f"{coverage.scored} of {coverage.expected} lenses scored" if coverage.expected else "not scored"
    if coverage.pending:
        count += f", {coverage.pending} to come"
    notes = [what, count if event.state == "ok" else f"{count}: {event.state}"]
    notes += [f"rule met: {met.rule}" for met in event.met]
    if event.failed:
        notes.append(f"could not be read: {', '.join(event.failed)}")
    table = f'<table style="border-collapse:collapse;border:0">{"".join(rows)}</table>' if rows else ""
    return f"<div>{_small(' · '.join(notes))}{table}</div>"


def run_html(events: EventQueue) -> str:
    """The text that the events tell, a paragraph a sequence, and the colours of the branches in it.

    A word of the prompt is tinted by its own row, a generated one by the row that predicted it. Without
    `events.tokenizer` a word is the number of its token.
    """
    kept = list(events)[-_LATEST:]
    if not kept:
        return f"<div>{_small('no events yet')}</div>"
    branches = Branches(kept[0].pack.hierarchy)
    legend: dict[Tint, None] = {}
    paragraphs = []
    by_sequence = sorted(kept, key=lambda event: event.sequence)  # stable: within a sequence the order stays
    for number, told in groupby(by_sequence, key=lambda event: event.sequence):
        words = _words(list(told), branches, events.tokenizer, legend)
        title = _small(f"sequence {number}") if by_sequence[0].sequence != by_sequence[-1].sequence else ""
        paragraphs.append(f'{title}<div style="{_TEXT}">{"".join(words)}</div>')
    notes = ["italic: read", f"coloured from {TINT_FROM:.2f}", "?: unmeasured or uncalibrated"]
    if events.tokenizer is None:
        notes.append("for words, monitor.attach(model, tokenizer)")
    if hidden := events.dropped + len(events) - len(kept):
        notes.append(f"{hidden:,} earlier events not shown")
    keys = "".join(
        f'<span style="background:{tint.colour}{_ALPHA};padding:0 .4em">{_safe(tint.branch)}</span> '
        for tint in legend
    )
    return f"<div>{''.join(paragraphs)}<div>{keys}{_small(' · '.join(notes))}</div></div>"


def _row(score: Score, branches: Branches) -> str:
    tint, (*above, name) = branches.tint(score.concept), branches.path(score.concept)
    full = f"height:.7em;width:{100 * score.probability:.1f}%;background:{tint.colour}"
    bar = f'<div style="width:{_BAR_EM}em;background:#8884"><div style="{full}"></div></div>'
    lead = _safe("".join(f"{part} > " for part in above))
    path = f'<span style="opacity:.65">{lead}</span>{_safe(name)}'
    cells = bar, format_probability(score), path
    shown = "".join(f'<td style="{_CELL}">{cell}</td>' for cell in cells)
    title = f"{score.id}, logit {score.logit:.3f}, {_graded(score)}"
    return f'<tr style="background:none" title="{_safe(title)}">{shown}</tr>'


def _words(
    events: Sequence[Event], branches: Branches, tokenizer: Any | None, legend: dict[Tint, None]
) -> Iterator[str]:
    """A span for every token that has text; the tints that occur are added to the legend."""
    pieces = None if tokenizer is None else TextPieces(tokenizer)
    for token, is_read, speaker in _spoken([event for event in events if event.state != "after_end"]):
        text = f"#{token} " if pieces is None else pieces.add(token)
        if not text:
            continue
        style, title = "font-style:italic;" if is_read else "", ""
        if speaker is not None and len(speaker.scored):
            best = speaker.leaves(_NAMED)
            named = [f"{score.concept.name} {format_probability(score)}" for score in best]
            above = " > ".join(branches.path(best[0].concept)[:-1])
            title = f' title="{_safe(", ".join(named) + (above and f"; under {above}"))}"'
        if strongest := strongest_of(speaker):
            tint = branches.tint(strongest.concept)
            legend[tint] = None
            style += f"background:{tint.colour}{_ALPHA};"
        style = f' style="{style}"' if style else ""
        yield f"<span{style}{title}>{_safe(text, one=False)}</span>"


def _spoken(events: Sequence[Event]) -> Iterator[tuple[int, bool, Event | None]]:
    """Every token of a sequence, whether it was read, and the event that speaks for it."""
    before: Event | None = None
    for event in events:
        is_read = event.phase == "prompt"
        yield event.token, is_read, event if is_read else before
        before = event
    if before is not None and before.next_token is not None:
        yield before.next_token, False, before


def _graded(score: Score) -> str:
    """How good the lens is, in words: what a mark at its probability stands for."""
    said = score.grade if score.grade == UNMEASURED else f"grade {score.grade}"
    return said if score.calibrated else f"{said}, uncalibrated"


def _small(text: str) -> str:
    return f'<div style="font-size:85%;opacity:.75">{_safe(text)}</div>'


def _safe(text: str, *, one: bool = True) -> str:
    """Text that means only itself in HTML, quotes of attributes included, without control characters."""
    lines = [text] if one else text.split("\n")
    return escape("\n".join(line if is_plain(line) else one_line(line) for line in lines))
