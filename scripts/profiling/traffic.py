"""Which bytes each component had to move in a step: counts of what was scored and read, times what each takes.

Weights are counted once for all positions that are scored together, all layers of a lens, as they are stored. What
reads little (choosing, events, finding families) has no bytes here and so no floor.
"""

from dataclasses import dataclass
from typing import Self

from runtime.clock import Component, Step
from runtime.engine import Engine


@dataclass(frozen=True, slots=True)
class Sizes:
    """What lenses of one pack take."""

    base_lenses: int
    first_bytes: int
    """The first layer of one lens."""
    head_bytes: int
    """The rest of one lens: later layers, biases, scales, calibration."""
    projection_bytes: int
    """The projection that the lenses of a compact pack share; 0 for others."""
    copies: bool
    """Whether families are copied to a device before they are scored."""

    @classmethod
    def of(cls, engine: Engine) -> Self:
        """The sizes of an engine's pack, and of what it scores at every position."""
        pack = engine.pack
        arrays = pack.heads.tensors()
        projection = arrays.pop("projection", None)
        lenses = len(pack.hierarchy)
        families = range(len(pack.hierarchy.families))
        return cls(
            base_lenses=len(engine.bank.base_ids),
            first_bytes=sum(map(pack.family_bytes, families)) // lenses,
            head_bytes=sum(array.nbytes for array in arrays.values()) // lenses,
            projection_bytes=0 if projection is None else projection.nbytes,
            copies=engine.bank.device.type != "cpu",
        )


def moved_bytes(step: Step, sizes: Sizes) -> dict[Component, int]:
    """Component to the bytes that it could not but move in this step; those that move none worth counting left out."""
    counts = {name: step.counts.get(name, 0) for name in _COUNTS}
    lens_bytes = sizes.first_bytes + sizes.head_bytes
    children = sum(counts[f"lenses {tier}"] for tier in TIERS)
    moved = {
        Component.STATES: counts["base passes"] * sizes.projection_bytes,
        Component.DETECTION: counts["base passes"] * sizes.base_lenses * lens_bytes,
        Component.PREWARM: counts["bytes prefetched"],
        Component.COLD: counts["bytes read"] - counts["bytes prefetched"],
        Component.WARM: (children - counts["lenses hot"]) * sizes.first_bytes if sizes.copies else 0,
        Component.CHILDREN: children * lens_bytes,
    }
    return {component: size for component, size in moved.items() if size}


TIERS = ("hot", "warm", "cold")
_COUNTS = (
    *("base passes", "bytes read", "bytes prefetched"),
    *(f"lenses {tier}" for tier in TIERS),
)
