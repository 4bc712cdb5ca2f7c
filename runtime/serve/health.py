"""Is the engine alive, does it move, and is what it says true?"""

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

import numpy as np

from lenses.errors import PhoropterError
from lenses.text import one_line
from runtime.known import KnownScores, tolerance
from runtime.serve.request import LensWishes, Request
from runtime.serve.scheduler import Progress, Scheduler

PROBE = "readiness"
"""The client that the server itself is."""


class Health:
    """Judges by progress: there is something to do, and no step has ended for `stall_s` seconds.

    `problem` is to be asked now and then (a second apart, say): how long nothing has moved is how long it was seen so.
    """

    def __init__(
        self, progress: Callable[[], Progress], stall_s: float, clock: Callable[[], float] = monotonic
    ) -> None:
        self._progress, self._stall_s, self._clock = progress, stall_s, clock
        self._steps, self._moved_s = -1, clock()

    def problem(self) -> str | None:
        """What is wrong, in one line."""
        now, progress = self._clock(), self._progress()
        if progress.failure is not None:
            return f"the engine has ended: {progress.failure}"
        # Those whose readers are too slow wait for them, not for the engine.
        has_work = progress.waiting + progress.running - progress.paused > 0
        if progress.steps != self._steps or not has_work:
            self._steps, self._moved_s = progress.steps, now
            return None
        still_s = now - self._moved_s
        if still_s < self._stall_s:
            return None
        return (
            f"nothing has moved for {still_s:.0f} s while {progress.waiting} requests wait and "
            f"{progress.running - progress.paused} run"
        )


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a known text is scored as it was when the pack was made."""

    is_ready: bool
    known: str
    """What was compared and how it came out, in one line."""


async def try_known(scheduler: Scheduler) -> Readiness:
    """Have the engine score the pack's known text, like any request, and compare."""
    pack, model = scheduler.pack, scheduler.host.model
    try:
        known = KnownScores.of(pack)
        if known is None:
            return Readiness(True, "no known scores are recorded in this pack, so nothing was compared")
        if tuple(scheduler.host.tokenizer(known.prompt)["input_ids"]) != known.tokens:
            return Readiness(False, "the tokenizer makes other tokens of the known text than it did")
        wishes = LensWishes(show=0, track=tuple(known.logits))
        request = Request(known.tokens, 1, lenses=wishes, client=PROBE)
        now: dict[str, float] = {}
        said = ""
        async for chunk in scheduler.submit(request):
            if chunk.event is not None:
                now = {score.id: score.logit for score in chunk.event.asked}
            said = chunk.detail
    except PhoropterError as error:
        return Readiness(False, one_line(error))
    if missing := len(known.logits.keys() - now.keys()):
        return Readiness(
            False, f"{missing} of {len(known.logits)} known scores did not come: {said or 'not scored'}"
        )
    off, allowed = _difference(known, now), tolerance(model, known)
    said = f"{len(known.logits)} recorded logits, {off:.0e} off at the most, {allowed:.0e} allowed"
    return Readiness(off <= allowed, said)


def _difference(known: KnownScores, now: dict[str, Any]) -> float:
    """As a share of the largest logit then (at least 1)."""
    then_A = np.array(list(known.logits.values()))
    now_A = np.array([now[id] for id in known.logits])
    return float(np.abs(now_A - then_A).max() / max(1.0, np.abs(then_A).max()))
