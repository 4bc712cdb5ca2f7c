"""Runs all variants of one generation in turns, at two lengths, and compares every run with the default's first.

A run is timed by `profiling.runs`: what a variant changes of the host is changed before its clock starts and undone
after it has stopped. Every monitor stays as its last run left it, families in memory included, as in a long session.

Shapes: R rounds, B sequences, T tokens, D hidden size.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from measuring import rounds as turns
from profiling.runs import Differs, Run, Task, generate

from ledgers.agreement import (
    HOST_LOGIT,
    SCORED_LOGIT,
    Agreement,
    Seen,
    agree_exactly,
    agree_nearly,
    largest_difference,
)
from ledgers.variants import DEFAULT, Variant
from lenses.metrics import Doubles
from lenses.text import one_line
from runtime.generate import encode
from runtime.hook import Forward
from runtime.host import Host
from runtime.monitor import Monitor

CONTROL = 1e-3
"""What the control adds to a row: noise of this share of its size."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A variant that can run."""

    variant: Variant
    host: Host
    monitor: Monitor | None
    changes: tuple[AbstractContextManager[object], ...] = ()
    """What is done to the host for a run."""

    def run(self, task: Task) -> Seen:
        """Generate once."""
        options = {"prefill_chunk_size": 1} if self.variant.by_token else {}
        with ExitStack() as stack:
            for change in self.changes:
                stack.enter_context(change)
            run = generate(self.host, task, self.monitor, **options)
        return Seen(run, () if self.monitor is None else tuple(self.monitor.events))


@dataclass(slots=True)
class Samples:
    """The runs of one variant, and how they agreed."""

    variant: Variant
    runs: dict[int, list[Run]] = field(default_factory=dict)
    """Tokens generated to the runs of that length, those of the warm-up first."""
    agreement: Agreement = field(default_factory=Agreement)
    first: dict[int, Seen] = field(default_factory=dict)

    def ms(self, new_tokens: int, part: Callable[[Run], float], rounds: int) -> Doubles:
        """[R] one number of each timed run of a length."""
        return np.array([part(run) for run in self.runs[new_tokens][-rounds:]])


def prefill_ms(run: Run) -> float:
    """From the call of `generate` to the first token: the prompt, and all that is done with it before a word comes."""
    return float(run.token_ms[0])


def generation_ms(run: Run) -> float:
    """From the first token to the return of `generate`."""
    return run.total_ms - prefill_ms(run)


def total_ms(run: Run) -> float:
    """Of the whole call."""
    return run.total_ms


def time_subjects(
    subjects: Sequence[Subject],
    tasks: Sequence[Task],
    *,
    rounds: int,
    seed: int,
    between: Callable[[], object],
) -> list[Samples]:
    """Run every subject at every length once a round; the first must be the default's. Raises Differs."""
    default = subjects[0]
    assert default.variant == DEFAULT, "everything is held against the default"
    references = {task: default.run(task) for task in tasks}
    found = [Samples(subject.variant) for subject in subjects]

    def keep(samples: Samples, subject: Subject, task: Task, seen: Seen) -> None:
        gap = partial(_two_best, subject.host, task, references[task].run.token_ids)
        samples.agreement = samples.agreement.and_also(
            _compare(subject, seen, references[task], samples.first.setdefault(task.new_tokens, seen), gap)
        )
        samples.runs.setdefault(task.new_tokens, []).append(seen.run)

    turns.alternate(
        [
            turns.Variant(
                f"{subject.variant.name}, {task.new_tokens} tokens",
                partial(subject.run, task),
                check=partial(keep, samples, subject, task),
            )
            for subject, samples in zip(subjects, found, strict=True)
            for task in tasks
        ],
        rounds=rounds,
        warm_up=1,  # the references are warm-up, too, and one round compiles all there is
        seed=seed,
        between=between,
    )
    return found


def control(subject: Subject, task: Task) -> str:
    """What is seen to differ when the rows that a monitor sees are off by a little; raises Differs if nothing is."""
    monitor = subject.monitor
    assert monitor is not None, "the control is of what is seen"
    reference = subject.run(task)
    noise = torch.Generator().manual_seed(0)
    observe = monitor.observe

    def observe_noise(forward: Forward) -> None:
        rows_BTD = forward.rows_BTD.to("cpu", torch.float32)
        size_BT1 = rows_BTD.square().mean(dim=2, keepdim=True).sqrt()
        observe(
            replace(
                forward,
                rows_BTD=rows_BTD + CONTROL * size_BT1 * torch.randn(rows_BTD.shape, generator=noise),
            )
        )

    monitor.observe = observe_noise  # type: ignore[method-assign]
    try:
        seen = subject.run(task)
    finally:
        del monitor.observe
    try:
        agree_nearly("control", seen, reference, config=monitor.config, tolerance=HOST_LOGIT, gap=_never)
    except Differs as error:
        return one_line(error)
    raise Differs(
        f"rows that were off by {CONTROL} of their size gave the same events: comparing shows nothing here"
    )


def _compare(
    subject: Subject, seen: Seen, reference: Seen, own_first: Seen, gap: Callable[[int], float]
) -> Agreement:
    variant, name = subject.variant, subject.variant.name
    if variant.must == "agree exactly":
        return agree_exactly(name, seen, reference)
    if variant.must == "write the same":
        agree_exactly(name, seen, own_first)
        agree_exactly(name, Seen(replace(seen.run, contents=None)), reference)
        return Agreement(largest_difference(seen.events, reference.events) if seen.events else 0.0)
    assert subject.monitor is not None
    changed = bool(variant.host) or variant.by_token
    return agree_nearly(
        name,
        seen,
        reference,
        config=subject.monitor.config,
        tolerance=HOST_LOGIT if changed else SCORED_LOGIT,
        gap=gap if changed else _never,
    )


def _never(at: int) -> float:
    """The gap where the host computes the same bits: texts may not part."""
    return np.inf


def _two_best(host: Host, task: Task, token_ids: Sequence[int], at: int) -> float:
    """How far the host's two best logits lie apart where it chose token `at` of these."""
    ids = encode(host.model, host.tokenizer, task.prompt, task.new_tokens)["input_ids"]
    before = torch.tensor([token_ids[:at]], dtype=ids.dtype, device=ids.device)
    with torch.inference_mode():
        logits = host.model(input_ids=torch.cat([ids, before], dim=1), use_cache=False).logits[0, -1]
    first, second = logits.float().topk(2).values.tolist()
    return float(first - second)
