"""One generation of a host, watched or not: what it wrote, what was seen, how long every token took.

Tokens are timed the same way with lenses and without: by a stopping criterion, which `generate` asks after every one.
The first token's time begins with the call of `generate`, so the prompt is in it. Greedy, so that every run of the same
prompt writes the same, and what was seen can be compared run by run.

Shapes: T tokens of a prompt, G generated.
"""

import hashlib
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import torch

from lenses.errors import PhoropterError
from lenses.metrics import Doubles
from runtime.clock import Step
from runtime.counts import CacheStats
from runtime.generate import encode
from runtime.host import Host
from runtime.monitor import Monitor


@dataclass(frozen=True, slots=True)
class Task:
    """What a host is asked to write."""

    prompt: str
    new_tokens: int


@dataclass(frozen=True, slots=True)
class Run:
    """What one generation was."""

    token_ids: tuple[int, ...]
    """What was written, the prompt left out."""
    token_ms: Doubles
    """[G] milliseconds from token to token; the first from the call of `generate` on."""
    ending_ms: float
    """Milliseconds from the last token to the return of `generate`: last events, walks that waited."""
    contents: str | None = None
    """sha256 of the contents of all events; None where nobody watched."""
    events: int = 0
    steps: tuple[Step, ...] = ()
    """What the monitor's clock saw, if it is on: the prompt's step first."""
    cache: CacheStats | None = None
    """The cache's counters after the run, since the monitor was made."""

    @property
    def total_ms(self) -> float:
        """From the call of `generate` to its return."""
        return float(self.token_ms.sum()) + self.ending_ms


def generate(host: Host, task: Task, monitor: Monitor | None = None, **options: Any) -> Run:
    """Generate as the task says, watched by the monitor if there is one; raises PromptError.

    `options` are further arguments of the model's `generate`.
    """
    inputs = encode(host.model, host.tokenizer, task.prompt, task.new_tokens)
    told = {
        "max_new_tokens": task.new_tokens,
        "min_new_tokens": task.new_tokens,
        "do_sample": False,
    } | options
    if monitor is None:
        stamps, output, returned_s = _timed(host.model, inputs | told)
        return Run(_written(inputs, output), _between(stamps), (returned_s - stamps[-1]) * 1e3)
    monitor.events.clear()
    steps_before = len(monitor.clock.steps)
    with monitor.attach(host.model):
        stamps, output, returned_s = _timed(host.model, inputs | told)
    digest = hashlib.sha256()
    for event in monitor.events:
        digest.update(repr(event.content()[1:]).encode())  # the number of the sequence counts the runs
    return Run(
        _written(inputs, output),
        _between(stamps),
        (returned_s - stamps[-1]) * 1e3,
        contents=digest.hexdigest(),
        events=len(monitor.events),
        steps=tuple(monitor.clock.steps[steps_before:]),
        cache=monitor.stats().cache,
    )


class Differs(PhoropterError):
    """Two runs that must agree do not: nothing that was timed can be used."""


def check_same(name: str, run: Run, reference: Run) -> None:
    """Raise Differs unless a run wrote, and (where both were watched) saw, what the reference run did."""
    if run.token_ids != reference.token_ids:
        at = next(
            i for i, (a, b) in enumerate(zip(run.token_ids, reference.token_ids, strict=False)) if a != b
        )
        raise Differs(
            f"{name}: token {at} is {run.token_ids[at]}, the reference wrote {reference.token_ids[at]}"
        )
    if run.contents is not None and reference.contents is not None and run.contents != reference.contents:
        raise Differs(
            f"{name}: {run.events} events, not with the contents of the reference's {reference.events}"
        )


class _Stamps:
    """A stopping criterion that is never met, and notes when it is asked."""

    def __init__(self) -> None:
        self.seconds = [perf_counter()]

    def __call__(self, input_ids: torch.Tensor, scores: object, **_: object) -> torch.Tensor:
        self.seconds.append(perf_counter())
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def _timed(model: Any, arguments: dict[str, Any]) -> tuple[list[float], torch.Tensor, float]:
    stamps = _Stamps()
    output = model.generate(**arguments, stopping_criteria=[stamps])
    return stamps.seconds, output, perf_counter()


def _between(stamps: list[float]) -> Doubles:
    return np.diff(np.array(stamps)) * 1e3


def _written(inputs: dict[str, torch.Tensor], output: torch.Tensor) -> tuple[int, ...]:
    return tuple(output[0, inputs["input_ids"].shape[1] :].tolist())
