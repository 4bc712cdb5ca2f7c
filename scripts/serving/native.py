"""Answers in this process: `Monitor.stream`, timed as whoever uses it sees it, and where the time went.

tokenise  the call of `stream` itself · queue: from there to the host's first forward (generate's preparation)
prefill, decode   forwards, what lenses take inside of them left out · lenses: as the monitor counts them
"""

import gc
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import torch

from lenses.pack import LensPack
from runtime.config import MonitorConfig
from runtime.events import Event
from runtime.generate import Prompt
from runtime.host import Host
from runtime.monitor import Monitor
from serving.answers import Answer, Entry, prompt_and_content


class Native:
    """A monitor and its host, as a context manager."""

    def __init__(self, host: Host, pack: LensPack, config: MonitorConfig, show: int) -> None:
        self.host, self.config, self._show = host, config, show
        self._monitor = Monitor(pack, config)
        self._forwards = _Forwards(host.model, self._monitor)

    def answer(
        self, prompt: Prompt, new_tokens: int, *, temperature: float = 0.0, seed: int | None = None
    ) -> Answer:
        """At most so many tokens, greedy or drawn with a seed; events of all positions."""
        drawing: dict[str, Any] = {"do_sample": False}
        if temperature:
            drawing = {
                "do_sample": True,
                "temperature": temperature,
                "top_k": 0,
                "top_p": 1.0,
                "seed": seed,
            }
        gc.collect()  # what is timed is not to pay for what came before
        self._monitor.events.clear()
        self._forwards.clear()
        lens_before_ms = self._monitor.stats().lens_ms
        told: list[Event] = []
        first_s = 0.0
        began_s = perf_counter()
        stream = self._monitor.stream(
            self.host.model, self.host.tokenizer, prompt, max_new_tokens=new_tokens, **drawing
        )
        tokenised_s = perf_counter()
        tops = []
        for event in stream:
            told.append(event)
            tops.append(event.top(self._show))
            if not first_s and self._forwards.count and event.position + 1 == self._forwards.prompt:
                first_s = perf_counter()
        events, tokens = prompt_and_content(told)
        self.host.tokenizer.decode(tokens, skip_special_tokens=True)
        ended_s = perf_counter()
        lens_ms = self._monitor.stats().lens_ms - lens_before_ms
        prompt_lens_ms = self._forwards.lens_ms - lens_before_ms
        parts = {
            "tokenise": 1e3 * (tokenised_s - began_s),
            "queue": 1e3 * (self._forwards.first_s - tokenised_s),
            "prefill": max(0.0, self._forwards.prefill_ms - prompt_lens_ms),
            "decode": max(0.0, self._forwards.decode_ms - (lens_ms - prompt_lens_ms)),
            "lenses": lens_ms,
        }
        return Answer(
            tuple(tokens),
            tuple(Entry.of_event(event, self._show) for event in events),
            1e3 * (first_s - began_s),
            1e3 * (ended_s - began_s),
            parts,
            events=tuple(events),
        )

    def answer_to_ids(self, token_ids: Sequence[int], new_tokens: int) -> Answer:
        """The same to token ids, as a reference: nothing is timed."""
        told: list[Event] = []
        end = self._monitor.subscribe(told.append)
        ids_1T = torch.tensor([list(token_ids)], device=self.host.model.device)
        try:
            with self._monitor.attach(self.host.model):
                self.host.model.generate(
                    input_ids=ids_1T,
                    attention_mask=torch.ones_like(ids_1T),
                    max_new_tokens=new_tokens,
                    do_sample=False,
                )
        finally:
            end()
        events, tokens = prompt_and_content(told)
        entries = tuple(Entry.of_event(event, self._show) for event in events)
        return Answer(tuple(tokens), entries, 0.0, 0.0, events=tuple(events))

    def close(self) -> None:
        """End the monitor, take the hooks off the host."""
        self._forwards.remove()
        self._monitor.close()

    def __enter__(self) -> "Native":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Forwards:
    """Times the host's forwards from its first block on, so that what a monitor does before is not among them."""

    def __init__(self, model: Any, monitor: Monitor) -> None:
        self._monitor = monitor
        self._handles = [
            model.get_decoder().register_forward_pre_hook(self._begin, with_kwargs=True),
            model.register_forward_hook(self._end),
        ]
        self.clear()

    def clear(self) -> None:
        """A new run begins."""
        self.count = self.prompt = 0
        """Forwards, and tokens of the first one."""
        self.first_s = self._began_s = self.prefill_ms = self.decode_ms = self.lens_ms = 0.0
        """`lens_ms`: the monitor's, at the end of the first forward."""

    def remove(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()

    def _begin(self, decoder: torch.nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        self._began_s = perf_counter()
        if not self.count:
            ids = named.get("input_ids", arguments[0] if arguments else None)
            self.first_s, self.prompt = self._began_s, ids.shape[1] if ids is not None else 0

    def _end(self, model: torch.nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        took_ms = 1e3 * (perf_counter() - self._began_s)
        self.count += 1
        if self.count == 1:
            self.prefill_ms = took_ms
            self.lens_ms = self._monitor.stats().lens_ms
        else:
            self.decode_ms += took_ms
