"""The hook sees every row of every host, changes and leaves nothing, refuses what it cannot follow."""

import copy
import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import dispatch_model
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    CompileConfig,
    DynamicCache,
    GenerationConfig,
    LogitsProcessor,
    StoppingCriteria,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.generation import EosTokenCriteria, MaxTimeCriteria
from transformers.generation.streamers import BaseStreamer

from lenses.errors import HostError, PackMismatch, UnsupportedDecoding
from runtime.blocks import blocks_of, check_fits, host_id
from runtime.hook import Forward, Mask, Tap
from runtime.plan import GenerationPlan, Ids
from tests import hosts
from tests.hosts import BLOCKS, BOS, HIDDEN, HOSTS, PAD

PROMPTS = torch.tensor([[PAD, PAD, BOS, 5, 9], [BOS, 8, 30, 31, 7]])
MASK = (PROMPTS != PAD).long()
INPUTS = {"input_ids": PROMPTS, "attention_mask": MASK}
NEW = 5


@dataclass
class Recorder:
    """An observer that keeps what it is told."""

    forwards: list[Forward] = field(default_factory=list)
    fed: list[tuple[Ids, Mask, bool]] = field(default_factory=list)
    plans: list[GenerationPlan | None] = field(default_factory=list)
    ends: list[Ids | None] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)

    def tokens_fed(self, token_BT: Ids, mask_BT: Mask, begins: bool) -> None:
        self.calls.append("fed")
        self.fed.append((token_BT, mask_BT, begins))

    def observe(self, forward: Forward) -> None:
        self.calls.append("observe")
        rows = forward.rows_BTD.clone()
        self.forwards.append(Forward(rows, forward.token_BT, forward.mask_BT, forward.begins))

    def expect(self, generation: GenerationPlan | None) -> None:
        self.calls.append("expect")
        self.plans.append(generation)

    def finish_run(self, sequences_BT: Ids | None) -> None:
        self.calls.append("finish")
        self.ends.append(sequences_BT)

    @property
    def rows_BTD(self) -> torch.Tensor:
        """Rows of all forwards, one after the other."""
        return torch.cat([forward.rows_BTD for forward in self.forwards], dim=1)

    @property
    def token_BT(self) -> Ids:
        return np.concatenate([forward.token_BT for forward in self.forwards], axis=1)

    @property
    def mask_BT(self) -> Mask:
        return np.concatenate([forward.mask_BT for forward in self.forwards], axis=1)


class Broken(Recorder):
    """An observer that fails in one of its calls."""

    def __init__(self, name: str) -> None:
        super().__init__()
        setattr(self, name, self.fail)

    def fail(self, *args: Any) -> None:
        raise ZeroDivisionError


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Hosts this small only lose by sharing a forward between threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    """Every host once. Tests leave them as they were: that is what most of them are about."""
    return {name: make() for name, make in HOSTS.items()}


@pytest.fixture
def llama() -> Any:
    return hosts.llama()


def run(model: Any, site: str, **options: Any) -> tuple[Recorder, Any]:
    """A generation with a recorder at a site, and its output with all hidden states."""
    recorder = Recorder()
    settings = {"max_new_tokens": NEW, "return_dict_in_generate": True, "output_hidden_states": True}
    with Tap(model, site, recorder):
        output = model.generate(**(INPUTS | settings | options))
    return recorder, output


def hidden_BTD(output: Any, index: int) -> torch.Tensor:
    """One entry of `hidden_states` over all forwards of a generation."""
    return torch.cat([step[index] for step in output.hidden_states], dim=1)


@contextmanager
def seeded(seed: int = 3) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def hooks_of(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


# Rows


@pytest.mark.parametrize("block", range(BLOCKS - 1))
@pytest.mark.parametrize("name", HOSTS)
def test_rows_are_the_hidden_states_of_every_host_at_every_block(
    models: dict[str, Any], name: str, block: int
) -> None:
    recorder, output = run(models[name], f"resid_post.{block}")
    # hidden_states[0] is the embedding.
    assert torch.equal(recorder.rows_BTD, hidden_BTD(output, block + 1))
    assert not torch.equal(recorder.rows_BTD, hidden_BTD(output, block))


@pytest.mark.parametrize("name", HOSTS)
def test_rows_of_the_last_block_come_before_the_final_norm(models: dict[str, Any], name: str) -> None:
    model = models[name]
    decoder = model.get_decoder()
    norm = decoder.ln_f if name == "gpt2" else decoder.norm
    seen: list[torch.Tensor] = []
    handle = norm.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    try:
        recorder, output = run(model, f"resid_post.{BLOCKS - 1}")
    finally:
        handle.remove()
    assert torch.equal(recorder.rows_BTD, torch.cat(seen, dim=1))
    assert torch.equal(norm(recorder.rows_BTD), norm(torch.cat(seen, dim=1)))
    assert not torch.equal(recorder.rows_BTD, hidden_BTD(output, -1))


@pytest.mark.parametrize("name", HOSTS)
def test_tokens_and_padding_come_with_the_rows(models: dict[str, Any], name: str) -> None:
    recorder, output = run(models[name], "resid_post.1")
    sequences = output.sequences.numpy()
    assert sequences.shape[1] == PROMPTS.shape[1] + NEW
    assert np.array_equal(recorder.token_BT, sequences[:, :-1])  # the last token is never fed
    expected = np.ones_like(sequences[:, :-1], dtype=bool)
    expected[:, :5] = MASK.numpy() == 1
    assert np.array_equal(recorder.mask_BT, expected)
    assert [forward.begins for forward in recorder.forwards] == [True] + [False] * (NEW - 1)
    assert [begins for _, _, begins in recorder.fed] == [True] + [False] * (NEW - 1)
    assert np.array_equal(np.concatenate([fed for fed, _, _ in recorder.fed], axis=1), recorder.token_BT)


def test_what_is_told_comes_in_order(llama: Any) -> None:
    recorder, output = run(llama, "resid_post.1", max_new_tokens=2)
    assert recorder.calls == ["expect", "fed", "observe", "fed", "observe", "finish", "expect"]
    plan, end = recorder.plans
    assert plan is not None
    assert end is None
    assert plan.prompt_length == 5
    assert np.array_equal(plan.prompt_BT, PROMPTS.numpy())
    assert recorder.ends[0] is not None
    assert np.array_equal(recorder.ends[0], output.sequences.numpy())


class Streamer(BaseStreamer):
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.ended = False

    def put(self, value: torch.Tensor) -> None:
        self.tokens += value.flatten().tolist()

    def end(self) -> None:
        self.ended = True


WAYS: dict[str, dict[str, Any]] = {
    "sampling": {"do_sample": True, "temperature": 1.3},
    "several sequences of one prompt": {"do_sample": True, "num_return_sequences": 3},
    "static cache": {"cache_implementation": "static"},
    "chunked prefill": {"prefill_chunk_size": 2},
    "static cache, chunked prefill": {"cache_implementation": "static", "prefill_chunk_size": 2},
    "a generation config": {"generation_config": GenerationConfig(max_new_tokens=NEW, pad_token_id=PAD)},
    "a cache of the caller's": {"past_key_values": DynamicCache},
}


@pytest.mark.parametrize("name", ["gemma3", "gemma3_multimodal", "llama"])
@pytest.mark.parametrize("way", WAYS)
def test_rows_are_right_whatever_the_way_of_generating(models: dict[str, Any], name: str, way: str) -> None:
    options = dict(WAYS[way])
    if "past_key_values" in options:
        options["past_key_values"] = DynamicCache(config=models[name].config.get_text_config())
    if "generation_config" in options:
        options |= {"max_new_tokens": None}
        options = {k: v for k, v in options.items() if v is not None}
        options["generation_config"] = copy.deepcopy(options["generation_config"])
        options["generation_config"].update(return_dict_in_generate=True, output_hidden_states=True)
        recorder = Recorder()
        with Tap(models[name], "resid_post.1", recorder):
            output = models[name].generate(**INPUTS, **options)
    else:
        with seeded():
            recorder, output = run(models[name], "resid_post.1", **options)
    sequences = output.sequences.numpy()
    assert np.array_equal(recorder.token_BT, sequences[:, :-1])
    copies = len(sequences) // 2
    assert np.array_equal(recorder.mask_BT[:, :5], np.repeat(MASK.numpy() == 1, copies, axis=0))
    assert recorder.mask_BT[:, 5:].all()
    plan = recorder.plans[0]
    assert plan is not None
    assert np.array_equal(plan.prompt_BT, sequences[:, :5])
    assert [forward.begins for forward in recorder.forwards].count(True) == 1
    expected = hidden_BTD(output, 2)
    if "prefill_chunk_size" in options:  # generate reports the last chunk alone
        assert [forward.rows_BTD.shape[1] for forward in recorder.forwards[:4]] == [2, 2, 1, 1]
        assert torch.equal(recorder.rows_BTD[:, 4:], expected)
        plain, _ = run(models[name], "resid_post.1")
        real = torch.from_numpy(recorder.mask_BT[:, :5])
        torch.testing.assert_close(recorder.rows_BTD[:, :5][real], plain.rows_BTD[:, :5][real])
    else:
        assert torch.equal(recorder.rows_BTD, expected)


def test_a_streamer_gets_its_tokens_while_rows_are_seen(llama: Any) -> None:
    streamer = Streamer()
    recorder, output = run(
        llama, "resid_post.1", input_ids=PROMPTS[1:], attention_mask=MASK[1:], streamer=streamer
    )
    assert streamer.ended
    assert streamer.tokens == output.sequences[0].tolist()
    assert torch.equal(recorder.rows_BTD, hidden_BTD(output, 2))


def test_rows_of_a_model_that_accelerate_placed(tmp_path: Path, llama: Any) -> None:
    plain, _ = run(llama, "resid_post.1")
    placed = AutoModelForCausalLM.from_pretrained(hosts.save(llama, tmp_path), device_map="auto")
    placed.generation_config = llama.generation_config
    recorder, _ = run(placed, "resid_post.1")
    assert torch.equal(recorder.rows_BTD, plain.rows_BTD)
    # force_hooks: with one device nothing moves, yet the blocks get the wrappers that they get with many.
    hooked = dispatch_model(
        llama,
        {"model.embed_tokens": "cpu", "model": "cpu", "lm_head": "cpu"},
        main_device="cpu",
        force_hooks=True,
    )
    recorder, _ = run(hooked, "resid_post.1")
    assert torch.equal(recorder.rows_BTD, plain.rows_BTD)


def test_a_sliding_window_shorter_than_the_sequence_is_no_new_sequence() -> None:
    model = hosts.gemma3(sliding_window=3)
    recorder, output = run(model, "resid_post.0", max_new_tokens=20)
    assert [forward.begins for forward in recorder.forwards] == [True] + [False] * 19
    assert torch.equal(recorder.rows_BTD, hidden_BTD(output, 1))


def test_forwards_without_generate_are_seen_however_arguments_are_passed(llama: Any) -> None:
    recorder = Recorder()
    with Tap(llama, "resid_post.2", recorder), torch.no_grad():
        first = llama(PROMPTS, MASK, use_cache=True)
        llama(
            input_ids=torch.tensor([[4], [6]]),
            attention_mask=torch.cat([MASK, torch.ones(2, 1)], dim=1),
            past_key_values=first.past_key_values,
        )
        llama(PROMPTS[1:], use_cache=False)
    assert [forward.begins for forward in recorder.forwards] == [True, False, True]
    assert [forward.token_BT.tolist() for forward in recorder.forwards] == [
        PROMPTS.tolist(),
        [[4], [6]],
        PROMPTS[1:].tolist(),
    ]
    assert recorder.forwards[0].mask_BT.tolist() == (MASK == 1).tolist()
    assert recorder.forwards[2].mask_BT.all()
    assert recorder.plans == recorder.ends == []


def test_rows_are_the_hosts_own_memory_without_its_graph(llama: Any) -> None:
    rows: list[Forward] = []
    recorder = Recorder()
    recorder.observe = rows.append  # type: ignore[method-assign]
    with Tap(llama, "resid_post.1", recorder):
        assert llama(PROMPTS).logits.requires_grad
    assert not rows[0].rows_BTD.requires_grad


def test_a_generation_goes_on_from_the_cache_of_the_last(llama: Any) -> None:
    cache = DynamicCache(config=llama.config)
    recorder = Recorder()
    with Tap(llama, "resid_post.1", recorder):
        first = llama.generate(**INPUTS, past_key_values=cache, max_new_tokens=3)
        more = torch.cat([first, torch.tensor([[7], [8]])], dim=1)
        mask = torch.cat([MASK, torch.ones(2, 4, dtype=torch.long)], dim=1)
        last = llama.generate(more, attention_mask=mask, past_key_values=cache, max_new_tokens=3)
        with pytest.raises(UnsupportedDecoding, match="from the very beginning"):
            llama.generate(torch.tensor([[7], [8]]), past_key_values=cache, max_new_tokens=3)
    assert np.array_equal(recorder.token_BT, last[:, :-1].numpy())
    assert [forward.begins for forward in recorder.forwards].count(True) == 1


def test_generate_without_a_prompt_begins_with_bos(llama: Any) -> None:
    recorder = Recorder()
    with Tap(llama, "resid_post.1", recorder):
        output = llama.generate(max_new_tokens=3)
    assert recorder.plans[0] is not None
    assert recorder.plans[0].prompt_BT.tolist() == [[BOS]]
    assert np.array_equal(recorder.token_BT, output[:, :-1].numpy())


def test_the_plan_knows_every_eos(llama: Any) -> None:
    one = PROMPTS[1:]
    llama.generation_config.eos_token_id = [60, 61]
    recorder, _ = run(llama, "resid_post.1", stopping_criteria=[EosTokenCriteria(62)])
    assert recorder.plans[0] is not None
    assert recorder.plans[0].eos_ids == (60, 61, 62)
    recorder, _ = run(llama, "resid_post.1", input_ids=one, attention_mask=None, eos_token_id=5)
    assert recorder.plans[0] is not None
    assert recorder.plans[0].eos_ids == (5,)


def test_the_list_of_blocks_is_found_among_other_lists(llama: Any) -> None:
    for layer in llama.model.layers:
        layer.mlp.experts = nn.ModuleList(nn.Linear(HIDDEN, 400) for _ in range(BLOCKS))
    llama.model.scales = nn.ModuleList(nn.LayerNorm(HIDDEN) for _ in range(BLOCKS))
    assert blocks_of(llama) is llama.model.layers


# Invisible


def generated(model: Any, **options: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What a sampled generation leaves: text, raw logits and the state of the random generator."""
    settings = {
        "return_dict_in_generate": True,
        "output_logits": True,
        "do_sample": True,
        "max_new_tokens": NEW,
    }
    with seeded():
        output = model.generate(**(INPUTS | settings | options))
        return output.sequences, torch.stack(output.logits), torch.get_rng_state()


def identical(one: tuple[torch.Tensor, ...], other: tuple[torch.Tensor, ...]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in HOSTS),
        *((name, {"cache_implementation": "static"}) for name in ("gemma3", "gemma3_multimodal", "llama")),
        ("llama", {"prefill_chunk_size": 2}),
    ],
)
def test_invisible_text_logits_and_random_state_are_bit_identical(
    models: dict[str, Any], name: str, options: dict[str, Any]
) -> None:
    model = models[name]
    without = generated(model, **options)
    with Tap(model, "resid_post.1", Recorder()), Tap(model, "resid_post.2", Recorder()):
        watched = generated(model, **options)
    assert identical(watched, without)
    assert identical(generated(model, **options), without)


@pytest.mark.parametrize("name", HOSTS)
def test_invisible_control_an_observer_that_adds_a_thousandth_is_seen(
    models: dict[str, Any], name: str
) -> None:
    class Heavy(Recorder):
        def observe(self, forward: Forward) -> None:
            forward.rows_BTD[:, -1, 0] += 1e-3

    model = models[name]
    without = generated(model)
    with Tap(model, "resid_post.1", Heavy()):
        watched = generated(model)
    assert not identical(watched, without)


def traces_of(model: Any) -> tuple[int, set[str]]:
    """What a tap could leave on a model."""
    return hooks_of(model), set(model.__dict__)


def test_invisible_nothing_is_left_on_the_host(llama: Any) -> None:
    before = traces_of(llama)
    with Tap(llama, "resid_post.1", Recorder()):
        assert "generate" in llama.__dict__
        assert hooks_of(llama) == before[0] + 2
        llama.generate(**INPUTS, max_new_tokens=2)
    assert traces_of(llama) == before
    assert "generate" not in llama.__dict__


@pytest.mark.parametrize("call", ["tokens_fed", "observe", "expect", "finish_run"])
def test_invisible_nothing_is_left_when_the_observer_fails(llama: Any, call: str) -> None:
    before, without = traces_of(llama), generated(llama)
    with pytest.raises(ZeroDivisionError), Tap(llama, "resid_post.1", Broken(call)):
        llama.generate(**INPUTS, max_new_tokens=4)
    assert traces_of(llama) == before
    assert identical(generated(llama), without)


def test_invisible_nothing_is_left_when_the_host_fails(llama: Any) -> None:
    before, without = traces_of(llama), generated(llama)
    healthy, recorder = llama.model.layers[2].forward, Recorder()

    def fail(*args: Any, **kwargs: Any) -> None:
        raise ZeroDivisionError

    tap = Tap(llama, "resid_post.1", recorder).attach()
    llama.model.layers[2].forward = fail
    with pytest.raises(ZeroDivisionError):
        llama.generate(**INPUTS, max_new_tokens=4)
    del llama.model.layers[2].forward
    assert llama.model.layers[2].forward == healthy
    assert recorder.ends == [None]
    assert recorder.plans[-1] is None
    assert "prepare_inputs_for_generation" not in llama.__dict__
    assert identical(generated(llama), without)  # still attached, and of use again
    tap.remove()
    assert traces_of(llama) == before


def test_a_tap_on_one_side_of_a_failing_generate_ends_on_the_other(llama: Any) -> None:
    recorder = Recorder()
    with (
        pytest.raises(ZeroDivisionError),
        Tap(llama, "resid_post.1", recorder),
        Tap(llama, "resid_post.2", Broken("finish_run")),
    ):
        llama.generate(**INPUTS, max_new_tokens=2)
    assert recorder.calls[-2:] == ["finish", "expect"]


@pytest.mark.parametrize("first", [0, 1])
def test_two_taps_on_one_host_come_off_in_any_order(llama: Any, first: int) -> None:
    before = traces_of(llama)
    recorders = [Recorder(), Recorder()]
    taps = [Tap(llama, f"resid_post.{i}", recorder).attach() for i, recorder in enumerate(recorders)]
    output = llama.generate(
        **INPUTS, max_new_tokens=3, return_dict_in_generate=True, output_hidden_states=True
    )
    captured = hooks_of(llama)  # transformers keeps hooks of its own from the first output_hidden_states on
    for i, recorder in enumerate(recorders):
        assert torch.equal(recorder.rows_BTD, hidden_BTD(output, i + 1))
        assert recorder.calls == recorders[0].calls
    taps[first].remove()
    taps[first].remove()
    llama.generate(**INPUTS, max_new_tokens=3)
    assert len(recorders[first].forwards) == 3
    assert len(recorders[1 - first].forwards) == 6
    taps[1 - first].remove()
    assert "generate" not in llama.__dict__
    assert hooks_of(llama) == captured - 3
    assert set(llama.__dict__) - before[1] <= {"_output_capturing_hooks_installed"}


def test_a_tap_can_be_attached_again_but_not_twice(llama: Any) -> None:
    recorder = Recorder()
    tap = Tap(llama, "resid_post.1", recorder)
    with tap:
        llama.generate(**INPUTS, max_new_tokens=2)
        with pytest.raises(HostError, match="attached already"):
            tap.attach()
    with tap:
        llama.generate(**INPUTS, max_new_tokens=2)
    assert len(recorder.forwards) == 4


def test_a_generate_of_somebody_elses_is_put_back(llama: Any) -> None:
    original = llama.generate
    calls: list[str] = []

    def theirs(*args: Any, **kwargs: Any) -> Any:
        calls.append("theirs")
        return original(*args, **kwargs)

    llama.generate = theirs
    recorder = Recorder()
    with Tap(llama, "resid_post.1", recorder):
        llama.generate(input_ids=PROMPTS, max_new_tokens=2)
    assert llama.generate is theirs
    assert calls == ["theirs"]
    assert len(recorder.forwards) == 2


def test_a_generate_wrapped_over_ours_stays_and_still_works(llama: Any) -> None:
    recorder = Recorder()
    tap = Tap(llama, "resid_post.1", recorder).attach()
    ours = llama.generate
    llama.generate = lambda **options: ours(**options)
    tap.remove()
    assert llama.generate(**INPUTS, max_new_tokens=2).shape == (2, 7)
    assert recorder.calls == []


# Refused


class Endless(StoppingCriteria):
    """A stopping criterion that never stops anything."""

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        return torch.zeros(len(input_ids), dtype=torch.bool)


EMBEDDED = torch.zeros(2, 5, HIDDEN)

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "beam search": ({"num_beams": 2}, "beam search reorders rows"),
    "beam sampling": ({"num_beams": 2, "do_sample": True}, "beam search reorders rows"),
    "prompt lookup": ({"prompt_lookup_num_tokens": 2}, "assisted decoding"),
    "early exit": ({"assistant_early_exit": 1}, "assisted decoding"),
    "an assistant": ({"assistant_model": "another"}, "assisted decoding"),
    "no cache": ({"use_cache": False}, "use_cache=False"),
    "contrastive": ({"penalty_alpha": 0.6, "top_k": 4}, "contrastive search"),
    "dola": ({"dola_layers": "low"}, "DoLa"),
    "constrained": ({"force_words_ids": [[3]]}, "constrained decoding"),
    "custom": ({"custom_generate": lambda model, **_: None}, "custom_generate"),
    "paged": ({"cache_implementation": "paged"}, "paged cache"),
    "guidance": ({"guidance_scale": 1.5}, "guidance_scale"),
    "healing": ({"token_healing": True}, "token_healing"),
    "embeddings": ({"input_ids": None, "inputs_embeds": EMBEDDED}, "inputs_embeds"),
    "padding on the right": ({"attention_mask": MASK.flip(1)}, "pad on the left"),
    "stop strings": ({"stop_strings": ["a"]}, "stop_strings"),
    "a criterion": ({"stopping_criteria": [Endless()]}, "Endless may end"),
    "one dimension": ({"input_ids": PROMPTS[0], "attention_mask": None}, "expected ids"),
    "no prompt": ({"input_ids": None, "attention_mask": None, "bos_token_id": None}, "no BOS"),
}


@pytest.mark.parametrize("way", REFUSED)
def test_ways_of_generating_that_cannot_be_followed_are_refused_before_anything_runs(
    llama: Any, way: str
) -> None:
    options, message = REFUSED[way]
    if way == "no prompt":
        llama.generation_config.bos_token_id = None
    settings = {name: value for name, value in (INPUTS | options).items() if value is not None}
    recorder = Recorder()
    before = torch.get_rng_state()
    with (
        Tap(llama, "resid_post.1", recorder),
        pytest.raises(UnsupportedDecoding, match=message) as refusal,
    ):
        llama.generate(**settings, max_new_tokens=2)
    assert "\n" not in str(refusal.value)
    assert recorder.calls == []
    assert torch.equal(torch.get_rng_state(), before)


def test_the_generation_config_of_the_model_is_heeded(llama: Any) -> None:
    llama.generation_config.num_beams = 3
    with Tap(llama, "resid_post.1", Recorder()), pytest.raises(UnsupportedDecoding, match="beam search"):
        llama.generate(**INPUTS, max_new_tokens=2)


def test_criteria_that_end_one_sequence_or_all_together_are_fine(llama: Any) -> None:
    one = {"input_ids": PROMPTS[1:], "attention_mask": None}
    run(llama, "resid_post.1", **one, stopping_criteria=[Endless()])
    whole = Endless()
    whole.stops_whole_batch = True
    run(llama, "resid_post.1", stopping_criteria=[whole, MaxTimeCriteria(60.0)])


def test_a_static_cache_that_compiles_is_refused(llama: Any) -> None:
    settings = CompileConfig()
    settings._compile_all_devices = True
    options = {"cache_implementation": "static", "compile_config": settings, "max_new_tokens": 2}
    with Tap(llama, "resid_post.1", Recorder()):
        with pytest.raises(UnsupportedDecoding, match="disable_compile=True"):
            llama.generate(**INPUTS, **options)
        llama.generate(**INPUTS, **options, disable_compile=True)


def test_a_forward_from_inside_generate_is_refused(llama: Any) -> None:
    class Peeping(LogitsProcessor):
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            llama(input_ids)
            return scores

    class Nesting(LogitsProcessor):
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            llama.generate(input_ids, max_new_tokens=1)
            return scores

    with Tap(llama, "resid_post.1", Recorder()):
        with pytest.raises(UnsupportedDecoding, match="inside its own generate"):
            llama.generate(**INPUTS, max_new_tokens=2, logits_processor=[Peeping()])
        with pytest.raises(UnsupportedDecoding, match="while the same model generates"):
            llama.generate(**INPUTS, max_new_tokens=2, logits_processor=[Nesting()])


def _cached(model: Any) -> Any:
    return model(PROMPTS, MASK, use_cache=True).past_key_values


NEXT = torch.tensor([[4], [6]])


def _late(model: Any, attach: Callable[[], object]) -> None:
    cache = _cached(model)
    attach()
    model(NEXT, past_key_values=cache)


def _cropped(model: Any, attach: Callable[[], object]) -> None:
    attach()
    cache = _cached(model)
    cache.crop(-2)
    model(NEXT, past_key_values=cache)


def _fewer(model: Any, attach: Callable[[], object]) -> None:
    attach()
    cache = _cached(model)
    cache.batch_select_indices(torch.tensor([0]))
    model(NEXT[:1], past_key_values=cache)


def _swapped(model: Any, attach: Callable[[], object]) -> None:
    attach()
    cache = _cached(model)
    model(NEXT, past_key_values=cache)
    other = DynamicCache(config=model.config)
    model(torch.cat([PROMPTS, NEXT], dim=1), past_key_values=other)
    model(NEXT, past_key_values=cache)


def _embedded(model: Any, attach: Callable[[], object]) -> None:
    attach()
    model(inputs_embeds=EMBEDDED)


def _four_dimensions(model: Any, attach: Callable[[], object]) -> None:
    attach()
    model(PROMPTS, attention_mask=torch.ones(2, 1, 5, 5, dtype=torch.bool))


def _short_mask(model: Any, attach: Callable[[], object]) -> None:
    attach()
    model(NEXT, attention_mask=torch.ones(2, 1), past_key_values=_cached(model))


def _inside(model: Any, attach: Callable[[], object]) -> None:
    attach()
    model.model(PROMPTS)


def _packed(model: Any, attach: Callable[[], object]) -> None:
    attach()
    model(PROMPTS, cu_seq_lens_q=torch.tensor([0, 2, 5]))


def _tuple_cache(model: Any, attach: Callable[[], object]) -> None:
    attach()
    model(PROMPTS, past_key_values=())


FORWARDS: dict[str, tuple[Callable[[Any, Callable[[], object]], None], str]] = {
    "attached in the middle": (_late, "the monitor has seen 0 rows"),
    "a cropped cache": (_cropped, "the monitor has seen 5 rows"),
    "fewer sequences": (_fewer, "5 tokens of 1 sequences"),
    "another cache of the same length": (_swapped, "not the one"),
    "embeddings": (_embedded, "no input_ids"),
    "a mask of four dimensions": (_four_dimensions, "2-D mask"),
    "a mask without the past": (_short_mask, "2-D mask"),
    "the decoder inside the model": (_inside, "outside a forward"),
    "packed sequences": (_packed, "continuous batching"),
    "a cache that is none": (_tuple_cache, "without a length"),
}


@pytest.mark.parametrize("name", FORWARDS)
def test_forwards_that_cannot_be_followed_are_refused(llama: Any, name: str) -> None:
    forward, message = FORWARDS[name]
    tap = Tap(llama, "resid_post.1", Recorder())
    try:
        with torch.no_grad(), pytest.raises(UnsupportedDecoding, match=message) as refusal:
            forward(llama, tap.attach)
    finally:
        tap.remove()
    assert "\n" not in str(refusal.value)


def _watch(model: Any) -> None:
    Tap(model, "resid_post.1", Recorder())


def _compiled_block() -> Any:
    model = hosts.llama()
    model.model.layers[1].compile(backend="eager")
    return model


def _mixed_gemma() -> Any:
    model = hosts.gemma3_multimodal()
    model.model.language_model.layers[0].half()
    return model


UNWATCHABLE: dict[str, tuple[Callable[[], Any], str]] = {
    "compiled": (lambda: torch.compile(hosts.llama(), backend="eager"), "compiled"),
    "a compiled block": (_compiled_block, "compiled"),
    "Gemma-3 in fp16": (lambda: hosts.gemma3().half(), "bfloat16"),
    "a multimodal Gemma-3 partly in fp16": (_mixed_gemma, "bfloat16"),
    "encoder and decoder": (
        lambda: T5ForConditionalGeneration(
            T5Config(vocab_size=8, d_model=8, d_kv=4, d_ff=8, num_layers=2, num_heads=2)
        ),
        "only decoders",
    ),
    "no language model": (lambda: nn.Linear(2, 2), "no transformers decoder"),
    "no module": (lambda: "google/gemma-3-4b-pt", "no transformers decoder"),
    "no list of blocks": (lambda: _without_blocks(), "no list of its 3 blocks"),
}


def _without_blocks() -> Any:
    model = hosts.llama()
    model.model.layers = nn.ModuleList(list(model.model.layers)[:2])
    return model


@pytest.mark.parametrize("name", UNWATCHABLE)
def test_hosts_that_cannot_be_watched_are_refused(name: str) -> None:
    make, message = UNWATCHABLE[name]
    with pytest.raises(HostError, match=message) as refusal:
        _watch(make())
    assert "\n" not in str(refusal.value)


def test_gemma_in_bfloat16_is_watched_in_bfloat16() -> None:
    recorder, output = run(hosts.gemma3().bfloat16(), "resid_post.1")
    assert recorder.rows_BTD.dtype == torch.bfloat16
    assert torch.equal(recorder.rows_BTD, hidden_BTD(output, 2))


@pytest.mark.parametrize(
    "site", ["", "resid_post", "resid_post.-1", "resid_post.01", "mlp_out.1", "resid_post.1x"]
)
def test_an_unknown_site_is_refused(llama: Any, site: str) -> None:
    with pytest.raises(HostError, match=r"expected resid_post\.N"):
        Tap(llama, site, Recorder())


def test_a_site_beyond_the_last_block_is_refused_with_the_last_named(llama: Any) -> None:
    with pytest.raises(HostError, match=r"its 3 blocks end at resid_post\.2"):
        Tap(llama, "resid_post.3", Recorder())


@pytest.mark.parametrize("name", HOSTS)
def test_a_pack_fits_by_its_site_and_hidden_size(models: dict[str, Any], name: str) -> None:
    check_fits(models[name], "resid_post.2", HIDDEN)
    mismatches: list[tuple[str, int, str]] = [
        ("resid_post.3", HIDDEN, "3 blocks"),
        ("resid_post.2", HIDDEN + 1, "states of 17, the host's have 16"),
    ]
    for site, size, message in mismatches:
        with pytest.raises(PackMismatch, match=message):
            check_fits(models[name], site, size)


def test_a_hosts_id_is_what_its_config_says_before_where_it_lay(llama: Any) -> None:
    assert host_id(llama) is None
    llama.config._name_or_path = "somebody/llama"
    assert host_id(llama) == "somebody/llama"
    llama.config.host_id = "phoropter/llama"
    assert host_id(llama) == "phoropter/llama"


def test_a_decoder_without_generate_is_watched_through_its_forward() -> None:
    decoder = hosts.llama().model
    recorder = Recorder()
    with Tap(decoder, "resid_post.1", recorder):
        decoder(PROMPTS)
    assert recorder.rows_BTD.shape == (2, 5, HIDDEN)


def test_the_cache_of_a_finished_run_is_not_kept_alive(llama: Any) -> None:
    recorder = Recorder()
    with Tap(llama, "resid_post.1", recorder), torch.no_grad():
        cache = DynamicCache(config=llama.config)
        llama(PROMPTS, MASK, past_key_values=cache)
        gone = weakref.ref(cache)
        del cache
        gc.collect()
        assert gone() is None
