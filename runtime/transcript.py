"""The words of one sequence as they are read and written, each with the event that speaks for it.

A word of the prompt has the event of its own row; a generated word has that of the row before it, which
predicted it. Knows nothing about terminals or colours; every view of a sequence starts here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from lenses.errors import ConfigError

if TYPE_CHECKING:
    from runtime.events import Event

_HALF = "\ufffd"
"""What a tokenizer decodes an unfinished character to."""


@dataclass(slots=True)
class Word:
    """One token of the text."""

    position: int
    token: int
    text: str
    """Its part of the text: empty for special tokens, and while a character is unfinished."""
    is_read: bool
    """Part of the prompt; else it was generated."""
    event: "Event | None" = None
    """The event that speaks for it; None where there is none, or not yet."""


class TextPieces:
    """Token ids in, pieces of text out: together they are the text that decoding all ids at once gives.

    A piece depends on its neighbours (a leading space, a character of several tokens), so each is the
    difference that its token makes to the decoding of the few before it.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._start = 0
        self._done = 0

    def add(self, token: int) -> str:
        """The text that this token adds; empty while a character is unfinished."""
        self._ids.append(token)
        before = self._decode(self._ids[self._start : self._done])
        after = self._decode(self._ids[self._start :])
        if after.endswith(_HALF) or len(after) <= len(before):
            return ""
        self._start, self._done = self._done, len(self._ids)
        return after[len(before) :]

    def _decode(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text


@dataclass(slots=True)
class Transcript:
    """Words of one sequence, begun with its prompt, continued by its events in order."""

    tokenizer: Any
    prompt: Sequence[int]
    """Token ids, BOS included where there is one."""
    words: list[Word] = field(default_factory=list, init=False)
    last: "Event | None" = field(default=None, init=False)
    """The latest event that has scores."""
    _pieces: TextPieces = field(init=False)

    def __post_init__(self) -> None:
        self._pieces = TextPieces(self.tokenizer)
        for token in self.prompt:
            self._append(token)

    @classmethod
    def of(cls, tokenizer: Any, events: "Iterable[Event]", *, sequence: int = 0) -> Self:
        """The words that the events of one sequence tell of, such as those in `monitor.events`.

        Raises ConfigError where the first ones are missing: the prompt's words are told by them alone.
        """
        by_position = {event.position: event for event in events if event.sequence == sequence}
        told = list(by_position.values())  # of two revisions the later one, in the place of the first
        if not told or told[0].position:
            found = f"begin at position {told[0].position}" if told else "are none"
            raise ConfigError(
                f"the events of sequence {sequence} {found}, expected 0; watch with prompt events, or give "
                "Transcript the prompt's tokens and add the events"
            )
        transcript = cls(tokenizer, [event.token for event in told if event.phase == "prompt"])
        for event in told:
            transcript.add(event)
        return transcript

    @property
    def generated(self) -> int:
        """How many tokens were generated so far."""
        return max(0, len(self.words) - len(self.prompt))

    def add(self, event: "Event") -> list[Word]:
        """Take one event in; returns the words that it speaks for, each complete.

        A later revision takes the place of the earlier one at the words that it speaks for.
        """
        if event.run.revision and (again := self._spoken_by(event)):
            for word in again:
                word.event = event
            if self.last is not None and self.last.position == event.position:
                self.last = event
            return again
        if len(event.scored):
            self.last = event
        if event.position == len(self.words):  # no event told of this token: `prompt_events` is off
            self._append(event.token)
        spoken = []
        if event.phase == "prompt":
            self.words[event.position].event = event
            spoken.append(self.words[event.position])
        if event.next_token is not None and event.position == len(self.words) - 1:
            word = self._append(event.next_token)
            word.event = event
            spoken.append(word)
        return spoken

    def _spoken_by(self, event: "Event") -> list[Word]:
        """The words that an earlier revision of the event speaks for: its own, the next one, or both."""
        words = self.words[event.position : event.position + 2]
        return [word for word in words if word.event is not None and word.event.position == event.position]

    def _append(self, token: int) -> Word:
        position = len(self.words)
        word = Word(position, token, self._pieces.add(token), is_read=position < len(self.prompt))
        self.words.append(word)
        return word
