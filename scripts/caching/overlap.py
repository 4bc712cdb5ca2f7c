"""What a prompt and the generation after it have in common, in families: what reading the prompt's ahead can save.

Shapes: F families (as sets).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from caching.traces import Step


@dataclass(frozen=True, slots=True)
class Overlap:
    """Counts over all sessions that have a prompt and a generation, each with an empty memory of its own."""

    sessions: int
    prompt: int
    """Families that prompts wanted, summed over sessions."""
    generation: int
    """Families that generations wanted: so many first requests."""
    common: int
    """Of those, wanted by the session's own prompt before."""
    common_with_other: int
    """A control: wanted by the prompt of the session before."""
    wasted: int
    """Families that the prompt wanted and its generation did not."""


def overlap(steps: Sequence[Step]) -> Overlap:
    """The overlap of each session's prompt with its own generation, and with that of the next session."""
    prompt = generation = common = other = wasted = sessions = 0
    before: set[int] | None = None
    for _, group in groupby(steps, key=lambda step: step.session):
        session = list(group)
        read = _families(step for step in session if step.phase == "prompt")
        written = _families(step for step in session if step.phase == "generation")
        if before is not None:  # the first session has no other to be compared with
            sessions += 1
            prompt += len(read)
            generation += len(written)
            common += len(read & written)
            other += len(before & written)
            wasted += len(read - written)
        before = read
    return Overlap(sessions, prompt, generation, common, other, wasted)


def _families(steps: Iterable[Step]) -> set[int]:
    return {family for step in steps for call in step.calls for family in call.families}
