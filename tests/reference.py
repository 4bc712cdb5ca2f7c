"""The walk down the hierarchy done the slow, obvious way: one lens at a time, one position at a time, no tiers.

What the engine computes is held against this. It shares the lens's own score (`Lens.logit`) and nothing else.
"""

import math
from dataclasses import dataclass, field

import torch

from lenses.pack import LensPack


@dataclass
class Walk:
    """What one position gets."""

    logits: dict[str, float] = field(default_factory=dict)
    """Concept id to logit, of everything scored."""
    opened: list[list[str]] = field(default_factory=list)
    """Ids of the parents opened, by level of the walk."""
    cut: int = 0
    close_calls: int = 0
    """Decisions within 1e-4 of a threshold or of each other: these may go either way in other arithmetic."""


def walk(
    pack: LensPack,
    state_D: torch.Tensor,
    *,
    base_levels: tuple[int, ...],
    top_k: int,
    load_threshold: float,
    max_level: int | None = None,
    exhaustive: bool = False,
) -> Walk:
    """Score one input state `[D]` as section 2 of the design says."""
    concepts = pack.hierarchy.concepts
    children: dict[str, list[str]] = {}
    for concept in concepts:
        if concept.parent is not None:
            children.setdefault(concept.parent, []).append(concept.id)
    deepest = max(concept.level for concept in concepts) if max_level is None else max_level
    found = Walk()

    def odds(concept_id: str) -> float:
        index = pack.hierarchy.index(concept_id)
        heads = pack.heads
        return float(heads.platt_slope[index]) * found.logits[concept_id] + float(heads.platt_offset[index])

    def score(concept_id: str) -> None:
        found.logits[concept_id] = pack.lens(pack.hierarchy.index(concept_id)).logit(state_D)

    for concept in concepts:
        if concept.level in base_levels or (exhaustive and concept.level <= deepest):
            score(concept.id)
    if exhaustive:
        return found
    threshold = math.log(load_threshold / (1 - load_threshold)) if 0 < load_threshold < 1 else -math.inf
    frontier = [c.id for c in concepts if c.level == max(base_levels) and c.id in children]
    while frontier and pack.hierarchy.concepts[pack.hierarchy.index(frontier[0])].level < deepest:
        ranked = sorted(frontier, key=lambda concept_id: (-odds(concept_id), concept_id))
        qualified = [concept_id for concept_id in ranked if odds(concept_id) >= threshold]
        values = [odds(concept_id) for concept_id in ranked]
        found.close_calls += sum(abs(value - threshold) < 4e-4 for value in values)
        if len(qualified) > top_k:
            found.close_calls += abs(odds(qualified[top_k - 1]) - odds(qualified[top_k])) < 4e-4
        found.cut += max(0, len(qualified) - top_k)
        opened = qualified[:top_k]
        if not opened:
            break
        found.opened.append(opened)
        for concept_id in opened:
            for child in children[concept_id]:
                score(child)
        frontier = [child for parent in opened for child in children[parent] if child in children]
    return found
