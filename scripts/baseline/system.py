"""The one-module-at-a-time system: it scores as `runtime.engine` does, lens by lens, and says where its time goes.

The walk, per position: score the base; of the frontier, open the best `top_k` whose calibrated probability reaches
`load_threshold`, ties by concept id; score their children; those are the next frontier. Positions handed over together
walk together, and a lens is scored at once for all that want it, as any such system would.

The cache holds modules in the order of their last use and counts lenses, not bytes. The base is in it and never leaves;
after every call the children used longest ago go until no more than `max_loaded_lenses` are left, base included.

    max_loaded_lenses   500: as the system measured first had it · 0: no cache, every child from disk at every call ·
                        None: every lens that has a file is read at the start and stays

It shares with the engine what a lens computes and how probabilities are calibrated, and nothing of how it walks.

Shapes: P positions, D hidden size, B the positions that one lens is scored for.
"""

import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from baseline.files import check_directory, lenses_there, load_module
from baseline.module import LensModule, check_kind
from lenses.calibration import log_odds, threshold_log_odds
from lenses.errors import ConfigError
from lenses.lens import Floats
from lenses.pack import LensPack
from runtime.config import MonitorConfig

MAX_LOADED_LENSES = 500
COMPONENTS = ("initial_detection", "child_loading", "child_detection", "cache_management", "other")
"""What the time of a call is made of; `other` is the rest: choosing, sorting, putting together."""


@dataclass(frozen=True, slots=True)
class Content:
    """What one position got: the same as the engine's scores in order, and its count of families cut."""

    concepts: NDArray[np.int32]
    """Ascending."""
    logits: Floats
    cut: int


@dataclass(frozen=True, slots=True)
class Scored:
    """What one call gave, and what it took."""

    contents: tuple[Content, ...]
    """By position."""
    total_ms: float
    component_ms: dict[str, float]
    """By name of `COMPONENTS`; they sum to `total_ms`."""
    loaded: int
    """Children read from disk."""
    reused: int
    """Children that were in the cache."""


@dataclass(frozen=True, slots=True)
class Prewarmed:
    """What pre-warming did."""

    total_ms: float
    loaded: int


class OneAtATime:
    """The baseline over the per-lens files of `directory` (`baseline.files.export_baseline`).

    Raises PackNotFound or PackMismatch for a directory that is not this pack's, ConfigError.
    """

    def __init__(
        self,
        pack: LensPack,
        directory: Path,
        config: MonitorConfig,
        *,
        max_loaded_lenses: int | None = MAX_LOADED_LENSES,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        check_kind(pack)
        check_directory(pack, directory)
        if config.exhaustive:
            raise ConfigError("the baseline walks, it does not score everything; leave exhaustive off")
        self._pack, self._directory, self._clock = pack, directory, clock
        self._hierarchy, self._heads = pack.hierarchy, pack.heads
        levels = pack.config.base_levels if config.base_levels is None else config.base_levels
        self._top_k = pack.config.top_k if config.top_k is None else config.top_k
        self._least = threshold_log_odds(
            pack.config.load_threshold if config.load_threshold is None else config.load_threshold
        )
        self._max_level = self._hierarchy.depth - 1 if config.max_level is None else config.max_level
        in_base = set(self._hierarchy.base_families(levels))
        self._base = {
            index: self._load(index)
            for index, concept in enumerate(self._hierarchy)
            if concept.family in in_base
        }
        self._frontier = [index for index in self._base if int(self._hierarchy.opens[index]) not in in_base]
        self._max_children = (
            len(self._hierarchy) if max_loaded_lenses is None else max(0, max_loaded_lenses - len(self._base))
        )
        self._children: OrderedDict[int, LensModule] = OrderedDict()
        if max_loaded_lenses is None:
            self._children.update(
                (index, self._load(index))
                for index in lenses_there(pack, directory)
                if index not in self._base
            )

    @property
    def base_count(self) -> int:
        """How many lenses are scored at every position."""
        return len(self._base)

    @property
    def loaded_children(self) -> tuple[int, ...]:
        """The children in memory, the one used longest ago first."""
        return tuple(self._children)

    def score(self, states_PD: Floats) -> Scored:
        """Score every position."""
        laps = _Laps(self._clock)
        found: list[dict[int, float]] = [{} for _ in states_PD]
        cut = [0] * len(states_PD)
        loaded = reused = 0
        with torch.inference_mode():
            states = torch.from_numpy(states_PD)
            laps.end("other")
            self._score_base(states, found)
            laps.end("initial_detection")
            frontiers = [self._frontier] * len(states_PD)
            while any(frontiers):
                wanted: dict[int, list[int]] = defaultdict(list)
                for position, frontier in enumerate(frontiers):
                    parents, beyond = self._choose(frontier, found[position])
                    cut[position] += beyond
                    for child in self._children_of(parents):
                        wanted[child].append(position)
                frontiers = [[] for _ in states_PD]
                for child, positions in wanted.items():
                    laps.end("other")
                    module = self._children.get(child)
                    if module is None:
                        module = self._children[child] = self._load(child)
                        loaded += 1
                        laps.end("child_loading")
                    else:
                        self._children.move_to_end(child)
                        reused += 1
                        laps.end("cache_management")
                    logits = _logits(module, states if len(positions) == len(states) else states[positions])
                    laps.end("child_detection")
                    for position, logit in zip(positions, logits, strict=True):
                        found[position][child] = logit
                        frontiers[position].append(child)
            laps.end("other")
            self._prune()
            laps.end("cache_management")
        contents = tuple(_content(one, beyond) for one, beyond in zip(found, cut, strict=True))
        laps.end("other")
        return Scored(contents, laps.total_ms, laps.component_ms, loaded, reused)

    def prewarm(self, states_PD: Floats) -> Prewarmed:
        """Load the children that the base says these positions will open, most wanted first, while there is room."""
        begin = self._clock()
        loaded = 0
        with torch.inference_mode():
            found: list[dict[int, float]] = [{} for _ in states_PD]
            self._score_base(torch.from_numpy(states_PD), found)
            wanted: dict[int, int] = defaultdict(int)
            for scores in found:
                for child in self._children_of(self._choose(self._frontier, scores)[0]):
                    wanted[child] += 1
            first = sorted(wanted, key=lambda child: (-wanted[child], child))[: self._max_children]
            for child in reversed(first):  # the most wanted was used last, and so leaves last
                if child not in self._children:
                    self._children[child] = self._load(child)
                    loaded += 1
                self._children.move_to_end(child)
            self._prune()
        return Prewarmed(1e3 * (self._clock() - begin), loaded)

    def _score_base(self, states_PD: torch.Tensor, found: list[dict[int, float]]) -> None:
        for index, module in self._base.items():
            for position, logit in enumerate(_logits(module, states_PD)):
                found[position][index] = logit

    def _choose(self, frontier: Sequence[int], scores: dict[int, float]) -> tuple[list[int], int]:
        """The concepts to open, best first, and how many more qualified."""
        opens, levels = self._hierarchy.opens, self._hierarchy.levels
        parents = [index for index in frontier if opens[index] >= 0 and levels[index] < self._max_level]
        logits = np.array([scores[index] for index in parents], np.float32)
        odds = log_odds(logits, self._heads.platt_slope[parents], self._heads.platt_offset[parents])
        ids = [self._hierarchy.concepts[index].id for index in parents]
        ranked = sorted(
            (-float(odd), id, index)
            for odd, id, index in zip(odds, ids, parents, strict=True)
            if odd >= self._least
        )
        taken = [index for _, _, index in ranked[: self._top_k]]
        return taken, len(ranked) - len(taken)

    def _children_of(self, parents: Sequence[int]) -> Iterator[int]:
        for parent in parents:
            family = self._hierarchy.families[self._hierarchy.opens[parent]]
            yield from range(family.first, family.first + family.rows)

    def _prune(self) -> None:
        while len(self._children) > self._max_children:
            self._children.popitem(last=False)

    def _load(self, index: int) -> LensModule:
        return load_module(self._pack, self._directory, index)


class _Laps:
    """Where the time of one call goes: each part is what passed since the part before it ended."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._begin = self._last = now()
        self.component_ms = dict.fromkeys(COMPONENTS, 0.0)

    def end(self, component: str) -> None:
        now = self._now()
        self.component_ms[component] += 1e3 * (now - self._last)
        self._last = now

    @property
    def total_ms(self) -> float:
        return 1e3 * (self._last - self._begin)


def _logits(module: LensModule, states_BD: torch.Tensor) -> list[float]:
    """One lens at some positions: one synchronisation a lens, as such systems have it."""
    logits_B1 = module(states_BD)
    if len(states_BD) == 1:
        return [logits_B1.item()]
    found: list[float] = logits_B1[:, 0].tolist()
    return found


def _content(scores: dict[int, float], cut: int) -> Content:
    concepts = sorted(scores)
    return Content(
        np.array(concepts, np.int32), np.array([scores[index] for index in concepts], np.float32), cut
    )
