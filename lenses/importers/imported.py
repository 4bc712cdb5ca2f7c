"""What every import ends with: a pack of lenses that are uncalibrated and unmeasured, and what was settled on the way.

Nothing of what a source says of its own quality is carried over: it was not measured on scores as served.

Shapes: N concepts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from lenses.concept import Hierarchy
from lenses.config import LensConfig
from lenses.files import PathLike
from lenses.importers.facts import Fact, Facts
from lenses.importers.odd import Odd, Oddities
from lenses.lens import Heads
from lenses.pack import SHARD_BYTES, LensPack

UNPROVEN = (
    "imported: no lens is calibrated or measured; its probabilities are squashed logits, and it never alarms"
)

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and of how much."""


@dataclass(frozen=True, slots=True)
class Imported:
    """A new pack, what it says and who said it, and what was odd."""

    pack: LensPack
    facts: Sequence[Fact]
    odd: Sequence[Odd]


def uncalibrated(count: int) -> dict[str, Any]:
    """The calibration of `count` lenses that have none, as fields of `Heads`."""
    return {
        "platt_slope": np.ones(count, np.float32),
        "platt_offset": np.zeros(count, np.float32),
        "calibrated": np.zeros(count, np.bool_),
    }


def create_pack(
    out: PathLike,
    facts: Facts,
    odd: Oddities,
    *,
    lens: LensConfig,
    hidden_size: int,
    hierarchy: Hierarchy,
    first_layers: Sequence[torch.Tensor],
    heads: Heads,
    provenance: Mapping[str, Any],
    progress: Progress,
) -> Imported:
    """Writes the pack; raises as `LensPack.create`."""
    levels = min(2, hierarchy.depth)
    facts.say("base_levels", tuple(range(levels)), "default")
    facts.say("licence", "unknown", "default: nothing says it")
    families = len(hierarchy.families)
    input = facts.input()
    rows = facts.rows()
    pack = LensPack.create(
        out,
        host=facts.host(hidden_size),
        site=facts["site"],
        input=input,
        lens=replace(lens, shards=1),
        base_levels=facts["base_levels"],
        hierarchy=hierarchy,
        first_layers=first_layers,
        heads=heads,
        provenance={
            "imported": UNPROVEN,
            "said_by": {fact.name: fact.origin for fact in rows},
            "odd": [item.to_json() for item in odd],
            **provenance,
        },
        licence=facts["licence"],
        max_shard_bytes=SHARD_BYTES,
        progress=lambda done: progress("families written", done, families),
    )
    return Imported(pack, rows, tuple(odd))
