"""Random packs of the reference's shape, and their lenses all in memory. No host belongs to them.

Shapes: P positions, D hidden size, N lenses.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from baseline.module import LensModule, module_of
from synthetic.tree import synthetic_tree
from synthetic.weights import FirstLayers, random_heads

from guarding.ratios import Broken
from lenses.bank import Bank
from lenses.concept import Family
from lenses.config import HostConfig, InputConfig, LensConfig, LensKind, StoredDtype
from lenses.lens import Floats
from lenses.pack import LensPack

HIDDEN_SIZE = 2560
SEED = 0
_CHECKED = 16
"""Lenses that are held against the slow, obvious score."""


def random_pack(
    directory: Path,
    *,
    levels: Sequence[int],
    base_levels: Sequence[int],
    kind: LensKind,
    widths: Sequence[int],
    dtype: StoredDtype,
) -> LensPack:
    """A pack of random lenses, the same whenever it is made."""
    hierarchy = synthetic_tree(levels, SEED)
    lens = LensConfig(kind, tuple(widths), dtype)
    layers = FirstLayers(hierarchy, lens.h1, lens.columns(HIDDEN_SIZE), SEED)
    return LensPack.create(
        directory,
        host=HostConfig("no-host", None, HIDDEN_SIZE, 1, "fp32"),
        site="resid_post.0",
        input=InputConfig(),
        lens=lens,
        base_levels=base_levels,
        hierarchy=hierarchy,
        first_layers=layers,
        heads=random_heads(lens, HIDDEN_SIZE, len(hierarchy), SEED),
    )


def random_states(positions: int) -> Floats:
    """[P, D] states that have nothing to do with each other."""
    rng = np.random.Generator(np.random.SFC64(SEED))
    return rng.standard_normal((positions, HIDDEN_SIZE), dtype=np.float32)


class AllHot:
    """Every lens of a pack ready to score: the base end to end, the other families each in a place of its own."""

    def __init__(self, pack: LensPack) -> None:
        self.pack = pack
        base = pack.hierarchy.base_families(pack.config.base_levels)
        self._bank = Bank(pack, base)
        self._layers = {
            family.index: pack.read_family(family.index)
            for family in pack.hierarchy.families
            if family.index not in base
        }
        heads = pack.heads.tensors().values()
        families = range(len(pack.hierarchy.families))
        self.size_bytes = sum(map(pack.family_bytes, families)) + sum(array.nbytes for array in heads)
        """Of all that one call must read."""
        self.ids = np.concatenate(
            [self._bank.base_ids, *(np.arange(f.first, f.first + f.rows) for f in self._families())]
        )

    def score(self, states_PD: Floats) -> Floats:
        """Logits `[P, N]` of all lenses, in the order of `ids`."""
        inputs_PC = self._bank.inputs(states_PD)
        base_PN = self._bank.score_base(inputs_PC)
        if not self._layers:
            return base_PN
        everyone = dict.fromkeys(self._layers, range(len(states_PD)))
        below = self._bank.score_families(self._layers, everyone, inputs_PC)
        return np.concatenate([base_PN, *(below[family] for family in self._layers)], axis=1)

    def check(self, states_PD: Floats) -> None:
        """Raise Broken unless some lenses score as `Lens.logit` does, the slow and obvious way."""
        logits_PN = self.score(states_PD)
        tolerance = 1e-5 * max(1.0, float(np.abs(logits_PN).max()))
        for at in np.linspace(0, len(self.ids) - 1, _CHECKED).astype(int).tolist():
            lens = self.pack.lens(int(self.ids[at]))
            for state_D, logits_N in zip(states_PD, logits_PN, strict=True):
                expected, found = lens.logit(torch.from_numpy(state_D)), float(logits_N[at])
                if not abs(found - expected) <= tolerance:
                    config = self.pack.config.lens
                    raise Broken(
                        f"contents differ: {config.kind} lens {lens.concept.id} in {config.dtype} gives {found:.6g}, "
                        f"one lens at a time {expected:.6g}"
                    )

    def modules(self) -> list[LensModule]:
        """Every lens as a module, in fp32."""
        return [module_of(self.pack, int(index)) for index in self.ids]

    def close(self) -> None:
        """End the bank's threads."""
        self._bank.close()

    def _families(self) -> list[Family]:
        return [self.pack.hierarchy.families[family] for family in self._layers]
