"""Hosts of random weights: true shapes, one id each, the same numbers in every type, text that does not collapse."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.gemma3.modeling_gemma3 import Gemma3RotaryEmbedding

from lenses.errors import HostError, PackMismatch
from lenses.pack import LensPack
from runtime.blocks import blocks_of, host_id
from runtime.cli import main
from runtime.config import MonitorConfig
from runtime.doctor import examine
from runtime.host import load_host, random_dtype
from runtime.monitor import check_host
from runtime.random_host import BOS, SHAPES, RandomHost, is_random
from tests.packs import make_pack

TINY = "random:gemma-3-tiny"
PROMPTS = ("The dog", "A violin is a musical instrument.", "x", "hello hello hello hello")
NEW_TOKENS = 40


@pytest.fixture(scope="module")
def tiny() -> Any:
    return RandomHost.parse(TINY).model()


# Names.


@settings(deadline=None)
@given(st.sampled_from(sorted(SHAPES)), st.integers(1, 34), st.integers(0, 10**9 - 1))
def test_an_id_is_a_name_of_the_host_that_has_it(shape: str, blocks: int, seed: int) -> None:
    host = RandomHost(shape, min(blocks, SHAPES[shape].blocks), seed)
    assert is_random(host.id)
    assert RandomHost.parse(host.id) == host


@pytest.mark.parametrize(
    ("name", "blocks", "id"),
    [
        ("random:gemma-3-4b", None, "random:gemma-3-4b"),
        ("random:gemma-3-4b:34", None, "random:gemma-3-4b"),
        ("random:gemma-3-4b", 2, "random:gemma-3-4b:2"),
        ("random:gemma-3-4b:2", 2, "random:gemma-3-4b:2"),
        ("random:gemma-3-4b@0", None, "random:gemma-3-4b"),
        ("random:gemma-3-4b@7", 2, "random:gemma-3-4b:2@7"),
    ],
)
def test_a_host_has_one_id_however_it_is_spelt(name: str, blocks: int | None, id: str) -> None:
    assert RandomHost.parse(name, blocks=blocks).id == id


@pytest.mark.parametrize("name", ["random:", "random:gpt-9", "random:gemma-3-4b:", "random:gemma-3-4b:two"])
def test_an_unknown_shape_is_told_those_there_are(name: str) -> None:
    with pytest.raises(HostError) as caught:
        load_host(name)
    assert all(shape in str(caught.value) for shape in SHAPES)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(("blocks", "told"), [(0, "give 1 to 4"), (5, "give 1 to 4")])
def test_blocks_that_a_shape_has_not_are_refused(blocks: int, told: str) -> None:
    for name, given_blocks in ((f"{TINY}:{blocks}", None), (TINY, blocks)):
        with pytest.raises(HostError, match=told):
            RandomHost.parse(name, blocks=given_blocks)


def test_blocks_said_twice_must_agree() -> None:
    with pytest.raises(HostError, match="has 2 blocks and is asked for 3"):
        RandomHost.parse(f"{TINY}:2", blocks=3)


# Shapes and weights.


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        # What the files of the checkpoints hold.
        ("random:gemma-3-270m", 268_098_176),
        ("random:gemma-3-1b", 999_885_952),
        # The text model of it, with 262,144 rows of embeddings where the checkpoint has 64 more.
        ("random:gemma-3-4b", 3_880_263_168 - 64 * 2560),
    ],
)
def test_a_shape_has_as_many_weights_as_the_checkpoint(name: str, weights: int) -> None:
    assert RandomHost.parse(name).weights == weights


def test_every_sixth_block_sees_everything_and_counts_positions_as_the_checkpoint_does() -> None:
    config = RandomHost.parse("random:gemma-3-4b")._config()
    assert [block for block, kind in enumerate(config.layer_types) if kind == "full_attention"] == [
        5,
        11,
        17,
        23,
        29,
    ]
    rope = Gemma3RotaryEmbedding(config)
    steps = torch.arange(0, 256, 2).float() / 256
    torch.testing.assert_close(rope.full_attention_inv_freq, 1e6**-steps / 8)
    torch.testing.assert_close(rope.sliding_attention_inv_freq, 1e4**-steps)
    assert (config.sliding_window, config.query_pre_attn_scalar) == (1024, 256)


def test_a_host_has_the_same_weights_in_bf16_and_in_fp32(tiny: Any) -> None:
    shorter = RandomHost.parse(TINY).model(dtype=torch.bfloat16)
    assert {p.dtype for p in shorter.parameters()} == {torch.bfloat16}
    for (name, wide), (other, short) in zip(tiny.named_parameters(), shorter.named_parameters(), strict=True):
        assert name == other
        assert torch.equal(wide, short.float()), name
    for name in ("full_attention_inv_freq", "sliding_attention_inv_freq"):
        assert torch.equal(getattr(tiny.model.rotary_emb, name), getattr(shorter.model.rotary_emb, name))


def test_a_short_host_begins_as_the_long_one(tiny: Any) -> None:
    short = dict(RandomHost.parse(f"{TINY}:2").model().named_parameters())
    assert len(blocks_of(tiny)) == 4
    assert all(torch.equal(parameter, tiny.get_parameter(name)) for name, parameter in short.items())


def test_weights_are_decided_by_the_seed(tiny: Any) -> None:
    again, other = RandomHost.parse(TINY).model(), RandomHost.parse(f"{TINY}@1").model()
    name = "model.layers.1.mlp.up_proj.weight"
    assert torch.equal(again.get_parameter(name), tiny.get_parameter(name))
    assert not torch.equal(other.get_parameter(name), tiny.get_parameter(name))
    assert not torch.equal(
        tiny.get_parameter(name), tiny.get_parameter("model.layers.1.mlp.gate_proj.weight")
    )


def test_making_a_host_leaves_torch_as_it_was() -> None:
    before, dtype = torch.get_rng_state(), torch.get_default_dtype()
    RandomHost.parse(f"{TINY}:1").model(dtype=torch.bfloat16)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_default_dtype() == dtype


# What it writes.


def written(model: Any, tokenizer: Any, prompts: tuple[str, ...]) -> tuple[torch.Tensor, int]:
    """What greedy decoding makes of prompts in one batch: ids and where the prompts end."""
    inputs = tokenizer(list(prompts), padding=True, return_tensors="pt", return_token_type_ids=False)
    with torch.inference_mode():
        ids = model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)
    return ids, inputs["input_ids"].shape[1]


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        (TINY, torch.float32),
        (TINY, torch.bfloat16),
        (f"{TINY}:1", torch.float32),
        ("random:gemma-3-270m:2", torch.float32),
    ],
)
def test_greedy_text_does_not_collapse(name: str, dtype: torch.dtype) -> None:
    host = RandomHost.parse(name)
    model = host.model(dtype=dtype)
    prompts = PROMPTS if TINY in name else PROMPTS[:1]  # a true vocabulary takes its time
    ids, begin = written(model, host.tokenizer(), prompts)
    assert ids.shape == (len(prompts), begin + NEW_TOKENS), "nothing ends it early"
    for prompt, row in zip(prompts, ids[:, begin:].tolist(), strict=True):
        assert len(set(row)) >= 0.8 * NEW_TOKENS, prompt
        assert min(len(set(row[n : n + 6])) for n in range(NEW_TOKENS - 5)) > 2, f"{prompt}: a loop"
        assert min(row) >= 260, "words, no bytes"
    assert len({tuple(row) for row in ids[:, begin:].tolist()}) == len(prompts)
    with torch.inference_mode():
        states = model(input_ids=ids[:1], output_hidden_states=True).hidden_states
    assert len(states) == host.blocks + 1
    assert all(torch.isfinite(states_1TD).all() for states_1TD in states)


def test_logits_are_spread_as_a_trained_models_are(tiny: Any) -> None:
    with torch.inference_mode():
        logits = tiny(input_ids=torch.tensor([[BOS, 300, 900, 1200]])).logits[0, :, 260:]
    assert logits.std(dim=1).min() > 2
    assert logits.std(dim=1).max() < 8


# The tokenizer.


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return RandomHost.parse(TINY).tokenizer()


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_any_text_is_read_byte_by_byte_and_comes_back(tokenizer: Any, text: str) -> None:
    if any(special in text for special in tokenizer.all_special_tokens):
        return
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == BOS
    assert len(ids) == 1 + len(text.encode())
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_every_word_can_be_seen(tokenizer: Any) -> None:
    assert len(tokenizer) == SHAPES["gemma-3-tiny"].vocabulary
    for id in range(260, len(tokenizer)):
        assert tokenizer.decode([id]) == f" t{id}"
    assert tokenizer.decode([300, 301, 999]) == " t300 t301 t999"


def test_the_vocabulary_of_a_true_shape_is_whole() -> None:
    tokenizer = RandomHost.parse("random:gemma-3-4b").tokenizer()
    assert len(tokenizer) == 262_144
    assert tokenizer.decode([262_143]) == " t262143"


# As a host among others.


def test_a_host_is_loaded_by_its_name() -> None:
    host = load_host(f"{TINY}:2@3", device="cpu")
    assert (host.id, host.path, host_id(host.model)) == (f"{TINY}:2@3", None, f"{TINY}:2@3")
    assert host.model.dtype == torch.float32
    assert not host.model.training
    assert load_host(TINY, device="cpu", dtype=torch.bfloat16).model.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(TINY, torch.float32), ("random:gemma-3-270m", torch.float32), ("random:gemma-3-4b", torch.bfloat16)],
)
def test_on_a_cpu_small_ones_are_fp32(name: str, dtype: torch.dtype) -> None:
    assert random_dtype(RandomHost.parse(name), torch.device("cpu")) == dtype
    assert random_dtype(RandomHost.parse(name), torch.device("cuda")) == torch.bfloat16


def test_what_it_cannot_be_is_refused() -> None:
    with pytest.raises(HostError, match="no revision 'main'; leave it out"):
        load_host(TINY, revision="main")
    with pytest.raises(HostError, match="overflows in float16"):
        load_host(TINY, dtype=torch.float16)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pack(tmp_path_factory.mktemp("packs") / "p", hidden_size=256, blocks=4, host=TINY).path


@pytest.mark.parametrize("other", [f"{TINY}:3", f"{TINY}@1"])
def test_a_pack_for_one_is_refused_by_another(pack: Path, other: str) -> None:
    with pytest.raises(PackMismatch, match="was made for the host"):
        check_host(LensPack.from_pretrained(pack), RandomHost.parse(other).model())


def test_doctor_finds_nothing_wrong(pack: Path) -> None:
    found = list(examine(model=TINY, pack=str(pack), config=MonitorConfig(), device="cpu"))
    assert {finding.status for finding in found} == {"ok"}, found
    assert "invisible" in {finding.check for finding in found}


def test_doctor_names_the_shapes_there_are(pack: Path) -> None:
    found = {
        f.check: f for f in examine(model="random:gpt-9", pack=None, config=MonitorConfig(), device="cpu")
    }
    assert found["host"].status == "problem"
    assert "random:gemma-3-270m" in found["host"].found


def test_it_is_watched_as_any_host(pack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", "The dog", "--model", TINY, "--pack", str(pack), "--max-new-tokens", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(" wrote " in line and " t" in line for line in lines) == 4
