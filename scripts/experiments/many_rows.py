"""The rows of a prompt in one call, everything hot: the base alone and the whole walk, beside one lens at a time.

Shapes: P positions, D hidden size.
"""

from functools import partial
from pathlib import Path
from typing import Any

from baseline.files import export_baseline, families_scored
from baseline.system import OneAtATime, Scored
from measuring.floor import MemoryFloor
from measuring.rounds import Variant
from measuring.turns import turns
from rich.progress import Progress

from experiments.replay import Seen
from experiments.subject import fp32_lens_bytes, lens_bytes, shared_bytes
from experiments.timings import against, all_hot, check_close, seen, timing
from experiments.trials import BASELINE_AGREES
from lenses.lens import Floats
from lenses.pack import LensPack
from runtime.config import MonitorConfig
from runtime.engine import Engine
from runtime.walk import Scores

ONE_AT_A_TIME = "one at a time"

Record = dict[str, Any]


def many_rows(
    packs: dict[str, LensPack],
    states_PD: Floats,
    files: Path,
    *,
    rounds: int,
    seed: int,
    progress: Progress,
    floor: MemoryFloor,
) -> list[Record]:
    """A row a variant and part: each pack's engine, the first twice, and the baseline on the first. Raises Differs."""
    pack = next(iter(packs.values()))
    export_baseline(pack, files, families=families_scored(pack, all_hot(pack), states_PD))
    parts: dict[str, dict[str, Any]] = {
        "base alone": {"max_level": max(pack.config.base_levels)},
        "whole walk": {},
    }
    rows: list[Record] = []
    for part, settings in parts.items():
        engines = {name: Engine(one, all_hot(one, **settings)) for name, one in packs.items()}
        # The first pass makes all hot, and says what every later one must give.
        expected = {name: seen(engine.score(states_PD, "prompt")) for name, engine in engines.items()}
        reference = next(iter(expected.values()))
        system = OneAtATime(pack, files, MonitorConfig(**settings), max_loaded_lenses=len(pack.hierarchy))
        variants = [
            Variant(
                name,
                partial(engine.score, states_PD, "prompt"),
                check=partial(_same, name, expected[name]),
            )
            for name, engine in engines.items()
        ]
        variants.append(variants[0].again())
        variants.append(
            Variant(ONE_AT_A_TIME, partial(system.score, states_PD), check=partial(_close, reference))
        )
        found = turns(
            variants,
            rounds=rounds,
            warm_up=1,
            seed=seed,
            title=f"{len(states_PD)} rows, {part}",
            progress=progress,
            floor=floor,
        )
        for variant in variants:
            name = variant.name.removesuffix(" (again)")
            of = packs.get(name)
            concepts = {int(index) for ids, _, _ in expected.get(name, reference) for index in ids}
            each = fp32_lens_bytes(pack) if of is None else lens_bytes(of)
            size = len(concepts) * each + shared_bytes(pack)
            rows.append(
                {
                    "part": part,
                    "name": variant.name,
                    "lenses": len(concepts),
                    **timing(found[variant.name], size, floor),
                    **against(found, variant.name, ONE_AT_A_TIME),
                }
            )
        for engine in engines.values():
            engine.close()
    return rows


def _same(name: str, expected: list[Seen], found: list[Scores]) -> None:
    check_close(name, seen(found), expected, 0.0)


def _close(expected: list[Seen], found: Scored) -> None:
    got = [(c.concepts, c.logits, c.cut) for c in found.contents]
    check_close(ONE_AT_A_TIME, got, expected, BASELINE_AGREES)
