"""What a tokenizer said of the tokens of one run, so that its words can be spelled without it.

`Transcript` decodes a few ids at a time, always the same ones for the same text. What was answered is kept by what was
asked; a `RecordedTokenizer` answers so again, and stands wherever a host's tokenizer is asked about this run.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lenses.errors import RecordingError
from lenses.text import one_line
from runtime.transcript import TextPieces

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Words:
    """Answers of a tokenizer."""

    decoded: tuple[tuple[Ids, str], ...]
    """Ids and their text, special tokens left out."""
    names: tuple[tuple[int, str], ...]
    """What each id of the run is called."""


def words_of(tokenizer: Any, texts: Iterable[Sequence[int]]) -> Words:
    """What the tokenizer answers where these texts, as ids, are spelled token by token."""
    heard = _Heard(tokenizer)
    ids: dict[int, None] = {}
    for text in texts:
        pieces = TextPieces(heard)
        for token in text:
            pieces.add(token)
            ids[token] = None
    for token in ids:
        heard.decode([token], skip_special_tokens=True, clean_up_tokenization_spaces=False)
    names = ((token, str(tokenizer.convert_ids_to_tokens(token))) for token in ids)
    return Words(tuple(heard.answers.items()), tuple(names))


class _Heard:
    """A tokenizer whose answers are noted down."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.answers: dict[Ids, str] = {}

    def decode(self, ids: Sequence[int], **options: Any) -> str:
        answer: str = self._tokenizer.decode(ids, **options)
        self.answers[tuple(ids)] = answer
        return answer


class RecordedTokenizer:
    """Answers as the host's tokenizer did; raises RecordingError for what it was not asked."""

    def __init__(self, words: Words) -> None:
        self._decoded: Mapping[Ids, str] = dict(words.decoded)
        self._names: Mapping[int, str] = dict(words.names)

    def decode(self, ids: Sequence[int], **_: Any) -> str:
        """The text of one id, or of neighbours as `TextPieces` asks for them; special tokens are always left out."""
        return _found(self._decoded, tuple(ids))

    def convert_ids_to_tokens(self, token: int) -> str:
        """What the tokenizer calls this id."""
        return _found(self._names, token)


def _found(answers: Mapping[Any, str], question: Any) -> str:
    if question not in answers:
        raise RecordingError(
            f"the recording does not say how {one_line(question)} is spelled; load the host's tokenizer for that"
        )
    return answers[question]
