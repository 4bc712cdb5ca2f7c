"""The bank on one row and on the rows of a prompt, everything in memory.

Shapes: P positions, D hidden size.
"""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import torch
from baseline.module import LensModule
from measuring.floor import MemoryFloor
from measuring.rounds import Variant, alternate

from guarding.packs import AllHot, random_pack, random_states
from guarding.ratios import Ratio, twice
from lenses.config import StoredDtype
from lenses.lens import Floats

LEVELS, BASE_LEVELS, WIDTHS = (5, 23, 241, 50), (0, 1, 2), (128, 64)
"""269 lenses at every position, and fifty below them."""
COMPACT_LEVELS, COMPACT_WIDTHS = (5, 23, 241, 1283, 2603, 2687, 1105), (256, 16, 8)
"""All of the reference's tree."""
PROMPT_ROWS = 72


def scoring_ratios(place: Path, *, rounds: int, between: Callable[[], object]) -> list[Ratio]:
    """Make the packs in `place`, hold their scores against one lens at a time, and time them."""
    one_PD, prompt_PD = random_states(1), random_states(PROMPT_ROWS)
    with ExitStack() as opened:
        ready: dict[str, AllHot] = {}
        dtypes: tuple[StoredDtype, ...] = ("bf16", "int8")
        for dtype in dtypes:
            pack = random_pack(
                place / dtype, levels=LEVELS, base_levels=BASE_LEVELS, kind="mlp", widths=WIDTHS, dtype=dtype
            )
            ready[dtype] = AllHot(pack)
        everything = range(len(COMPACT_LEVELS))
        pack = random_pack(
            place / "compact",
            levels=COMPACT_LEVELS,
            base_levels=everything,
            kind="compact",
            widths=COMPACT_WIDTHS,
            dtype="bf16",
        )
        ready["compact"] = AllHot(pack)
        for hot in ready.values():
            opened.callback(hot.close)
            hot.check(prompt_PD[:3])
        modules = ready["bf16"].modules()
        variants = [Variant(name, partial(hot.score, one_PD)) for name, hot in ready.items()]
        variants += [
            Variant(f"prompt, {name}", partial(ready[name].score, prompt_PD)) for name in ("bf16", "int8")
        ]
        variants.append(
            Variant("prompt, one lens at a time", partial(_one_lens_at_a_time, modules, prompt_PD))
        )
        floor = opened.enter_context(MemoryFloor())

        def before_a_round() -> None:
            floor.sample()
            between()

        found = alternate(twice(variants), rounds=rounds, between=before_a_round)
        floors = {name: floor.floor_ms(hot.size_bytes) for name, hot in ready.items()}
    prompt = f"{PROMPT_ROWS} rows"
    return [
        Ratio.over_ms("one row, bf16: over the memory floor", found, "bf16", floors["bf16"]),
        Ratio.over_ms("one row, int8: over the memory floor", found, "int8", floors["int8"]),
        Ratio.over("one row, int8: over bf16", found, "int8", "bf16"),
        Ratio.over_ms(
            "one row, compact, every lens: over the memory floor", found, "compact", floors["compact"]
        ),
        *(
            Ratio.over(
                f"{prompt}, {name}: over one lens at a time",
                found,
                f"prompt, {name}",
                "prompt, one lens at a time",
            )
            for name in ("bf16", "int8")
        ),
    ]


def _one_lens_at_a_time(modules: list[LensModule], states_PD: Floats) -> Floats:
    with torch.inference_mode():
        states = torch.from_numpy(states_PD)
        return np.array([module(states)[:, 0].tolist() for module in modules], np.float32).T
