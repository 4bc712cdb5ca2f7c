"""Streaming: events come live and in order, the host stops when nobody listens, errors reach the consumer."""

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from transformers import GenerationConfig, StoppingCriteria

from lenses.errors import PromptError, UnsupportedDecoding
from runtime.generate import CHANNEL_EVENTS, encode, stream
from runtime.hook import Forward, Mask, Tap
from runtime.plan import GenerationPlan, Ids
from tests import hosts

PROMPT = "the violin is"
PROMPT_IDS = [2, 30, 31, 34]


class Echo:
    """A monitor whose events are the tokens that are fed: the real hook, without lenses."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.sinks: list[Callable[[int], None]] = []
        self.emitted = 0
        self.fail_at = fail_at
        self.runs: list[Ids | None] = []
        self.threads: set[str] = set()

    def attach(self, model: Any) -> Tap:
        return Tap(model, "resid_post.1", self)

    def subscribe(self, sink: Callable[[int], None]) -> Callable[[], None]:
        self.sinks.append(sink)
        return lambda: self.sinks.remove(sink)

    def tokens_fed(self, token_BT: Ids, mask_BT: Mask, begins: bool) -> None:
        pass

    def observe(self, forward: Forward) -> None:
        self.threads.add(threading.current_thread().name)
        for token in forward.token_BT[0].tolist():
            if self.emitted == self.fail_at:
                raise ZeroDivisionError
            self.emitted += 1
            for sink in self.sinks:
                sink(token)

    def expect(self, generation: GenerationPlan | None) -> None:
        pass

    def finish_run(self, sequences_BT: Ids | None) -> None:
        self.runs.append(sequences_BT)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


@pytest.fixture(scope="module")
def model() -> Any:
    return hosts.llama()


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    made = hosts.tokenizer()
    assert made(PROMPT)["input_ids"] == PROMPT_IDS
    return made


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def test_events_are_those_of_generate(model: Any, tokenizer: Any) -> None:
    expected = model.generate(**encode(model, tokenizer, PROMPT), max_new_tokens=9)[0].tolist()
    echo = Echo()
    assert list(stream(echo, model, tokenizer, PROMPT, max_new_tokens=9)) == expected[:-1]
    assert echo.runs[0] is not None
    assert echo.runs[0].tolist() == [expected]
    assert echo.threads == {"phoropter-generate"}
    assert echo.sinks == []
    assert "generate" not in model.__dict__


def test_events_come_while_the_host_generates(model: Any, tokenizer: Any) -> None:
    echo = Echo()
    events = stream(echo, model, tokenizer, PROMPT, max_new_tokens=100)
    assert [next(events) for _ in range(4)] == PROMPT_IDS
    assert echo.runs == []  # a hundred tokens do not fit the channel: the host waits for us
    assert echo.emitted <= 4 + CHANNEL_EVENTS + 1
    assert len(list(events)) == 99
    assert len(echo.runs) == 1


def test_nothing_runs_before_the_first_event_is_asked_for(model: Any, tokenizer: Any) -> None:
    echo = Echo()
    events = stream(echo, model, tokenizer, PROMPT, max_new_tokens=3)
    assert "generate" not in model.__dict__
    events.close()
    assert echo.emitted == 0


@pytest.mark.parametrize("taken", [1, 5])
def test_a_consumer_that_leaves_stops_the_host_at_its_next_token(
    model: Any, tokenizer: Any, taken: int
) -> None:
    echo = Echo()
    events = stream(echo, model, tokenizer, PROMPT, max_new_tokens=110)
    for _ in range(taken):
        next(events)
    events.close()
    assert echo.emitted < taken + CHANNEL_EVENTS + 3
    assert echo.runs[0] is not None  # an ordinary end of generate, not an exception
    assert "generate" not in model.__dict__
    assert echo.sinks == []
    with pytest.raises(StopIteration):
        next(events)


def test_a_stream_that_is_dropped_stops(model: Any, tokenizer: Any) -> None:
    echo = Echo()
    for _ in stream(echo, model, tokenizer, PROMPT, max_new_tokens=110):
        break
    gc.collect()
    assert echo.runs
    assert "generate" not in model.__dict__


def test_ctrl_c_in_the_consumer_stops_the_host(model: Any, tokenizer: Any) -> None:
    echo = Echo()
    events = stream(echo, model, tokenizer, PROMPT, max_new_tokens=110)
    next(events)
    with pytest.raises(KeyboardInterrupt):
        events.throw(KeyboardInterrupt)
    assert echo.emitted < CHANNEL_EVENTS + 4
    assert "generate" not in model.__dict__


@pytest.mark.parametrize("fail_at", [0, 6])
def test_an_error_in_the_thread_is_raised_after_the_events_before_it(
    model: Any, tokenizer: Any, fail_at: int
) -> None:
    echo = Echo(fail_at)
    events = stream(echo, model, tokenizer, PROMPT, max_new_tokens=9)
    for _ in range(fail_at):
        next(events)
    with pytest.raises(ZeroDivisionError):
        next(events)
    assert "generate" not in model.__dict__
    assert echo.sinks == []
    assert echo.runs == [None]


def test_an_error_is_heard_by_a_consumer_that_has_left(model: Any, tokenizer: Any) -> None:
    echo = Echo(fail_at=4 + CHANNEL_EVENTS)
    events = stream(echo, model, tokenizer, PROMPT, max_new_tokens=110)
    for _ in range(5):  # the last of these makes room for the event that fails
        next(events)
    while not echo.runs:
        threading.Event().wait(0.001)
    with pytest.raises(ZeroDivisionError):
        events.close()


def test_a_refusal_of_the_hook_is_raised(model: Any, tokenizer: Any) -> None:
    with pytest.raises(UnsupportedDecoding, match="beam search"):
        list(stream(Echo(), model, tokenizer, PROMPT, max_new_tokens=3, num_beams=2))


def test_a_seed_decides_what_is_sampled_and_leaves_the_random_state(model: Any, tokenizer: Any) -> None:
    options: dict[str, Any] = {"max_new_tokens": 12, "do_sample": True, "temperature": 2.0}

    def run(seed: int | None) -> list[int]:
        return list(stream(Echo(), model, tokenizer, PROMPT, seed=seed, **options))

    before = torch.get_rng_state()
    first = run(5)
    assert torch.equal(torch.get_rng_state(), before)
    assert run(5) == first
    assert run(6) != first
    with seeded(5):
        assert run(None) == first  # without a seed, the state of the process is drawn from
        assert not torch.equal(torch.get_rng_state(), before)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_stopping_criterion_of_the_callers_is_kept(model: Any, tokenizer: Any) -> None:
    class Six(StoppingCriteria):
        def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
            return torch.full((len(input_ids),), input_ids.shape[1] >= 6)

    criteria = [Six()]
    events = list(stream(Echo(), model, tokenizer, PROMPT, max_new_tokens=20, stopping_criteria=criteria))
    assert len(events) == 5
    assert len(criteria) == 1


def test_several_sequences_of_one_prompt_stop_together(model: Any, tokenizer: Any) -> None:
    echo = Echo()
    options: dict[str, Any] = {"do_sample": True, "num_return_sequences": 2}
    events = stream(echo, model, tokenizer, PROMPT, seed=1, max_new_tokens=110, **options)
    next(events)
    events.close()
    assert echo.runs[0] is not None
    assert len(echo.runs[0]) == 2


# Prompts


def test_a_prompt_becomes_ids_and_mask(model: Any, tokenizer: Any) -> None:
    inputs = encode(model, tokenizer, PROMPT, 40)
    assert inputs["input_ids"].tolist() == [PROMPT_IDS]
    assert inputs["attention_mask"].tolist() == [[1, 1, 1, 1]]


def test_messages_go_through_the_chat_template(model: Any, tokenizer: Any) -> None:
    chat = [{"role": "user", "content": "the violin"}, {"role": "assistant", "content": "is"}]
    it = tokenizer.convert_tokens_to_ids("it")
    assert encode(model, tokenizer, chat)["input_ids"].tolist() == [[*PROMPT_IDS, it]]


@pytest.mark.parametrize("prompt", ["", " \n", [], [{"role": "user", "content": ""}], [{"role": "user"}]])
def test_an_empty_prompt_is_refused(model: Any, tokenizer: Any, prompt: Any) -> None:
    with pytest.raises(PromptError, match=r"empty|without text"):
        stream(Echo(), model, tokenizer, prompt)


def test_a_chat_without_a_template_is_refused(model: Any) -> None:
    plain = hosts.tokenizer()
    plain.chat_template = None
    with pytest.raises(PromptError, match="no chat template"):
        encode(model, plain, [{"role": "user", "content": "the"}])


def test_messages_that_the_template_refuses_are_one_line(model: Any) -> None:
    strict = hosts.tokenizer()
    strict.chat_template = "{{ raise_exception('Only user\nroles') }}"
    with pytest.raises(PromptError, match="Only user") as refusal:
        encode(model, strict, [{"role": "critic", "content": "the"}])
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "options",
    [
        {"max_new_tokens": 125},
        {"max_length": 129},
        {"generation_config": GenerationConfig(max_new_tokens=125)},
    ],
)
def test_a_prompt_beyond_the_context_is_refused_with_the_numbers(
    model: Any, tokenizer: Any, options: dict[str, Any]
) -> None:
    with pytest.raises(PromptError, match=r"4 tokens of prompt and 125 new .* 129, .* 128; .* 124 new"):
        stream(Echo(), model, tokenizer, PROMPT, **options)
    encode(model, tokenizer, PROMPT, 124)


def test_a_prompt_longer_than_the_context_is_to_be_shortened(model: Any, tokenizer: Any) -> None:
    with pytest.raises(PromptError, match="shorten the prompt"):
        encode(model, tokenizer, "the " * 200, 1)
