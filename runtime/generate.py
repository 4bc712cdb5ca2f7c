"""Watching a generation live: the host generates in a thread of its own, events come out of an iterator.

The thread hands each event over through a channel of fixed size and waits when it is full, so a slow
consumer slows the host down and memory stays bounded. A consumer that leaves (close, break, Ctrl-C) stops
the generation at its next token; whatever goes wrong in the thread is raised where the events are consumed.

Knows nothing about lenses or what an event is.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from threading import Condition, Thread
from typing import Any, Generic, Protocol, TypeVar

import torch

from lenses.errors import PromptError
from lenses.text import one_line
from runtime.blocks import text_config

E = TypeVar("E")
E_co = TypeVar("E_co", covariant=True)
Prompt = str | Sequence[Mapping[str, str]]
"""A text, or the messages of a chat: `[{"role": "user", "content": "Hello"}]`."""

CHANNEL_EVENTS = 64
"""How many events the host may be ahead of the consumer."""


class Watcher(Protocol[E_co]):
    """What a monitor does here."""

    def attach(self, model: Any) -> AbstractContextManager[object]:
        """Watch the model while the context lasts."""

    def subscribe(self, sink: Callable[[E_co], None], /) -> Callable[[], object]:
        """Have each event delivered as it is emitted; returns the function that ends it."""


def stream(
    monitor: Watcher[E],
    model: Any,
    tokenizer: Any,
    prompt: Prompt,
    *,
    seed: int | None = None,
    **generate: Any,
) -> Generator[E, None, None]:
    """Generate from a prompt and yield each event as it comes; raises PromptError before anything runs.

    `generate` are the arguments of `model.generate`, taken as they are. With a `seed`, torch's random state
    is seeded for the run and given back as it was afterwards; without, nothing is seeded. That state is one
    for the whole process: whatever else draws from it during the run changes what is sampled. The host
    begins to generate at the first `next`.
    """

    def told(name: str) -> Any:
        sources = generate.get("generation_config"), getattr(model, "generation_config", None)
        values = generate.get(name), *(getattr(source, name, None) for source in sources)
        return next((value for value in values if value is not None), None)

    inputs = encode(model, tokenizer, prompt, told("max_new_tokens") or 1)
    if told("max_new_tokens") is None and told("max_length") is not None:
        length = inputs["input_ids"].shape[1]
        _check_context(model, length, max(1, told("max_length") - length))
    return _events(monitor, model, inputs | generate, seed)


def encode(model: Any, tokenizer: Any, prompt: Prompt, max_new_tokens: int = 1) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask` `[1, T]` of a prompt, on the model's device, for its `generate`.

    Messages go through the tokenizer's chat template. Raises PromptError for a prompt that is empty, or too
    long for the model's context together with the tokens that are to be generated.
    """
    token_ids = _token_ids(tokenizer, prompt)
    _check_context(model, len(token_ids), max_new_tokens)
    ids = torch.tensor([token_ids], device=model.device)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def encode_all(
    model: Any, tokenizer: Any, prompts: Sequence[Prompt], max_new_tokens: int = 1
) -> dict[str, torch.Tensor]:
    """`encode` for several prompts `[B, T]`, shorter ones padded on the left; raises PromptError."""
    each = [encode(model, tokenizer, prompt, max_new_tokens) for prompt in prompts]
    length = max(one["input_ids"].shape[1] for one in each)
    padding = {"input_ids": getattr(tokenizer, "pad_token_id", None) or 0, "attention_mask": 0}

    def padded(row_1T: torch.Tensor, value: int) -> torch.Tensor:
        return torch.nn.functional.pad(row_1T, (length - row_1T.shape[1], 0), value=value)

    return {name: torch.cat([padded(one[name], value) for one in each]) for name, value in padding.items()}


def _check_context(model: Any, tokens: int, new_tokens: int) -> None:
    context = getattr(text_config(model), "max_position_embeddings", None)
    if context is None or tokens + new_tokens <= context:
        return
    room = context - tokens
    advice = f"ask for at most {room:,} new tokens" if room > 0 else "shorten the prompt"
    raise PromptError(
        f"{tokens:,} tokens of prompt and {new_tokens:,} new ones are {tokens + new_tokens:,}, the host's "
        f"context is {context:,}; {advice}"
    )


def _token_ids(tokenizer: Any, prompt: Prompt) -> list[int]:
    if isinstance(prompt, str):
        if not prompt.strip():
            raise PromptError("the prompt is empty; give some text to go on from")
        # verbose: the context is checked by us, against the model.
        ids = tokenizer(prompt, verbose=False)["input_ids"]
    else:
        text = chat_text(tokenizer, prompt)
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    if not ids:
        raise PromptError("the prompt has no tokens; give some text to go on from")
    return list(ids)


def chat_text(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> str:
    """The messages of a chat as the tokenizer's template writes them, up to where the answer begins.

    Special tokens are in it: tokenise it without adding any. Raises PromptError.
    """
    said = [dict(message) for message in messages]
    if not any(str(message.get("content") or "").strip() for message in said):
        raise PromptError("the prompt is a chat without text; give at least one message with content")
    if getattr(tokenizer, "chat_template", None) is None:
        raise PromptError("the host's tokenizer has no chat template; give the prompt as plain text")
    from jinja2 import TemplateError  # torch requires jinja2; slow to import, and few prompts are chats

    try:
        text: str = tokenizer.apply_chat_template(said, add_generation_prompt=True, tokenize=False)
    except (TemplateError, ValueError, KeyError, TypeError) as error:
        raise PromptError(
            f"the chat template refuses the messages ({one_line(error)}); change them"
        ) from error
    return text


def _events(
    monitor: Watcher[E], model: Any, arguments: dict[str, Any], seed: int | None
) -> Generator[E, None, None]:
    channel: _Channel[E] = _Channel(CHANNEL_EVENTS)
    criteria = [*(arguments.pop("stopping_criteria", None) or []), _Stop(channel)]

    def work() -> None:
        unsubscribe = monitor.subscribe(channel.put)
        try:
            with seeded(model, seed), monitor.attach(model):
                model.generate(**arguments, stopping_criteria=criteria)
        except BaseException as error:  # nothing is swallowed: the consumer raises it
            channel.finish(error)
        else:
            channel.finish(None)
        finally:
            unsubscribe()

    # daemon: a second Ctrl-C while we wait for the last token must be able to end the program.
    thread = Thread(target=work, name="phoropter-generate", daemon=True)
    thread.start()
    try:
        yield from channel
    finally:
        channel.close()
        thread.join()
        # Also when the consumer has left: an error must not go unheard because nobody asked for more events.
        channel.reraise()


@contextmanager
def seeded(model: Any, seed: int | None) -> Iterator[None]:
    """torch's random state seeded for a while and given back as it was; None leaves it alone."""
    if seed is None:
        yield
        return
    cuda = {parameter.device.index for parameter in model.parameters() if parameter.device.type == "cuda"}
    with torch.random.fork_rng(devices=sorted(cuda)):
        torch.manual_seed(seed)
        yield


class _Stop:
    """A stopping criterion of `generate` that is met once nobody takes the events any more."""

    stops_whole_batch = True

    def __init__(self, channel: "_Channel[Any]") -> None:
        self._channel = channel

    def __call__(self, input_ids: torch.Tensor, scores: object, **_: object) -> torch.Tensor:
        return torch.full((len(input_ids),), self._channel.closed, dtype=torch.bool, device=input_ids.device)


class _Channel(Generic[E]):
    """Events from one thread to another, at most `capacity` on their way."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._events: deque[E] = deque()
        self._changed = Condition()
        self._finished = False
        self._error: BaseException | None = None
        self.closed = False
        """The consumer has left; what is put is dropped."""

    def put(self, event: E) -> None:
        """Hand one event over; waits while the channel is full."""
        with self._changed:
            self._changed.wait_for(lambda: self.closed or len(self._events) < self._capacity)
            if not self.closed:
                self._events.append(event)
                self._changed.notify_all()

    def finish(self, error: BaseException | None) -> None:
        """No more events will come; `error` is why, if it is an error."""
        with self._changed:
            self._finished, self._error = True, error
            self._changed.notify_all()

    def close(self) -> None:
        """The consumer leaves; never waits."""
        with self._changed:
            self.closed = True
            self._events.clear()
            self._changed.notify_all()

    def reraise(self) -> None:
        """Raise what the producer finished with, if it was an error."""
        if self._error is not None:
            raise self._error

    def __iter__(self) -> Iterator[E]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._events or self._finished)
                if not self._events:
                    return
                event = self._events.popleft()
                self._changed.notify_all()
            yield event
