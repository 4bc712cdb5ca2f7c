"""The same lenses stored otherwise: in another dtype, or as compact lenses, with what that costs stated in the pack.

Families are read, changed and written one after another, so a pack of any size needs little memory beside its heads.

A compact pack out of an mlp pack, without data, is a change of basis: the first layers of all lenses, stacked, are
written in their R strongest directions (the eigenvectors of W1ᵀ W1). It is made only where these lenses do lie in
R directions; trained ones mostly do not (a quarter of the directions of the travelling pack hold half of its
energy), and then compact lenses must be trained on states.

Shapes: N lenses, D hidden size, h1 the width of the first layer, R rows of the projection, S states.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from lenses.config import LensConfig, StoredDtype
from lenses.errors import ConfigError
from lenses.files import PathLike
from lenses.lens import Lens
from lenses.pack import SHARD_BYTES, FirstLayers, LensPack
from lenses.quantise import dequantise_rows, quantise_rows
from lenses.state import normalise

MOST_LOST = 1e-4
"""Share of the energy of first layers that a projection without data may lose, of each lens."""
_LENSES, _STATES = 200, 8


@dataclass(frozen=True, slots=True)
class LogitError:
    """How far logits are off where first layers are stored otherwise, on random states: no measure of quality."""

    lenses: int
    """How many were looked at, evenly over the pack."""
    states: int
    """How many random states each, Gaussian and normalised as the pack says."""
    largest: float
    """The largest |difference| of two logits."""
    median: float
    largest_logit: float
    """What to compare with: the largest |logit|."""

    def to_json(self) -> Mapping[str, Any]:
        """For a pack's provenance, in four digits."""
        numbers = {
            name: float(f"{getattr(self, name):.4g}") for name in ("largest", "median", "largest_logit")
        }
        return {"lenses": self.lenses, "states": self.states, **numbers}


def as_stored(layer: torch.Tensor, dtype: StoredDtype) -> torch.Tensor:
    """A first layer `[rows, C]` in fp32 as it is after it was stored in this dtype."""
    if dtype == "int8":
        return dequantise_rows(*quantise_rows(layer))
    return layer.to({"bf16": torch.bfloat16, "fp32": torch.float32}[dtype]).to(torch.float32)


def logit_error(pack: LensPack, dtype: StoredDtype) -> LogitError:
    """What storing the first layers of a pack in `dtype` does to logits; the same pack, the same answer."""
    generator = np.random.default_rng(0)
    size = pack.config.host.hidden_size
    states_SD = torch.from_numpy(
        normalise(generator.normal(size=(_STATES, size)).astype(np.float32), pack.config.input)
    )
    indices = sorted({int(at) for at in np.linspace(0, len(pack.hierarchy) - 1, _LENSES)})
    differences, logits = [], []
    for index in indices:
        lens = pack.lens(index)
        stored = lens if dtype == pack.config.lens.dtype else _stored(lens, dtype)
        for state_D in states_SD:
            logits.append(lens.logit(state_D))
            differences.append(abs(stored.logit(state_D) - logits[-1]))
    return LogitError(
        len(indices),
        _STATES,
        max(differences),
        float(np.median(differences)),
        max(abs(logit) for logit in logits),
    )


def _stored(lens: Lens, dtype: StoredDtype) -> Lens:
    return replace(lens, weight1=as_stored(lens.weight1, dtype))


def convert(
    pack: LensPack,
    out: PathLike,
    dtype: StoredDtype,
    *,
    progress: Callable[[int], None] = lambda families: None,
) -> tuple[LensPack, LogitError]:
    """Writes `pack` as `out` with its first layers in `dtype`, and what that does to logits; raises as `save_as`."""
    error = logit_error(pack, dtype)
    return pack.save_as(
        out, dtype, told={"logits_off_on_random_states": error.to_json()}, progress=progress
    ), error


def convert_to_compact(
    pack: LensPack,
    out: PathLike,
    rank: int,
    *,
    progress: Callable[[int], None] = lambda families: None,
) -> tuple[LensPack, float]:
    """Writes an mlp pack as `out` with one projection to `rank`; also the share of energy that the worst lens loses.

    Raises ConfigError for another kind of pack, a rank that is no less than D, and where a lens would lose more than
    `MOST_LOST`; and as `LensPack.create`.
    """
    config, size = pack.config, pack.config.host.hidden_size
    if config.lens.kind != "mlp":
        raise ConfigError(
            f"{pack.path.name} holds {config.lens.kind} lenses, only mlp lenses can be made compact"
        )
    if not 1 <= rank < size:
        raise ConfigError(f"rank {rank}: expected 1 to {size - 1}, less than the hidden size")
    layers = FirstLayers(pack, dequantise=True)
    gram_DD = torch.zeros(size, size, dtype=torch.float64)
    for layer in layers:
        weights_RD = layer.to(torch.float32)
        gram_DD += weights_RD.T @ weights_RD
    values_D, vectors_DD = torch.linalg.eigh(gram_DD)
    projection_RD = vectors_DD[:, -rank:].T.to(torch.float32).contiguous()
    lost = max(_lost_of(layer, projection_RD, config.lens.h1) for layer in layers)
    if lost > MOST_LOST:
        raise ConfigError(_refusal(pack, rank, values_D.flip(0).clamp(min=0), lost))
    written = LensPack.create(
        out,
        host=config.host,
        site=config.site,
        input=config.input,
        lens=LensConfig("compact", (rank, *config.lens.widths), config.lens.dtype),
        base_levels=config.base_levels,
        hierarchy=pack.hierarchy,
        first_layers=_Projected(layers, projection_RD),
        heads=replace(pack.heads, scale1=None, projection=projection_RD.numpy()),
        top_k=config.top_k,
        load_threshold=config.load_threshold,
        calibration_prior=config.calibration_prior,
        provenance={
            "compact_from": pack.identity,
            "energy_lost_by_worst_lens": float(f"{lost:.3g}"),
            "provenance": dict(config.provenance),
        },
        licence=config.licence,
        host_dir=pack.host_dir,
        max_shard_bytes=SHARD_BYTES,
        progress=progress,
    )
    return written, lost


def _lost_of(layer: torch.Tensor, projection_RD: torch.Tensor, h1: int) -> float:
    """The share of energy that the worst lens of a family loses: of what is left beside the projection."""
    weights = layer.to(torch.float32)
    beside = weights - (weights @ projection_RD.T) @ projection_RD
    lens_energy, lost = (part.view(-1, h1 * part.shape[1]).square().sum(dim=1) for part in (weights, beside))
    return float((lost / lens_energy.clamp(min=torch.finfo(torch.float32).tiny)).max())


def _refusal(pack: LensPack, rank: int, values_D: torch.Tensor, lost: float) -> str:
    kept_D = (values_D.cumsum(0) / values_D.sum()).tolist()
    enough = next(at for at, kept in enumerate(kept_D, start=1) if kept >= 1 - MOST_LOST or at == len(kept_D))
    return (
        f"{rank} of {len(kept_D)} directions hold {math.floor(kept_D[rank - 1] * 1000) / 10:g} % of the first layers "
        f"of {pack.path.name}, and its worst lens would lose {lost:.2%}: without data it would be another lens; "
        f"{enough} directions would hold all; train compact lenses on states instead: scripts/train_lenses.py --rank "
        f"{rank} --teacher {pack.path.name}"
    )


@dataclass(frozen=True, slots=True)
class _Projected(Sequence[torch.Tensor]):
    """First layers `[rows * h1, R]` of compact lenses, each made when it is asked for."""

    layers: FirstLayers
    projection_RD: torch.Tensor

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, family: int) -> torch.Tensor:  # type: ignore[override]  # nobody slices it
        return self.layers[family].to(torch.float32) @ self.projection_RD.T
