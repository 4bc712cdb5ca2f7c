"""Every word of a text has the event that speaks for it, and the pieces of text add up to the text."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from lenses.errors import ConfigError
from runtime.transcript import TextPieces, Transcript
from tests import hosts
from tests.watched import NEW_TOKENS, Watched, watch


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    return watch(tmp_path_factory.mktemp("pack") / "p")


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, so that most characters beyond ASCII take several."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=inner)


def test_a_prompt_word_has_its_own_row_and_a_generated_one_the_row_before(watched: Watched) -> None:
    transcript = watched.session().transcript
    for event in watched.events:
        transcript.add(event)
    by_position = {event.position: event for event in watched.events}
    assert len(transcript.words) == len(watched.prompt) + NEW_TOKENS
    assert transcript.generated == NEW_TOKENS
    for position, word in enumerate(transcript.words):
        assert word.position == position
        assert word.is_read == (position < len(watched.prompt))
        assert word.event is by_position[position if word.is_read else position - 1]
        if not word.is_read:
            assert word.event.next_token == word.token


def test_each_event_says_for_which_words_it_speaks(watched: Watched) -> None:
    transcript = watched.session().transcript
    spoken = [[word.position for word in transcript.add(event)] for event in watched.events]
    last = len(watched.prompt) - 1
    assert spoken[0] == [0]
    assert spoken[last] == [last, last + 1], "the last row of the prompt has predicted the first word"
    assert spoken[last + 1] == [last + 2]


def test_without_prompt_events_the_words_are_all_there(tmp_path: Path, watched: Watched) -> None:
    quiet = watch(tmp_path / "p", prompt_events="off")
    transcript = quiet.session().transcript
    for event in quiet.events:
        transcript.add(event)
    full = watched.session().transcript
    for event in watched.events:
        full.add(event)
    assert [word.token for word in transcript.words] == [word.token for word in full.words]
    assert transcript.words[len(quiet.prompt)].event is None, "no event told what predicted the first word"


def test_special_tokens_have_no_text(watched: Watched) -> None:
    words = Transcript(watched.tokenizer, [hosts.BOS, 30, hosts.EOS]).words
    assert [word.text for word in words] == ["", "the", ""]


@pytest.mark.parametrize("text", ["the violin is", "naïve café — 音楽 🎻!", "  two  spaces\nand a line"])
def test_pieces_add_up_to_the_text(text: str) -> None:
    tokenizer = byte_tokenizer()
    pieces = TextPieces(tokenizer)
    added = [pieces.add(token) for token in tokenizer(text)["input_ids"]]
    assert "".join(added) == text
    assert not any("\ufffd" in piece for piece in added), "half a character is never shown"


def test_pieces_of_words_keep_the_spaces_between_them(watched: Watched) -> None:
    pieces = TextPieces(watched.tokenizer)
    ids = watched.tokenizer("the dog sits")["input_ids"]
    assert [pieces.add(token) for token in ids] == ["", "the", " dog", " sits"]


def test_the_events_alone_tell_the_transcript(tmp_path: Path) -> None:
    watched = watch(tmp_path / "p", new_tokens=3)
    told = Transcript.of(watched.tokenizer, watched.events)
    begun = Transcript(watched.tokenizer, watched.prompt)
    for event in watched.events:
        begun.add(event)
    assert told.words == begun.words
    for events in (watched.events[1:], []):
        with pytest.raises(ConfigError, match=r"events of sequence 0 .* expected 0"):
            Transcript.of(watched.tokenizer, events)
