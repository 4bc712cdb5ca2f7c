"""How much of what a generation wants its prompt had wanted already: what pre-warming lives on, counted.

A family is wanted where its children are scored; the base is no part of it. Knows events, nothing about time.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from experiments.recording import Recording
from experiments.replay import play
from experiments.subject import Subject, families_of
from runtime.config import MonitorConfig
from runtime.events import Event
from runtime.monitor import Monitor

Record = dict[str, Any]
Wanted = list[set[int]]
"""Families wanted at each position."""


def overlap(
    subject: Subject, recordings: Sequence[Recording], load_threshold: float | None, lengths: Iterable[int]
) -> list[Record]:
    """A row a length: shares over all texts whose recording is so long."""
    texts = [wanted(subject, recording, load_threshold) for recording in recordings]
    found = []
    for length in lengths:
        # The last token written is read by no row.
        long = [(prompt, after[: length - 1]) for prompt, after in texts if len(after) >= length - 1]
        if long:
            found.append({"length": length, "texts": len(long)} | shares(long))
    return found


def wanted(subject: Subject, recording: Recording, load_threshold: float | None) -> tuple[Wanted, Wanted]:
    """The families that each position of the prompt wants, and each of the generation."""
    families = families_of(subject.pack)
    with Monitor(subject.pack, MonitorConfig(load_threshold=load_threshold)) as monitor:
        base = set(monitor.engine.bank.base_families)
        play(monitor, subject.host, recording)

        def opened(event: Event) -> set[int]:
            return set(families(event.scored).tolist()) - base

        prompt = [opened(event) for event in monitor.events if event.phase == "prompt"]
        return prompt, [opened(event) for event in monitor.events if event.phase == "generation"]


def shares(texts: Collection[tuple[Wanted, Wanted]]) -> Record:
    """Means of distinct families over texts, and which share of one phase's the other has; None of nothing."""
    in_prompt = in_generation = in_both = requests = known = 0
    for prompt, generation in texts:
        before, after = set[int]().union(*prompt), set[int]().union(*generation)
        in_prompt, in_generation = in_prompt + len(before), in_generation + len(after)
        in_both += len(before & after)
        requests += sum(map(len, generation))
        known += sum(len(families & before) for families in generation)
    return {
        "prompt_families": in_prompt / len(texts),
        "generation_families": in_generation / len(texts),
        "of_families": in_both / in_generation if in_generation else None,
        "of_requests": known / requests if requests else None,
        "of_prompt": in_both / in_prompt if in_prompt else None,
    }
