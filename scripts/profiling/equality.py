"""Events held against one lens at a time: the walk done the slow, obvious way with the stored weights in fp32.

A position is equal where the same concepts were scored, as many families were cut, and no logit differs by more than
1e-5 of the largest (at least 1). The same comparison with states that are 1e-3 off must fail: a control that does not
says that the comparison sees nothing.

The walk shares with the engine what one lens computes and what a threshold is, and nothing of how it walks.

Shapes: S positions compared, D hidden size.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from lenses.calibration import log_odds, threshold_log_odds
from lenses.lens import Floats, Lens
from lenses.pack import LensPack
from profiling.states import Recorded
from runtime.config import MonitorConfig
from runtime.environment import FAITHFUL
from runtime.events import Event

PROMPT_POSITIONS, GENERATION_POSITIONS = 2, 6
OFF_BY = np.float32(1e-3)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Some events beside the reference."""

    positions: int
    same_sets: bool
    """Whether the same concepts were scored everywhere, and as many families cut."""
    largest: float
    """The largest difference of a logit that both have, as a share of its position's largest logit (at least 1)."""

    @property
    def equal(self) -> bool:
        """Whether they say the same."""
        return self.same_sets and self.largest <= FAITHFUL


class OneLensAtATime:
    """The slow walk over some input states; a family is read once, and its lenses are scored one at a time."""

    def __init__(self, pack: LensPack, config: MonitorConfig, states_SD: Floats) -> None:
        self._pack, self._states = pack, [torch.from_numpy(state_D) for state_D in states_SD]
        own = pack.config
        levels = own.base_levels if config.base_levels is None else config.base_levels
        self._max_level = pack.hierarchy.depth - 1 if config.max_level is None else config.max_level
        self._top_k = own.top_k if config.top_k is None else config.top_k
        self._least = threshold_log_odds(
            own.load_threshold if config.load_threshold is None else config.load_threshold
        )
        deepest = self._max_level if config.exhaustive else max(levels)
        self._base = [family.index for family in pack.hierarchy.families if family.level <= max(levels)]
        self._everywhere = [family.index for family in pack.hierarchy.families if family.level <= deepest]
        self._logits = lru_cache(maxsize=None)(self._score)

    def walk(self, at: int, *, expand: bool = True) -> tuple[dict[int, float], int]:
        """Concept index to logit of all that state `at` has scored, and how many families were cut.

        Without `expand`, of the base alone.
        """
        found: dict[int, float] = {}
        cut = 0
        for family in self._everywhere if expand else self._base:
            found |= self._logits(family)[at]
        frontier = list(found) if expand else []
        while frontier:
            opened, beyond = self._choose(frontier, found)
            cut += beyond
            frontier = []
            for family in opened:
                found |= self._logits(family)[at]
                frontier += self._logits(family)[at]
        return found, cut

    def _choose(self, frontier: Sequence[int], found: dict[int, float]) -> tuple[list[int], int]:
        """The families to open, best first, and how many more qualified."""
        hierarchy, heads = self._pack.hierarchy, self._pack.heads
        offered = []
        for index in frontier:
            opens = int(hierarchy.opens[index])
            if opens < 0 or opens in self._everywhere or hierarchy.levels[index] >= self._max_level:
                continue
            logit_1 = np.array([found[index]], np.float32)
            (odds,) = log_odds(logit_1, heads.platt_slope[[index]], heads.platt_offset[[index]])
            if odds >= self._least:
                offered.append((-float(odds), hierarchy.concepts[index].id, opens))
        offered.sort()
        return [family for _, _, family in offered[: self._top_k]], max(0, len(offered) - self._top_k)

    def _score(self, family: int) -> list[dict[int, float]]:
        """[S] concept index to logit of each lens of a family."""
        pack, h1 = self._pack, self._pack.config.lens.h1
        first_layers = pack.read_family(family)
        one = pack.hierarchy.families[family]
        found: list[dict[int, float]] = [{} for _ in self._states]
        for row in range(one.rows):
            index = one.first + row
            concept = pack.hierarchy.concepts[index]
            lens = Lens.of(concept, first_layers[row * h1 : (row + 1) * h1], pack.heads, index)
            for at, state_D in enumerate(self._states):
                found[at][index] = lens.logit(state_D)
        return found


def compare(pack: LensPack, config: MonitorConfig, events: Sequence[Event], states_SD: Floats) -> Comparison:
    """Hold events against the walk over the states that they are said to come from, one each."""
    reference = OneLensAtATime(pack, config, states_SD)
    same_sets, largest = True, 0.0
    for at, event in enumerate(events):
        expand = event.phase == "generation" or config.prompt_events == "full"
        expected, cut = reference.walk(at, expand=expand)
        found = dict(zip(event.scored.tolist(), event.logits.tolist(), strict=True))
        same_sets &= found.keys() == expected.keys() and event.coverage.cut == cut
        scale = max(1.0, *map(abs, expected.values()))
        both = found.keys() & expected.keys()
        largest = max(largest, *(abs(found[index] - expected[index]) / scale for index in both))
    return Comparison(len(events), same_sets, largest)


def equality(pack: LensPack, config: MonitorConfig, recorded: Recorded) -> dict[str, Any]:
    """The record of a sample of a run's positions, spread over prompt and generation, and of its control."""
    events = sample(recorded.events)
    place = {int(position): at for at, position in enumerate(recorded.position_P)}
    states_SD = recorded.states_PD[[place[event.position] for event in events]]
    found = compare(pack, config, events, states_SD)
    control = compare(pack, config, events, states_SD + OFF_BY)
    return {
        "equal": found.equal and not control.equal,
        "bound": FAITHFUL,
        "found": asdict(found),
        "control": asdict(control) | {"seen_to_differ": not control.equal},
    }


def sample(events: Sequence[Event]) -> list[Event]:
    """Some events that were scored, evenly over each phase."""
    found: list[Event] = []
    for phase, wanted in (("prompt", PROMPT_POSITIONS), ("generation", GENERATION_POSITIONS)):
        scored = [event for event in events if event.phase == phase and event.state == "ok"]
        at = np.unique(np.linspace(0, len(scored) - 1, min(wanted, len(scored))).round().astype(int))
        found += [scored[index] for index in at]
    return found
