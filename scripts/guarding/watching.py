"""The travelling pack on its host: what a walk adds to scoring, and the counters of everything that is switched on.

Every way to watch must give the contents of the default, bit by bit, and a narrower walk must be seen to differ. A
counter here that stays at 0 belongs to something that does not work any more.

Shapes: T tokens of the prompt, P positions that are scored, D hidden size.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from measuring.rounds import Variant, alternate
from profiling.runs import Differs, Run, Task, check_same, generate

from guarding.ratios import Broken, Ratio, twice
from lenses.lens import Floats
from lenses.pack import LensPack
from lenses.state import input_states
from runtime.clock import Clock, Component
from runtime.config import MonitorConfig
from runtime.engine import Engine
from runtime.generate import encode
from runtime.hook import Rows, Tap
from runtime.host import Host
from runtime.monitor import Monitor, MonitorStats

PROMPT = "A violin is a musical instrument with four strings. The musician"
NEW_TOKENS, READ_EVERY = 12, 4
SMALL = 8
"""The small hot tier has room for the base and one part in so many of the rest, the warm one for as much."""

Counters = dict[str, int]


def watching_counters(host: Host, pack: LensPack) -> Counters:
    """Watch one generation in every way there is; raises Broken where one does not do what it is for."""
    task = Task(PROMPT, NEW_TOKENS)
    little = small_budgets(pack)
    reference, _ = watch(host, pack, task)
    ways: dict[str, dict[str, Any]] = {
        "small": little,
        "small, no pre-warming": little | {"prewarm": False},
        "small, deferred": little | {"missing": "deferred", "prewarm": False},
        "read every": {"read_every": READ_EVERY},
    }
    runs: dict[str, tuple[Run, MonitorStats]] = {}
    for name, settings in ways.items():
        runs[name] = watch(host, pack, task, **settings)
        try:
            check_same(name, runs[name][0], reference)
        except Differs as error:
            raise Broken(f"contents differ: {error}") from error
    narrow, _ = watch(host, pack, task, top_k=1)
    if narrow.contents == reference.contents:
        raise Broken("contents do not differ where they must: a walk of width 1 saw what the pack's own sees")
    small, cold, deferred = (runs[name][1] for name in list(ways)[:3])
    both = small.cache.prompt, small.cache.generation
    counters = {
        "requests": sum(phase.requests for phase in both),
        "hot hits": sum(phase.hot_hits for phase in both),
        "warm hits": cold.cache.prompt.warm_hits + cold.cache.generation.warm_hits,
        "cold misses": sum(phase.cold_misses for phase in both),
        "families read": small.cache.reads,
        "bytes read": small.cache.bytes_read,
        "promotions": small.cache.promotions,
        "demotions": small.cache.demotions,
        "evictions": small.cache.evictions,
        "families read by pre-warming": small.cache.prefetched,
        "cold misses of the prompt that pre-warming saves": cold.cache.prompt.cold_misses
        - small.cache.prompt.cold_misses,
        # How many depends on how fast reads come.
        "positions deferred, if any: 1": min(1, deferred.deferred),
        "scorings that reading several tokens saves": scorings(reference) - scorings(runs["read every"][0]),
    }
    check_counters(counters)
    for name, still in (
        ("read ahead without pre-warming", cold.cache.prefetched),
        ("pending at the end", deferred.pending),
    ):
        if still:
            raise Broken(f"counter {name}: {still}, expected 0")
    return counters


def check_counters(counters: Counters) -> None:
    """Raise Broken for the first counter that has not moved."""
    for name, value in counters.items():
        if value <= 0:
            raise Broken(f"counter {name}: {value}, and it must move")


def small_budgets(pack: LensPack) -> dict[str, int]:
    """Budgets in which families have to come and go."""
    base = set(pack.hierarchy.base_families(pack.config.base_levels))
    sizes = {family.index: pack.family_bytes(family.index) for family in pack.hierarchy.families}
    rest = [size for family, size in sizes.items() if family not in base]
    room = max(max(rest), sum(rest) // SMALL)
    return {"hot_budget_bytes": sum(sizes.values()) - sum(rest) + room, "warm_budget_bytes": room}


def watch(host: Host, pack: LensPack, task: Task, **settings: Any) -> tuple[Run, MonitorStats]:
    """One generation by a monitor of its own, and its counters."""
    with Monitor(pack, clock=Clock(), **settings) as monitor:
        return generate(host, task, monitor), monitor.stats()


def scorings(run: Run) -> int:
    """Steps of generation in which the base was scored."""
    return sum(
        step.parts_ms.get(Component.DETECTION, 0.0) > 0 for step in run.steps if step.name == "generation"
    )


def watching_ratios(host: Host, pack: LensPack, *, rounds: int, between: Callable[[], object]) -> list[Ratio]:
    """What the walk adds to scoring, what reading several tokens at a time saves, what being watched costs."""
    states_PD = prompt_states(host, pack)
    task = Task(PROMPT, NEW_TOKENS)
    with Engine(pack, MonitorConfig()) as engine, Monitor(pack) as monitor:
        alone = [
            partial(_score_alone, engine, state_D[None], opened)
            for state_D, opened in _opened(engine, states_PD)
        ]
        variants = twice(
            [
                Variant("walk", lambda: [engine.score(state_D[None], "generation") for state_D in states_PD]),
                Variant("scoring", lambda: [score() for score in alone]),
                Variant(
                    "several",
                    lambda: [
                        engine.score(states_PD[at : at + READ_EVERY], "generation")
                        for at in range(0, len(states_PD), READ_EVERY)
                    ],
                ),
                Variant("watched", partial(generate, host, task, monitor)),
                Variant("unwatched", partial(generate, host, task)),
            ]
        )
        found = alternate(variants, rounds=rounds, between=between)
    return [
        Ratio.over("travelling pack, a position's walk: over scoring its lenses", found, "walk", "scoring"),
        Ratio.over(
            f"travelling pack, {READ_EVERY} positions at a time: over one by one", found, "several", "walk"
        ),
        Ratio.over("travelling pack, watched generation: over unwatched", found, "watched", "unwatched"),
    ]


def prompt_states(host: Host, pack: LensPack) -> Floats:
    """[P, D] input states of the prompt, its first token left out."""
    rows = Rows()
    inputs = encode(host.model, host.tokenizer, PROMPT)
    with torch.inference_mode(), Tap(host.model, pack.config.site, rows):
        host.model(**inputs)
    return input_states(rows.take_BTD()[0, 1:], pack.config.input)


def _opened(engine: Engine, states_PD: Floats) -> list[tuple[Floats, dict[int, torch.Tensor]]]:
    """Each state with the families that its walk opens, in memory."""
    pack, base = engine.pack, set(engine.bank.base_families)
    found = []
    for state_D, scores in zip(states_PD, engine.score(states_PD, "generation"), strict=True):
        concepts = np.concatenate(scores.concepts).tolist()
        families = sorted({pack.hierarchy.concepts[concept].family for concept in concepts} - base)
        found.append((state_D, {family: pack.read_family(family) for family in families}))
    return found


def _score_alone(engine: Engine, state_PD: Floats, layers: dict[int, torch.Tensor]) -> None:
    """Score what the walk scores, in two calls: no choosing, no tiers, no order."""
    inputs_PC = engine.bank.inputs(state_PD)
    engine.bank.score_base(inputs_PC)
    engine.bank.score_families(layers, {family: [0] for family in layers}, inputs_PC)
