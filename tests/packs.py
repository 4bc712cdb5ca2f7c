"""Small random packs for tests: any hierarchy, any kind of lens, deterministic by seed."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from lenses.alarms import alarm_curve
from lenses.concept import Concept, Hierarchy
from lenses.config import HostConfig, InputConfig, LensConfig
from lenses.lens import Heads
from lenses.null import Null, null_metrics
from lenses.pack import LensPack

Nodes = Iterable[tuple[str, str, str | None]]


def tree_nodes(branching: Sequence[int]) -> list[tuple[str, str, str | None]]:
    """A full tree: `branching[n]` children under every concept of level n - 1; ids like `c1`, `c1-0`."""
    nodes: list[tuple[str, str, str | None]] = []
    level: list[str | None] = [None]
    for width in branching:
        below: list[str | None] = []
        for parent in level:
            for row in range(width):
                id = f"c{row}" if parent is None else f"{parent}-{row}"
                nodes.append((id, f"concept {id}", parent))
                below.append(id)
        level = below
    return nodes


WIDTHS = {"mlp": (4, 3), "linear": (), "compact": (6, 4, 3)}
"""Widths of each kind of lens where a test does not say."""


def random_heads(count: int, lens: LensConfig, hidden_size: int, rng: np.random.Generator) -> Heads:
    """Random later layers with random calibrations, about a fifth of them uncalibrated.

    Without scales for int8: `LensPack.create` finds them as it quantises.
    """
    lens = replace(lens, dtype="fp32")
    shapes = Heads.shapes(lens, hidden_size, count)
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    calibrated = rng.random(count) < 0.8
    slope = rng.uniform(0.5, 2.0, count)
    offset = rng.normal(size=count)
    arrays["calibrated"] = calibrated.astype(np.uint8)
    arrays["platt_slope"] = np.where(calibrated, slope, 1.0).astype(np.float32)
    arrays["platt_offset"] = np.where(calibrated, offset, 0.0).astype(np.float32)
    if lens.kind == "compact":
        arrays["projection"] /= np.float32(np.sqrt(hidden_size))
    return Heads.from_tensors(arrays, lens, hidden_size, count)


def random_first_layers(
    hierarchy: Hierarchy, lens: LensConfig, hidden_size: int, rng: np.random.Generator
) -> list[torch.Tensor]:
    """A random fp32 first layer `[rows * h1, D]` (`[rows * h1, R]` of compact) for every family."""
    columns = lens.columns(hidden_size)
    return [
        torch.from_numpy(
            (rng.normal(size=(family.rows * lens.h1, columns)) / np.sqrt(columns)).astype(np.float32)
        )
        for family in hierarchy.families
    ]


def with_metrics(hierarchy: Hierarchy, rng: np.random.Generator) -> Hierarchy:
    """The same hierarchy with random metrics and thresholds, as a trained pack has; one lens in five is unmeasured."""

    def measured(index: int, concept: Concept) -> Concept:
        metrics = {"auroc": float(rng.uniform(0.5, 1)), "positives": 4 if index % 5 == 1 else 40}
        return replace(concept, metrics=metrics, threshold=float(rng.random()))

    return Hierarchy(measured(index, concept) for index, concept in enumerate(hierarchy.concepts))


def with_null(
    hierarchy: Hierarchy, heads: Heads, texts: int, rng: np.random.Generator
) -> tuple[Hierarchy, Heads]:
    """The same with thresholds and an alarm curve from so many texts of five tokens of random logits."""
    null = Null(len(hierarchy), most_tokens=5 * texts)
    null.add(rng.normal(size=(5 * texts, len(hierarchy))).astype(np.float32), np.arange(5 * texts) // 5)
    table = null_metrics(null, heads)
    measured = Hierarchy(
        replace(c, metrics={**c.metrics, **found}) for c, found in zip(hierarchy, table, strict=True)
    )
    return measured, replace(heads, alarm_curve=alarm_curve(null, measured, heads))


def make_pack(
    directory: str | os.PathLike[str],
    *,
    branching: Sequence[int] = (3, 2, 2),
    nodes: Nodes | None = None,
    hidden_size: int = 16,
    widths: Sequence[int] | None = None,
    kind: str = "mlp",
    norm: str = "rms",
    pooling: str = "token",
    dtype: str = "bf16",
    seed: int = 0,
    base_levels: Sequence[int] | None = None,
    top_k: int = 10,
    load_threshold: float = 0.3,
    host: str = "tiny-host",
    blocks: int = 4,
    site: str = "resid_post.2",
    host_dir: str | os.PathLike[str] | None = None,
    max_shard_bytes: int = 1 << 30,
    null_texts: int = 0,
) -> LensPack:
    """A pack of random lenses over a full tree or over `nodes`, written to `directory` and opened.

    `kind` is mlp, linear or compact and `dtype` bf16, fp32 or int8; compact has widths (R, h1, h2). `base_levels` is by
    default the first two levels, or the first where there is one only. With `null_texts` there are thresholds from as
    many texts that are of nothing.
    """
    rng = np.random.default_rng(seed)
    hierarchy = with_metrics(Hierarchy.build(nodes if nodes is not None else tree_nodes(branching)), rng)
    lens = LensConfig(kind, WIDTHS[kind] if widths is None else tuple(widths), dtype)  # type: ignore[arg-type]
    layers = random_first_layers(hierarchy, lens, hidden_size, rng)
    heads = random_heads(len(hierarchy), lens, hidden_size, rng)
    if null_texts:
        hierarchy, heads = with_null(hierarchy, heads, null_texts, rng)
    return LensPack.create(
        Path(directory),
        host=HostConfig(host, None, hidden_size, blocks, "fp32"),
        site=site,
        input=InputConfig(norm, 1e-6, pooling),  # type: ignore[arg-type]
        lens=lens,
        base_levels=range(min(2, hierarchy.depth)) if base_levels is None else base_levels,
        top_k=top_k,
        load_threshold=load_threshold,
        hierarchy=hierarchy,
        first_layers=layers,
        heads=heads,
        provenance={"made_by": "tests/packs.py", "seed": seed},
        host_dir=host_dir,
        max_shard_bytes=max_shard_bytes,
    )
