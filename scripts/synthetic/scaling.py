"""Scales random lenses so that a walk down their tree opens about as much as the reference's did.

Unscaled, some random lenses are always active and most never are: a walk would open everything or nothing, and always
the same. Every lens is put through states of its host; its last layer is then shifted and scaled so that its logit has
a standard deviation of 1 over them, and so that it passes the walk's threshold at a given share of positions:

- in the base: such that `FIRST` families are opened at a token;
- below: `DEEPER`, of the times that its family is open. Fewer and fewer children are parents, so that with each level
  fewer families are opened.

This needs no labels and is no calibration: slopes stay 1, offsets 0, and every lens says that it is not calibrated.

Shapes: P positions, D hidden size, N lenses, C columns of a first layer, h1 and h2 the widths of the hidden layers.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
import torch
from numpy.typing import NDArray

from lenses.calibration import threshold_log_odds
from lenses.concept import Family, Hierarchy
from lenses.lens import Floats, Heads
from runtime.expansion import Expansion
from synthetic.weights import FirstLayers

FIRST = 5.0
"""Families of the first level below the base that are opened at a token."""
DEEPER = 0.3
"""Share of positions at which a lens below the base passes the threshold."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What a walk opens at a token, on average."""

    families: float
    children: float
    cut: float
    """Families that qualified and were beyond `top_k`."""


def with_first_biases(heads: Heads, layers: FirstLayers, states_PD: Floats) -> tuple[Heads, Floats]:
    """The heads with the biases of the first layers, and the logits `[P, N]` of all lenses on these states."""
    states_PC = torch.from_numpy(states_PD)
    if heads.projection is not None:
        states_PC = states_PC @ torch.from_numpy(heads.projection).T
    bias1_NH = np.empty_like(heads.bias1)
    logits_PN = np.empty((len(states_PD), len(heads.bias1)), np.float32)

    def score(family: Family) -> None:
        own = slice(family.first, family.first + family.rows)
        weight_RC, bias1_NH[own] = layers.with_bias(family.index)
        hidden = (states_PC @ weight_RC.T).view(len(states_PC), family.rows, -1)
        hidden = torch.relu_(hidden.add_(torch.from_numpy(bias1_NH[own])))
        weight2, bias2, weight3, bias3 = _later(heads, own)
        hidden = torch.relu_(torch.einsum("pnh,noh->pno", hidden, weight2) + bias2)
        logits_PN[:, own] = (hidden * weight3).sum(dim=2) + bias3

    # Families side by side and one thread each: drawing numbers is half of the work, and torch has no part in that.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads, thread_name_prefix="scaling") as pool:
            list(pool.map(score, layers.hierarchy.families))
    finally:
        torch.set_num_threads(threads)
    return replace(heads, bias1=bias1_NH), logits_PN


def scale(
    heads: Heads, fitted_PN: Floats, shares_N: Floats, load_threshold: float
) -> tuple[Heads, Floats, Floats]:
    """Heads whose lenses pass the threshold at these shares of the positions that gave `fitted_PN`.

    Also slope and offset `[N]` that make new logits of old ones.
    """
    assert heads.weight3 is not None
    assert heads.bias3 is not None
    at_N = np.array([NormalDist().inv_cdf(1 - float(share)) for share in shares_N])
    slope_N = 1 / np.maximum(fitted_PN.std(axis=0, dtype=np.float64), 1e-6)
    offset_N = threshold_log_odds(load_threshold) - at_N - slope_N * fitted_PN.mean(axis=0, dtype=np.float64)
    slope_N, offset_N = slope_N.astype(np.float32), offset_N.astype(np.float32)
    scaled = replace(heads, weight3=heads.weight3 * slope_N[:, None], bias3=heads.bias3 * slope_N + offset_N)
    return scaled, slope_N, offset_N


def wanted_shares(hierarchy: Hierarchy, base_levels: Sequence[int]) -> Floats:
    """[N] the share of positions at which each lens should pass the threshold."""
    last = max(base_levels)
    parents = int(((hierarchy.levels == last) & (hierarchy.opens >= 0)).sum())
    first = min(0.5, FIRST / max(1, parents))
    return np.where(hierarchy.levels <= last, first, DEEPER).astype(np.float32)


def opened_by_walk(
    hierarchy: Hierarchy,
    heads: Heads,
    logits_PN: Floats,
    *,
    base_levels: Sequence[int],
    top_k: int,
    load_threshold: float,
) -> Opened:
    """What a walk opens at a position, on average over these logits of all lenses."""
    expansion = Expansion(hierarchy, heads, top_k, load_threshold, hierarchy.depth - 1)
    frontier = np.flatnonzero(hierarchy.levels == max(base_levels)).astype(np.int32)
    families = children = cut = 0
    for logits_N in logits_PN:
        choice = expansion.choose(frontier, logits_N[frontier])
        while choice.families:
            opened = np.concatenate([_members(hierarchy, family) for family in choice.families])
            families, children, cut = (
                families + len(choice.families),
                children + len(opened),
                cut + choice.cut,
            )
            choice = expansion.choose(opened, logits_N[opened])
    positions = len(logits_PN)
    return Opened(families / positions, children / positions, cut / positions)


def _members(hierarchy: Hierarchy, family: int) -> NDArray[np.int32]:
    found = hierarchy.families[family]
    return np.arange(found.first, found.first + found.rows, dtype=np.int32)


def _later(heads: Heads, own: slice) -> list[torch.Tensor]:
    layers = (heads.weight2, heads.bias2, heads.weight3, heads.bias3)
    return [torch.from_numpy(layer[own]) for layer in layers if layer is not None]
