"""The engine: input states in, scores out. Read this first.

    states_PD ──▶ base ──▶ frontier ──▶ choose families ──▶ fetch them ──▶ score them ──▶ next frontier ──▶ ...
                  bank                  expansion           cache          bank

All positions handed over together walk down together: a level's families are fetched once for all of them, and each
is scored for the positions that opened it. What a position gets does not depend on the others (the bank's logits have
the same bits in any batch, the expansion looks at one position at a time), so walking together is a matter of speed.

`expansion` decides, `cache` moves, `bank` computes; this file knows the order. It knows nothing about host models,
tokens or events.

Shapes: P positions, D hidden size, C what lenses read of a state, N concepts.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from lenses.bank import Bank
from lenses.errors import ConfigError
from lenses.lens import Floats
from lenses.pack import LensPack
from runtime.cache import FamilyCache
from runtime.config import MonitorConfig
from runtime.events import Coverage, Phase
from runtime.expansion import Choice, Expansion


@dataclass(slots=True)
class Scores:
    """What one position got: which concepts were scored, what came out, and what could not be."""

    concepts: list[NDArray[np.int32]] = field(default_factory=list)
    logits: list[Floats] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)
    """Families that could not be read."""
    failed_lenses: int = 0
    cut: int = 0
    origins: dict[str, int] = field(default_factory=lambda: {"hot": 0, "warm": 0, "cold": 0})

    def add(self, concepts: NDArray[np.int32], logits: Floats) -> None:
        """Add concepts and their logits."""
        self.concepts.append(concepts)
        self.logits.append(logits)

    def ordered(self) -> tuple[NDArray[np.int32], Floats]:
        """Concept indices, ascending, and their logits."""
        concepts, logits = np.concatenate(self.concepts), np.concatenate(self.logits)
        order = np.argsort(concepts)
        return concepts[order], logits[order]

    @property
    def coverage(self) -> Coverage:
        """Coverage of a strict walk: nothing is ever left pending."""
        scored = sum(len(concepts) for concepts in self.concepts)
        return Coverage(scored + self.failed_lenses, scored, 0, self.failed_lenses, self.cut)


class Engine:
    """Scores input states with one pack under one configuration; owns the bank and the cache."""

    def __init__(self, pack: LensPack, config: MonitorConfig) -> None:
        hierarchy = pack.hierarchy
        base_levels = pack.config.base_levels if config.base_levels is None else config.base_levels
        deepest = hierarchy.depth - 1
        if max(base_levels) > deepest:
            raise ConfigError(
                f"base level {max(base_levels)} does not exist: this pack has levels 0 to {deepest}; leave it out"
            )
        max_level = deepest if config.max_level is None else config.max_level
        if max_level < max(base_levels):
            raise ConfigError(
                f"max level {max_level} is above base level {max(base_levels)}; raise it or give fewer base levels"
            )
        self.pack = pack
        self.config = config
        self.base_levels = base_levels
        device = torch.device(config.device)
        base = hierarchy.base_families(base_levels)
        self.cache = FamilyCache(
            pack,
            families=len(hierarchy.families),
            base=base,
            hot_budget_bytes=config.hot_budget_bytes,
            warm_budget_bytes=config.warm_budget_bytes,
            device=device,
        )
        self.bank = Bank(pack, base, device=device)
        self.expansion = Expansion(
            hierarchy,
            pack.heads,
            pack.config.top_k if config.top_k is None else config.top_k,
            pack.config.load_threshold if config.load_threshold is None else config.load_threshold,
            max_level,
        )
        self._families = [
            np.arange(family.first, family.first + family.rows, dtype=np.int32)
            for family in hierarchy.families
        ]
        opened_by_base = hierarchy.opens[self.bank.base_ids]
        self._frontier = np.flatnonzero((opened_by_base >= 0) & ~np.isin(opened_by_base, base))
        in_base = set(base)
        self._rest = [f.index for f in hierarchy.families if f.index not in in_base and f.level <= max_level]

    @property
    def base_count(self) -> int:
        """How many lenses the base has."""
        return len(self.bank.base_ids)

    def score(self, states_PD: Floats, phase: Phase, *, read_ahead: bool = False) -> list[Scores]:
        """Score every position as the configuration says.

        With `read_ahead`, the families that any position wants at a level are read in one overlapped batch, most
        wanted first, before they are met; without it each is read when it is met. The scores are the same.
        """
        inputs_PC = self.bank.inputs(states_PD)
        scores, base_PN = self._score_base(inputs_PC)
        if self.config.exhaustive:
            everything = {family: list(range(len(states_PD))) for family in self._rest}
            self._score_families(everything, inputs_PC, scores, phase, read_ahead)
            return scores
        frontier_ids = self.bank.base_ids[self._frontier]
        choices = [self.expansion.choose(frontier_ids, row_N[self._frontier]) for row_N in base_PN]
        while any(choice.families for choice in choices):
            for position, choice in enumerate(choices):
                scores[position].cut += choice.cut
            opened = self._score_families(wanted_by(choices), inputs_PC, scores, phase, read_ahead)
            choices = [self._choose_next(scored) for scored in opened]
        return scores

    def score_base(self, states_PD: Floats) -> list[Scores]:
        """Score every position with the base alone."""
        return self._score_base(self.bank.inputs(states_PD))[0]

    def close(self) -> None:
        """End the engine's threads; idempotent."""
        self.cache.close()
        self.bank.close()

    def _score_base(self, inputs_PC: Floats) -> tuple[list[Scores], Floats]:
        base_PN = self.bank.score_base(inputs_PC)
        scores = [Scores() for _ in inputs_PC]
        for position, row_N in enumerate(base_PN):
            scores[position].add(self.bank.base_ids, row_N)
        return scores, base_PN

    def _score_families(
        self,
        wanted: dict[int, list[int]],
        inputs_PC: Floats,
        scores: list[Scores],
        phase: Phase,
        read_ahead: bool,
    ) -> list[Scores]:
        """Fetch the wanted families and score each for its positions; returns what each position got by it."""
        opened = [Scores() for _ in inputs_PC]
        if read_ahead:
            self.cache.prefetch(wanted)
        requests = {family: len(positions) for family, positions in wanted.items()}
        for group in self.cache.groups(wanted, requests, phase):
            logits = self.bank.score_families(group.resident, wanted, inputs_PC)
            for family, origin in group.origin.items():
                positions = wanted[family]
                for position, logits_F in zip(positions, logits[family], strict=True):
                    scores[position].add(self._families[family], logits_F)
                    opened[position].add(self._families[family], logits_F)
                scores[positions[0]].origins[origin] += 1
                for position in positions[1:]:
                    scores[position].origins["hot"] += 1
            for family in group.failed:
                for position in wanted[family]:
                    scores[position].failed.append(family)
                    scores[position].failed_lenses += len(self._families[family])
        return opened

    def _choose_next(self, opened: Scores) -> Choice:
        if not opened.concepts:
            return Choice((), (), 0)
        return self.expansion.choose(np.concatenate(opened.concepts), np.concatenate(opened.logits))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def wanted_by(choices: Sequence[Choice]) -> dict[int, list[int]]:
    """Family to the positions that open it, most wanted first: by how many, then by the strongest of them."""
    positions: dict[int, list[int]] = defaultdict(list)
    strongest: dict[int, float] = {}
    for position, choice in enumerate(choices):
        for family, odds in zip(choice.families, choice.odds, strict=True):
            positions[family].append(position)
            strongest[family] = max(odds, strongest.get(family, odds))
    order = sorted(positions, key=lambda family: (-len(positions[family]), -strongest[family], family))
    return {family: positions[family] for family in order}
