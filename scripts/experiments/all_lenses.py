"""Every lens of a pack at one row (`exhaustive`): the engine's whole work, checked against single lenses.

Shapes: T rows, D hidden size, N lenses.
"""

from typing import Any

import numpy as np
import torch
from measuring.floor import MemoryFloor
from measuring.rounds import Variant
from measuring.turns import turns
from profiling.runs import Differs
from rich.progress import Progress

from experiments.subject import lens_bytes, shared_bytes
from experiments.timings import against, all_hot, timing
from experiments.trials import BASELINE_AGREES
from lenses.lens import Floats
from lenses.pack import LensPack
from runtime.clock import Clock, Component
from runtime.engine import Engine
from runtime.walk import Scores

CHECKED = 40
"""Lenses that are compared with the slow reference after the last run."""

Record = dict[str, Any]


class Exhaustive:
    """An engine that scores all lenses, a row a call, the rows going round."""

    def __init__(self, pack: LensPack, states_TD: Floats) -> None:
        self.pack, self.clock = pack, Clock()
        self._states_TD = states_TD
        self._engine = Engine(pack, all_hot(pack, exhaustive=True), self.clock)
        self._at = -1
        self._last: Scores | None = None

    def score(self) -> Scores:
        """All lenses at the next row."""
        self.clock.step("generation")
        self._at = (self._at + 1) % len(self._states_TD)
        (scores,) = self._engine.score(self._states_TD[self._at : self._at + 1], "generation")
        self.clock.finish()
        return scores

    def keep(self, scores: Scores) -> None:
        """Remember what the last call gave; raises Differs unless it has every lens."""
        self._last = scores
        if (found := scores.coverage.scored) != len(self.pack.hierarchy):
            raise Differs(f"{found} lenses were scored, expected {len(self.pack.hierarchy)}")

    def check(self) -> None:
        """Raise Differs unless a sample of the last logits are what the slow reference says, and others are not."""
        assert self._last is not None
        _, logits_N = self._last.ordered()
        state_D = torch.from_numpy(self._states_TD[self._at])
        picked = np.unique(np.linspace(0, len(logits_N) - 1, CHECKED).astype(int))
        expected = np.array([self.pack.lens(int(index)).logit(state_D) for index in picked])
        most = BASELINE_AGREES * max(1.0, float(np.abs(expected).max()))
        if float(np.abs(logits_N[picked] - expected).max()) > most:
            raise Differs(f"{self.pack.path.name}: logits differ from single lenses by more than {most:.3g}")
        if float(np.abs(logits_N[picked[::-1]] - expected).max()) <= most:
            raise Differs(f"{self.pack.path.name}: other lenses' logits pass for these: nothing was compared")

    def close(self) -> None:
        """End the engine's threads."""
        self._engine.close()


def all_lenses(
    packs: dict[str, tuple[LensPack, Floats]],
    *,
    rounds: int,
    seed: int,
    progress: Progress,
    floor: MemoryFloor,
) -> list[Record]:
    """A row a pack, the first twice; each with the states that it is scored on. Raises Differs."""
    first = next(iter(packs))
    scorers = {name: Exhaustive(*one) for name, one in packs.items()}
    scorers[f"{first} (again)"] = Exhaustive(*packs[first])
    variants = [Variant(name, one.score, check=one.keep) for name, one in scorers.items()]
    found = turns(
        variants, rounds=rounds, warm_up=3, seed=seed, title="all lenses", progress=progress, floor=floor
    )
    rows = []
    for name, one in scorers.items():
        one.check()
        one.close()
        size = len(one.pack.hierarchy) * lens_bytes(one.pack) + shared_bytes(one.pack)
        steps = one.clock.steps[-rounds:]
        scoring = [
            step.parts_ms[Component.STATES]
            + step.parts_ms[Component.DETECTION]
            + step.parts_ms[Component.CHILDREN]
            for step in steps
        ]
        rows.append(
            {
                "name": name,
                "lenses": len(one.pack.hierarchy),
                "size_bytes": size,
                "engine": timing(found[name], size, floor),
                "scoring": timing(scoring, size, floor),
                **against(found, name, first),
            }
        )
    return rows
