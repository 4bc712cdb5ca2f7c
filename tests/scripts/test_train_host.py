"""Training a host of a few thousand weights on a dictionary of our own: corpus, schedule, resume, what is written."""

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from host.corpus import Corpus, batches_of, encode, padded
from host.recipe import BOS, EOS, HOST_ID, Recipe, host_config, train_tokenizer
from hypothesis import given
from hypothesis import strategies as st
from train_host import Training, main, measure, next_token_loss, save_host
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, Gemma3ForCausalLM

from lenses.errors import ConfigError
from lenses.importers.wordnet import is_held_out, read_wordnet
from tests.wordnet_dict import Entry, write

TINY = Recipe(
    tokens=3000,
    vocabulary=300,
    hidden=64,
    blocks=2,
    feed_forward=64,
    context=256,
    batch_tokens=256,
    longest=128,
    warm_up_tokens=300,
)
COLOURS = ["red", "blue", "pale", "dark", "small", "tall", "old", "loud"]
THINGS = ["bell", "drum", "horn", "lute", "harp"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    entries = [Entry("thing", ["thing"], "whatever there is")]
    entries += [Entry(name, [name], f'a thing; "the {name} is here"', ["thing"], topic=6) for name in THINGS]
    entries += [
        Entry(
            f"{colour} {name}",
            [f"{colour} {name}"],
            f"a {name} that is {colour} number{n}x",
            [name],
            topic=6,
            common=n % 2 == 0,
        )
        for n, colour in enumerate(COLOURS)
        for name in THINGS
    ]
    return Corpus(read_wordnet(write(tmp_path_factory.mktemp("dict"), entries)), TINY)


@pytest.fixture
def make(corpus: Corpus, tmp_path: Path) -> Callable[..., Training]:
    def made(recipe: Recipe = TINY, work: str = "work") -> Training:
        return Training(recipe, corpus, tmp_path / work, torch.device("cpu"))

    return made


def test_the_rate_warms_up_stays_and_falls_to_nothing() -> None:
    recipe = Recipe(tokens=1000, warm_up_tokens=100, decay_share=0.3, rate=1.0)
    assert recipe.rate_at(0) == pytest.approx(0.01)
    assert recipe.rate_at(99) == recipe.rate_at(400) == recipe.rate_at(700) == 1.0
    assert recipe.rate_at(850) == pytest.approx(0.5)
    assert recipe.rate_at(1000) == 0.0


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"tokens": 0}, "tokens 0"),
        ({"decay_share": 0.0}, "decay share 0.0"),
        ({"longest": 2000}, "2000 tokens"),
        ({"hidden": 100}, "hidden 100"),
        ({"vocabulary": 200}, "vocabulary 200"),
    ],
)
def test_a_recipe_that_cannot_hold_is_refused(changes: dict[str, float], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        replace(Recipe(), **changes)


def test_no_training_text_tells_of_a_held_out_synset(corpus: Corpus) -> None:
    assert corpus.held_out
    assert not any(is_held_out(one) for one in corpus.training.values())
    told = "\n".join(text for epoch in range(5) for text in corpus.texts(epoch))
    for one in corpus.held_out:
        assert one.definition == "a thing" or one.definition not in told
    assert any(one.definition in told for one in corpus.training.values())


def test_every_epoch_has_every_training_synset_told_anew(corpus: Corpus) -> None:
    assert len(corpus.texts(0)) == len(corpus.training)
    assert corpus.texts(0) == corpus.texts(0)
    assert sorted(corpus.texts(0)) != sorted(corpus.texts(1))


def test_common_synsets_are_told_more_often_later_on(corpus: Corpus) -> None:
    common = sum(one.is_common for one in corpus.training.values())
    assert 0 < common < len(corpus.training)
    assert len(corpus.texts(TINY.common_from_epoch - 1)) == len(corpus.training)
    assert len(corpus.texts(TINY.common_from_epoch)) == len(corpus.training) + 3 * common


def test_the_tokenizer_gives_back_what_it_was_given(corpus: Corpus) -> None:
    tokenizer = train_tokenizer(corpus.texts(0), 300)
    for text in ("A red bell is a bell.", "  Größe 12, “q”\n", "violin"):
        ids = tokenizer(text)["input_ids"]
        assert ids[0] == BOS
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert len(tokenizer) <= 300


def test_the_chat_template_is_what_chats_are_trained_in(corpus: Corpus) -> None:
    tokenizer = train_tokenizer(corpus.texts(0), 300)
    asked = [{"role": "user", "content": "What is a bell?"}]
    text = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    assert text == "<bos><start_of_turn>user\nWhat is a bell?<end_of_turn>\n<start_of_turn>model\n"
    chats = Corpus.texts(_all_chat(corpus), 0)
    assert all(chat.startswith("<start_of_turn>user\n") and chat.endswith("<end_of_turn>") for chat in chats)


@torch.no_grad()
def loss_of(training: Training, ids_BT: torch.Tensor) -> tuple[float, int]:
    loss, count = next_token_loss(training.model, ids_BT)
    return float(loss), count


def _all_chat(corpus: Corpus) -> Corpus:
    copy = object.__new__(Corpus)
    copy.__dict__.update(corpus.__dict__, recipe=replace(TINY, walk_share=0.0, chat_share=1.0))
    return copy


def test_the_host_is_six_million_weights_of_gemma_3() -> None:
    with torch.device("meta"):
        model = Gemma3ForCausalLM(host_config(Recipe()))
    assert sum(one.numel() for one in model.parameters()) == 6_102_016
    assert model.config.host_id == HOST_ID
    assert model.config.sliding_window == 256


@given(lengths=st.lists(st.integers(2, 40), max_size=60), seed=st.integers(0, 9))
def test_batches_hold_every_document_once_and_are_small_enough(lengths: list[int], seed: int) -> None:
    documents = [[1] * length for length in lengths]
    batches = batches_of(documents, 80, order_seed=[seed])
    assert sorted(index for batch in batches for index in batch) == list(range(len(documents)))
    for batch in batches:
        assert len(batch) * max(lengths[index] for index in batch) <= 80


def test_a_document_learns_nothing_from_its_neighbours(make: Callable[..., Training], corpus: Corpus) -> None:
    training = make()
    documents = encode(training.tokenizer, corpus.texts(0)[:6], TINY.longest)
    assert all(ids[0] == BOS and ids[-1] == EOS for ids in documents)
    together, count = loss_of(training, padded(documents, range(6)))
    alone = [loss_of(training, padded(documents, [index])) for index in range(6)]
    assert count == sum(len(ids) - 1 for ids in documents) == sum(one for _, one in alone)
    assert together == pytest.approx(sum(loss for loss, _ in alone), rel=1e-3)


def test_training_lowers_the_loss(make: Callable[..., Training]) -> None:
    training = make()
    ids_BT = next(make(work="other")._batches())
    before = loss_of(training, ids_BT)[0]
    training.run(save_every_s=1000)
    assert loss_of(training, ids_BT)[0] < 0.7 * before
    assert training.position.tokens_seen >= TINY.tokens


def test_a_stopped_run_goes_on_as_if_it_had_not_been(
    make: Callable[..., Training], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make(work="whole")
    whole.run(save_every_s=1000)

    stopped = make()
    step = stopped._step

    def interrupted(ids_BT: torch.Tensor) -> float:
        if stopped.position.step == 3:
            signal.raise_signal(signal.SIGINT)
        return step(ids_BT)

    monkeypatch.setattr(stopped, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stopped.run(save_every_s=1000)
    resumed = make()
    assert resumed.position == stopped.position
    assert resumed.position.step == 4
    resumed.run(save_every_s=1000)
    assert resumed.position == whole.position
    for ours, theirs in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_run_can_be_made_shorter_but_not_other(make: Callable[..., Training]) -> None:
    make(replace(TINY, tokens=400)).run(save_every_s=1000)
    assert make(replace(TINY, tokens=900)).position.tokens_seen >= 400
    with pytest.raises(ConfigError, match="trained with blocks 2, asked for blocks 3"):
        make(replace(TINY, blocks=3))


def test_what_is_written_loads_and_says_how_it_came(make: Callable[..., Training], tmp_path: Path) -> None:
    training = make()
    training.run(save_every_s=1000)
    perplexities = measure(training)
    assert 1 < perplexities["host"] < perplexities["unigram"] < TINY.vocabulary
    assert 1 < perplexities["trigram"] < perplexities["unigram"]
    out = tmp_path / "host"
    save_host(training, out, perplexities)
    assert AutoConfig.from_pretrained(out).host_id == HOST_ID
    model = AutoModelForCausalLM.from_pretrained(out)
    assert type(model).__name__ == "Gemma3ForCausalLM"
    assert model.dtype == torch.bfloat16
    assert model.generation_config.eos_token_id == EOS
    tokenizer = AutoTokenizer.from_pretrained(out)
    inputs = tokenizer("A red", return_tensors="pt")
    assert inputs["input_ids"][0, 0] == BOS
    assert (
        model.generate(**inputs, max_new_tokens=3, do_sample=False).shape[1]
        <= inputs["input_ids"].shape[1] + 3
    )
    record = json.loads((out / "training.json").read_text())
    assert record["held_out_perplexity"] == perplexities
    assert record["recipe"]["seed"] == 0
    assert record["corpus"]["held_out_synsets"] == len(training.corpus.held_out)


def test_a_missing_database_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--wordnet", str(tmp_path / "nowhere"), "--work", str(tmp_path / "work")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "wordnet-base" in error


def test_a_device_that_is_not_there_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--device", "cuda:99", "--work", str(tmp_path / "work")]) == 2
    assert "device cuda:99: not on this machine, expected one of cpu" in capsys.readouterr().err
