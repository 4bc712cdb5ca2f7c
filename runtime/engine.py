"""The engine: input states in, scores out. Read this first.

    states_PD ──▶ base ──▶ frontier ──▶ choose families ──▶ fetch them ──▶ score them ──▶ next frontier ──▶ ...
                  bank                  expansion           cache          bank

All positions handed over together walk down together: a level's families are fetched once for all of them, and each
is scored for the positions that opened it. What a position gets does not depend on the others (the bank's logits have
the same bits in any batch, the expansion looks at one position at a time), so walking together is a matter of speed.

A walk that may not wait stops at the first level of which a family is cold: it scores what is there, the readers read
the rest, and it goes on from where it stopped when it is handed over again. It is the same loop that waits and that
does not, so both end with the same scores.

`expansion` decides, `cache` moves, `bank` computes, a `Walk` is one position's state; this file knows the order. It
knows nothing about host models, tokens or events, and keeps no walk.

Shapes: P positions, D hidden size, C what lenses read of a state, N concepts, A concepts that are asked for.
"""

from collections import defaultdict
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from typing import Self, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from lenses.bank import Bank
from lenses.errors import PackIntegrityError
from lenses.lens import Floats
from lenses.pack import LensPack
from runtime.cache import FamilyCache, Group
from runtime.clock import NO_CLOCK, Clock, Component
from runtime.config import MonitorConfig
from runtime.events import Phase
from runtime.expansion import NOTHING, Choice, Expansion
from runtime.tiers import Tier
from runtime.walk import Scored, Scores, Walk

_FAMILIES = {tier: f"families {tier}" for tier in get_args(Tier)}
_LENSES = {tier: f"lenses {tier}" for tier in get_args(Tier)}


class Engine:
    """Scores input states with one pack under one configuration; owns the bank and the cache."""

    def __init__(self, pack: LensPack, config: MonitorConfig, clock: Clock = NO_CLOCK) -> None:
        hierarchy = pack.hierarchy
        reach = config.reach(pack)
        base_levels, max_level = reach.base_levels, reach.max_level
        self.pack = pack
        self.config = config
        self.base_levels = base_levels
        self._clock = clock
        device = torch.device(config.device)
        base = hierarchy.base_families(base_levels)
        self.base_count = sum(hierarchy.families[family].rows for family in base)
        """How many lenses the base has."""
        asked_ids = dict.fromkeys([*config.always, *(rule.concept for rule in config.rules)])
        self.asked: NDArray[np.int32] = np.array([hierarchy.index(id) for id in asked_ids], np.int32)
        """[A] concepts that rules and `always` ask for, scored at every position beside the walk, which goes its way as
        if they were not: see `Scores.asked_A`."""
        families_A = [hierarchy.concepts[index].family for index in self.asked]
        aside = sorted(set(families_A) - set(base))
        aside_bytes = sum(map(pack.family_bytes, aside))
        bank, resident = None, base
        if config.exhaustive:
            everything = hierarchy.base_families(range(max_level + 1))
            bank = _bank_of_all(pack, everything, config.hot_budget_bytes - aside_bytes, device)
            resident = base if bank is None else everything
        self.cache = FamilyCache(
            pack,
            levels=[family.level for family in hierarchy.families],
            base=resident,
            hot_budget_bytes=config.hot_budget_bytes,
            warm_budget_bytes=config.warm_budget_bytes,
            device=device,
            aside_bytes=aside_bytes,
            clock=clock,
        )
        self.bank = bank or Bank(pack, base, device=device)
        self._aside = Bank(pack, aside, device=device) if aside else None
        is_aside_A = np.isin(families_A, aside)
        self._asked_of_base, self._asked_aside = np.flatnonzero(~is_aside_A), np.flatnonzero(is_aside_A)
        self._columns_of_base = np.searchsorted(self.bank.base_ids, self.asked[~is_aside_A])
        if self._aside is not None:
            self._columns_aside = np.searchsorted(self._aside.base_ids, self.asked[is_aside_A])
        self._base = np.flatnonzero(np.isin(hierarchy.levels[self.bank.base_ids], base_levels))
        self.expansion = Expansion(
            hierarchy,
            pack.heads,
            reach.top_k,
            reach.load_threshold,
            max_level,
        )
        self._families = [
            np.arange(family.first, family.first + family.rows, dtype=np.int32)
            for family in hierarchy.families
        ]
        opened_by_base = hierarchy.opens[self.bank.base_ids]
        self._frontier = np.flatnonzero((opened_by_base >= 0) & ~np.isin(opened_by_base, resident))
        self._frontier_ids = self.bank.base_ids[self._frontier]
        in_base = set(resident)
        rest = [f.index for f in hierarchy.families if f.index not in in_base and f.level <= max_level]
        self._everything = Choice(tuple(rest), (0.0,) * len(rest), 0)

    def score(self, states_PD: Floats, phase: Phase, *, read_ahead: bool = False) -> list[Scores]:
        """Score every position as the configuration says, waiting for every family."""
        walks = self.begin(states_PD, phase)
        self.go_on(walks, wait=True, read_ahead=read_ahead)
        return [walk.scores for walk in walks]

    def score_base(self, states_PD: Floats) -> list[Scores]:
        """Score every position with the base alone."""
        base_ids = self.bank.base_ids[self._base]
        inputs_PC = self._inputs(states_PD)
        base_PN = self._score_base(inputs_PC)
        asked_PA = self._score_asked(inputs_PC, base_PN)
        return [
            Scores([base_ids], [base_N[self._base]], asked_A=asked_A)
            for base_N, asked_A in zip(base_PN, asked_PA, strict=True)
        ]

    def begin(self, states_PD: Floats, phase: Phase) -> list[Walk]:
        """Score every position with the base, and choose what it opens first."""
        inputs_PC = self._inputs(states_PD)
        base_PN = self._score_base(inputs_PC)
        asked_PA = self._score_asked(inputs_PC, base_PN)
        with self._clock.part(Component.EXPANSION):
            choices = [self._first_choice(base_N) for base_N in base_PN]
        return [
            Walk(
                input_C,
                phase,
                Scores([self.bank.base_ids], [base_N], cut=choice.cut, asked_A=asked_A),
                choice,
            )
            for input_C, base_N, asked_A, choice in zip(inputs_PC, base_PN, asked_PA, choices, strict=True)
        ]

    def go_on(
        self, walks: Sequence[Walk], *, wait: bool, read_ahead: bool = False, spare: Collection[int] = ()
    ) -> None:
        """Take walks down as far as they come: to their end with `wait`, else to where a family is not there yet.

        With `read_ahead`, the families that any of them wants at a level are read in one overlapped batch, most
        wanted first, before they are met, and that batch is waited for whatever `wait` says; without it, who waits
        reads each when it is met (`strict`) or all of a level at once (`deferred`). Families in `spare` are
        awaited by other walks and not pushed out by reads that nobody waits for. The scores are the same.
        """
        for phase in dict.fromkeys(walk.phase for walk in walks):
            together = [walk for walk in walks if walk.phase == phase]
            self._walk_down(together, phase, wait, read_ahead, spare)

    def close(self) -> None:
        """End the engine's threads; idempotent."""
        self.cache.close()
        self.bank.close()
        if self._aside is not None:
            self._aside.close()

    # The order of things: base, choose, fetch, score, choose, fetch, score ...

    def _inputs(self, states_PD: Floats) -> Floats:
        with self._clock.part(Component.STATES):
            return self.bank.inputs(states_PD)

    def _score_base(self, inputs_PC: Floats) -> Floats:
        self._clock.count("base passes")
        with self._clock.part(Component.DETECTION):
            return self.bank.score_base(inputs_PC)

    def _score_asked(self, inputs_PC: Floats, base_PN: Floats) -> Floats:
        """Logits `[P, A]` of the concepts that are asked for: those of the base are there, the others have a bank."""
        asked_PA = np.empty((len(inputs_PC), len(self.asked)), np.float32)
        if not len(self.asked):
            return asked_PA
        asked_PA[:, self._asked_of_base] = base_PN[:, self._columns_of_base]
        if self._aside is not None:
            with self._clock.part(Component.DETECTION):
                aside_PN = self._aside.score_base(inputs_PC)
            asked_PA[:, self._asked_aside] = aside_PN[:, self._columns_aside]
        return asked_PA

    def _walk_down(
        self, walks: Sequence[Walk], phase: Phase, wait: bool, read_ahead: bool, spare: Collection[int]
    ) -> None:
        """Take walks of one phase down, a level at a time; those that lack a family stay behind."""
        inputs_PC = np.stack([walk.input_C for walk in walks])
        choices = [walk.choice for walk in walks]
        while any(choice.families for choice in choices):
            wanted = wanted_by(choices)
            left = dict(wanted)
            with self._clock.part(Component.CACHE):
                try:
                    for group in self._fetch(wanted, walks, phase, wait, read_ahead, spare):
                        self._score_families(group, left, walks, inputs_PC)
                finally:
                    self._leave(
                        left, [walk for walk, choice in zip(walks, choices, strict=True) if choice.families]
                    )
            with self._clock.part(Component.EXPANSION):
                choices = [self._choose_next(walk) if walk.is_complete else NOTHING for walk in walks]

    def _fetch(
        self,
        wanted: Mapping[int, list[int]],
        walks: Sequence[Walk],
        phase: Phase,
        wait: bool,
        read_ahead: bool,
        spare: Collection[int],
    ) -> Iterator[Group]:
        """Groups of the wanted families, counted as requests of the positions that have not asked before."""
        if read_ahead:
            with self._clock.part(Component.PREWARM):
                self.cache.prefetch(wanted)
        if self.config.missing == "strict":
            requests = {family: len(positions) for family, positions in wanted.items()}
            return self.cache.groups(wanted, requests, phase)
        again = {family: sum(walks[p].asked for p in positions) for family, positions in wanted.items()}
        new = {family: len(positions) - again[family] for family, positions in wanted.items()}
        return self.cache.request(new, phase, wait=wait, again=again, spare=spare)

    def _score_families(
        self, group: Group, left: dict[int, list[int]], walks: Sequence[Walk], inputs_PC: Floats
    ) -> None:
        """Score the families of a group for the positions that want them, and take them from what is left."""
        with self._clock.part(Component.CHILDREN):
            logits = self.bank.score_families(group.resident, left, inputs_PC)
        for family, origin in group.origin.items():
            self._clock.count(_FAMILIES[origin])
            self._clock.count(_LENSES[origin], len(self._families[family]))
            for position in left[family]:
                if not walks[position].asked:  # who has asked before did not find it, which was counted then
                    walks[position].scores.origins[origin] += 1
                    origin = "hot"  # the first position brings it in
        if len(walks) == 1 and logits:
            # In one piece: a generated token walks alone, and its families are many and small.
            concepts = np.concatenate([self._families[family] for family in logits])
            found = np.concatenate([logits_PF[0] for logits_PF in logits.values()])
            walks[0].add(concepts, found)
        else:
            for family, logits_PF in logits.items():
                for position, logits_F in zip(left[family], logits_PF, strict=True):
                    walks[position].add(self._families[family], logits_F)
        for family in logits:
            del left[family]
        for family in group.failed:
            for position in left.pop(family):
                walk = walks[position]
                walk.scores.failed.append(family)
                walk.scores.failed_lenses += len(self._families[family])
                walk.scores.origins["cold"] -= walk.asked

    def _leave(self, left: Container[int], walks: Sequence[Walk]) -> None:
        """Note which families of this level each of these walks still lacks."""
        for walk in walks:
            walk.choice = _lacking(walk.choice, left) if left else NOTHING
            lacks = walk.choice.families
            walk.scores.pending_lenses = sum(len(self._families[family]) for family in lacks)
            if not walk.asked:
                walk.scores.origins["cold"] += len(lacks)
            walk.asked = bool(lacks)

    def _first_choice(self, base_N: Floats) -> Choice:
        if self.config.exhaustive:
            return self._everything
        return self.expansion.choose(self._frontier_ids, base_N[self._frontier])

    def _choose_next(self, walk: Walk) -> Choice:
        """What a walk opens now that all of its level is in."""
        scored, walk.level = walk.level, Scored()
        if scored.concepts and not self.config.exhaustive:
            walk.choice = self.expansion.choose(
                np.concatenate(scored.concepts), np.concatenate(scored.logits)
            )
            walk.scores.cut += walk.choice.cut
        return walk.choice

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _lacking(choice: Choice, left: Container[int]) -> Choice:
    """What is left of a choice."""
    kept = [(f, odds) for f, odds in zip(choice.families, choice.odds, strict=True) if f in left]
    return Choice(tuple(family for family, _ in kept), tuple(odds for _, odds in kept), 0)


def _bank_of_all(
    pack: LensPack, families: Sequence[int], budget_bytes: int, device: torch.device
) -> Bank | None:
    """Everything end to end, to be scored in one call; None where it does not fit, or a family is damaged.

    Then families come through the cache, which names what cannot be read and goes on without it.
    """
    if sum(map(pack.family_bytes, families)) > budget_bytes:
        return None
    try:
        return Bank(pack, families, device=device)
    except PackIntegrityError:
        return None


def wanted_by(choices: Sequence[Choice]) -> dict[int, list[int]]:
    """Family to the positions that open it, most wanted first: by how many, then by the strongest of them."""
    first = choices[0]
    if all(choice is first for choice in choices):  # one position alone, or all that want everything
        everyone = list(range(len(choices)))
        return dict.fromkeys(first.families, everyone)
    positions: dict[int, list[int]] = defaultdict(list)
    strongest: dict[int, float] = {}
    for position, choice in enumerate(choices):
        for family, odds in zip(choice.families, choice.odds, strict=True):
            positions[family].append(position)
            strongest[family] = max(odds, strongest.get(family, odds))
    order = sorted(positions, key=lambda family: (-len(positions[family]), -strongest[family], family))
    return {family: positions[family] for family in order}
