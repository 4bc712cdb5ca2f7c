"""Ways of training lenses that are compared, one thing changed at a time, and what a lens trained so reaches.

`VALUES` is the list: a field of `TrainingConfig` and the values to try; one line adds a field. The same configuration
with other seeds is among the variants: what that changes is noise.

A variant is tried on whole branches of the hierarchy (`branches`), so that siblings and parents stay together.

Shapes: S samples, N lenses, P positions.
"""

import hashlib
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from judging.controls import ServedLenses, pack_of
from judging.thresholds import MOST_SCORED

from choosing.metrics import metrics
from choosing.parts import Part
from lenses.calibration import fit_platt_in_parts, probability
from lenses.concept import Hierarchy
from lenses.lens import Floats, Heads
from lenses.training import TrainingConfig, train
from runtime.training.walks import active, best_within, curve

VALUES: Mapping[str, tuple[Any, ...]] = {
    "widths": ((8, 8), (16, 8), (32, 16)),
    "sibling_weight": (1.0, 4.0, 8.0),
    "dropout": (0.0, 0.1, 0.3),
    "weight_decay": (0.001, 0.01, 0.1),
    "coherence": (0.0, 0.03, 0.1, 0.3, 1.0),
}
"""Field of `TrainingConfig` to the values that are tried; half and twice the steps, and other seeds, go with them."""

OTHER_SEEDS = 2
"""With how many other seeds the default is trained. One pair may agree in a metric by chance."""

BASE_LEVELS = (0,)
"""Where the walk begins; the shallowest base leaves it most to find."""

TOP_K = (10, 20, 40, 80)
THRESHOLDS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5)
"""Of the walks that are compared."""

WALKED = 500
"""Positions at which the walk is followed."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One way of training."""

    field: str | None
    """What is changed; None for the default."""
    value: Any
    training: TrainingConfig

    @property
    def name(self) -> str:
        """As a report calls it."""
        return "default" if self.field is None else f"{self.field} {shown(self.value)}"


def shown(value: Any) -> str:
    """The value of a field as people write it."""
    return "-".join(map(str, value)) if isinstance(value, tuple | list) else f"{value:g}"


def variants(default: TrainingConfig) -> list[Variant]:
    """The default, then every way of changing one field of it."""
    seeds = tuple(default.seed + more for more in range(1, OTHER_SEEDS + 1))
    values = {"seed": seeds, **VALUES, "steps": (max(1, default.steps // 2), 2 * default.steps)}
    return [Variant(None, None, default)] + [
        Variant(field, value, replace(default, **{field: value}))
        for field, some in values.items()
        for value in some
        if value != getattr(default, field)
    ]


def branches(hierarchy: Hierarchy, share: float) -> Hierarchy:
    """Whole branches of level 0 with about this share of all lenses; always the same ones.

    Branches are taken in the order of the hash of their id, each that still fits; one at the least.
    """
    top_N = np.array([hierarchy.path(n)[0] for n in range(len(hierarchy))])
    sizes = dict(zip(*np.unique(top_N, return_counts=True), strict=True))
    in_order = sorted(sizes, key=lambda top: hashlib.sha256(hierarchy.concepts[top].id.encode()).hexdigest())
    taken: list[int] = []
    room = share * len(hierarchy)
    for top in in_order:
        if sizes[top] <= room:
            taken.append(top)
            room -= sizes[top]
    taken = taken or [min(in_order, key=lambda top: int(sizes[top]))]
    return Hierarchy.build(
        (concept.id, concept.name, concept.parent) for n, concept in enumerate(hierarchy) if top_N[n] in taken
    )


@dataclass(frozen=True, slots=True)
class Parts:
    """What lenses are trained on, calibrated on and measured on: three sets of texts."""

    train: Part
    calibration: Part
    measured: Part


def measure(
    training: TrainingConfig,
    hierarchy: Hierarchy,
    parts: Parts,
    *,
    progress: Callable[[int, float], None] = lambda step, loss: None,
) -> dict[str, float]:
    """Train and calibrate the lenses and measure them: `choosing.metrics`, and what the walk does with them.

    `active` is how many concepts beyond the base have a probability of 1/2 or more at a position, `recall` what share
    of these the best walk finds that scores a quarter of the lenses at the most, `share_scored` what it does score.
    """
    trained = train(parts.train.samples, hierarchy, training, progress=progress)
    with tempfile.TemporaryDirectory() as scratch:
        # An open pack reads from open files, so that the directory may go.
        lenses = ServedLenses(pack_of(trained, hierarchy, training, Path(scratch) / "pack"))
    ids = [concept.id for concept in hierarchy]
    logits_SN = lenses.score(parts.calibration.samples.states_SD, ids)
    slope, offset, calibrated = fit_platt_in_parts(logits_SN, parts.calibration.samples.positive(slice(None)))
    heads = replace(trained.heads, platt_slope=slope, platt_offset=offset, calibrated=calibrated)
    samples = parts.measured.samples
    logits_SN = lenses.score(samples.states_SD, ids)
    found = metrics(
        hierarchy, logits_SN, samples, parts.measured.last_S, probability(logits_SN, slope, offset)
    )
    return found | walked(hierarchy, heads, logits_SN)


def walked(hierarchy: Hierarchy, heads: Heads, logits_SN: Floats) -> dict[str, float]:
    """What the best walk that the budget allows finds at some of the positions."""
    picked = np.sort(np.random.default_rng(0).permutation(len(logits_SN))[:WALKED])
    logits_PN = logits_SN[picked]
    best = best_within(MOST_SCORED, curve(hierarchy, heads, logits_PN, [BASE_LEVELS], TOP_K, THRESHOLDS))
    return {
        "active": float(active(hierarchy, heads, BASE_LEVELS, logits_PN).sum(axis=1).mean()),
        "recall": best.recall,
        "share_scored": best.share_scored,
    }
