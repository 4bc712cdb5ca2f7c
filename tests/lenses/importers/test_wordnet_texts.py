"""Sentences out of synsets: articles, plurals, casing, and that a text is a function of its seed and epoch."""

import pytest

from lenses.importers.wordnet import Synset
from lenses.importers.wordnet_texts import Texts

ARTIFACT, PERSON, FEELING, SUBSTANCE, ANIMAL = 6, 18, 12, 27, 5


def synset(
    *lemmas: str,
    told: str,
    pos: str = "n",
    topic: int = ARTIFACT,
    examples: tuple[str, ...] = (),
    above: tuple[str, ...] = (),
    instance: bool = False,
) -> Synset:
    return Synset(
        id=f"{lemmas[0].replace(' ', '_').lower()}.{pos}.01",
        pos=pos,
        offset=0,
        topic=topic,
        lemmas=lemmas,
        definition=told,
        examples=examples,
        hypernyms=above,
        is_instance=instance,
        is_common=True,
    )


COUNTED = [synset(f"box {n}", told="a wooden instrument that rings") for n in range(3)]
DRUM = synset("drum", "tympan", told="round instrument that is beaten", examples=("the drum rolled",))
PIPE = synset("pipe", told="hollow instrument that is blown", above=("drum.n.01",))


def texts(*synsets: Synset) -> Texts:
    return Texts({one.id: one for one in (*COUNTED, *synsets)})


@pytest.mark.parametrize(
    ("one", "sentence"),
    [
        (DRUM, "A drum is a round instrument that is beaten."),
        (synset("organ", told="any box with pipes"), "An organ is any box with pipes."),
        (synset("tuba", told="largest member of its kind"), "A tuba is the largest member of its kind."),
        (synset("hour", told="a time"), "An hour is a time."),
        (synset("union", told="a tie"), "A union is a tie."),
        (synset("umbrella", told="a roof"), "An umbrella is a roof."),
        (synset("one-seater", told="a car"), "A one-seater is a car."),
        (synset("FM receiver", told="a radio"), "An FM receiver is a radio."),
        (synset("Airedale", told="large terrier", topic=ANIMAL), "An Airedale is large terrier."),
        (synset("joy", told="state of being glad", topic=FEELING), "Joy is the state of being glad."),
        (synset("gold", told="yellow metal", topic=SUBSTANCE), "Gold is yellow metal."),
        (synset("trousers", told="garment for the legs"), "Trousers are garment for the legs."),
        (synset("Bach", told="German composer", topic=PERSON, instance=True), "Bach is a German composer."),
        (synset("coda", told="(music) the end of a piece"), "In music, a coda is the end of a piece."),
        (synset("mews", told="(usually plural) a lane"), "A mews is a lane."),
        (synset("eighth", told="the `last' of eight"), "An eighth is the 'last' of eight."),
        (synset("run", told="move fast", pos="v"), "To run is to move fast."),
        (synset("glad", told="full of joy", pos="a"), "Glad means full of joy."),
        (synset("gladly", told="with joy", pos="r"), "Gladly means with joy."),
        (synset("pH", told="a measure"), "A pH is a measure."),
    ],
    ids=lambda one: one.id if isinstance(one, Synset) else "",
)
def test_a_statement_reads_like_english(one: Synset, sentence: str) -> None:
    assert texts(one).statement(one) == sentence


def test_examples_become_sentences() -> None:
    one = synset("bell", told="a box", examples=("the bell rang", "did it ring?", "it rang;"))
    assert texts(one).sentences(one) == ("The bell rang.", "Did it ring?", "It rang.")


def test_a_text_depends_on_seed_and_epoch_and_on_nothing_else() -> None:
    some = texts(DRUM, PIPE)
    told = [some.document(DRUM, seed=0, epoch=epoch) for epoch in range(40)]
    assert told == [texts(DRUM, PIPE).document(DRUM, seed=0, epoch=epoch) for epoch in range(40)]
    assert len(set(told)) > 5
    assert told != [some.document(DRUM, seed=1, epoch=epoch) for epoch in range(40)]


def test_every_way_of_telling_is_used() -> None:
    some = texts(DRUM, PIPE)
    told = " / ".join(some.document(one, seed=0, epoch=epoch) for epoch in range(200) for one in (DRUM, PIPE))
    for phrase in (
        "A drum is a round instrument that is beaten. The drum rolled.",
        "The drum is a round instrument",
        "Drum, tympan: round instrument",
        "A tympan, or drum, is a round instrument",
        "A pipe is a kind of drum. It is a hollow instrument",
        "/ The drum rolled. /",
    ):
        assert phrase in told


def test_every_document_is_whole_sentences() -> None:
    some = texts(DRUM, PIPE)
    for epoch in range(100):
        told = some.document(DRUM, seed=0, epoch=epoch)
        assert told[0].isupper()
        assert told.endswith(".")
        assert "  " not in told


def test_a_walk_stays_among_the_synsets_given() -> None:
    pipe, flute = synset("pipe", told="a tube"), synset("flute", told="a pipe", above=("pipe.n.01",))
    held_out = synset("fife", told="a secret", above=("pipe.n.01",))
    some = Texts({one.id: one for one in (pipe, flute)})
    walks = [some.walk(flute, seed=0, epoch=epoch) for epoch in range(20)]
    assert any("\n" in walk for walk in walks)
    assert not any("secret" in walk for walk in walks)
    assert "secret" in Texts({one.id: one for one in (pipe, flute, held_out)}).document(
        held_out, seed=0, epoch=0
    )


def test_a_question_and_its_answer() -> None:
    question, answer = texts(DRUM).chat(DRUM, seed=0, epoch=1)
    assert question in ("What is a drum?", "What is a tympan?")
    assert answer.endswith(".")
    bach = synset("Bach", told="a composer", topic=PERSON, instance=True)
    assert texts(bach).chat(bach, seed=0, epoch=0)[0] == "Who is Bach?"
    run = synset("run", told="move fast", pos="v")
    assert texts(run).chat(run, seed=0, epoch=0)[0] == "What does to run mean?"
