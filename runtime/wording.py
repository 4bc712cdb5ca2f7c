"""How words, probabilities and places in the hierarchy are spelled, wherever a person reads them.

Knows nothing about where they stand: plain lines and pictures say them in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from lenses.text import is_plain, one_line
from runtime.alarms import Alarms
from runtime.branches import GREY, format_probability
from runtime.rules import Met
from runtime.transcript import Word
from runtime.trend import Reading, Trend

_VALUE = len("not scored")


def format_word(
    word: Word, tokenizer: object, show: int, trends: Sequence[Trend] = (), alarms: Alarms | None = None
) -> str:
    """One plain line for a word: position, whether it was read or written, its text, its concepts.

    Tracked concepts stand before the others, each in a column of its own; those that alarm stand after them.
    """
    event = word.event
    assert event is not None, "a word is printed when its event came"
    concepts = ", ".join(f"{score.concept.name} {format_probability(score)}" for score in event.leaves(show))
    notes = [concepts or f"not scored: {event.state}"]
    if alarms is not None and (loud := alarms.of(event)):
        said = ", ".join(f"{score.concept.name} {format_probability(score)}" for score in loud)
        notes.append(f"[ALARM: {said}]")
    if event.coverage.pending:
        notes.append(f"[{event.coverage.pending} lenses to come]")
    if event.coverage.failed:
        notes.append(f"[{event.coverage.failed} lenses not scored: {', '.join(event.failed) or event.state}]")
    notes += [f"[{format_met(met)}]" for met in event.met]
    text = f"'{one_line(word.text)}'" if word.text else special_name(tokenizer, word.token)
    tracked = "".join(
        f"{trend.concept.name} {format_reading(trend.read(event)):<{_VALUE}} | " for trend in trends
    )
    return (
        f"{word.position:5d}  {'read ' if word.is_read else 'wrote'}  {text:<16}  {tracked}{' '.join(notes)}"
    )


def format_met(met: Met) -> str:
    """A rule that is met, in words."""
    run = f", {met.run} in a row" if met.run > 1 else ""
    return f"{'stopped by' if met.stops else 'met'}: {met.rule}{run}"


def format_reading(reading: Reading | None) -> str:
    """What a tracked concept has at one position; nothing before the first."""
    if reading is None:
        return ""
    if reading.score is None:
        return "failed" if reading.is_failed else "not scored"
    return format_probability(reading.score)


def format_path(names: Sequence[str], width: int) -> Text:
    """`top > ... > concept` in at most `width` cells: the middle is left out first, then all but the concept."""
    *above, name = names
    for dropped in range(len(above) + 1):
        kept = above if not dropped else [*above[:1], "…", *above[1 + dropped :]]
        if dropped == len(above):
            kept = ["…"] if above else []
        text = Text.assemble(("".join(f"{part} > " for part in kept), GREY), name)
        if text.cell_len <= width:
            return text
    text = Text(name)
    text.truncate(max(1, width), overflow="ellipsis")
    return text


def visible(text: str) -> str:
    """Text that a terminal may be given: control characters escaped, line ends kept."""
    return "\n".join(part if is_plain(part) else one_line(part) for part in text.split("\n"))


def special_name(tokenizer: object, token: int) -> str:
    """What a tokenizer calls a token that has no text."""
    return one_line(tokenizer.convert_ids_to_tokens(token))  # type: ignore[attr-defined]
