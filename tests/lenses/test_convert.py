"""Packs stored otherwise are the same lenses, or say how far off they are, or are refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lenses.convert import MOST_LOST, convert, convert_to_compact
from lenses.errors import ConfigError
from lenses.pack import FirstLayers, LensPack
from lenses.state import normalise
from tests.packs import make_pack


def logits_of(pack: LensPack, states_PD: np.ndarray) -> np.ndarray:
    return np.array(
        [
            [pack.lens(n).logit(torch.from_numpy(state)) for n in range(len(pack.hierarchy))]
            for state in states_PD
        ]
    )


def states(pack: LensPack, count: int = 5) -> np.ndarray:
    rows = np.random.default_rng(1).normal(size=(count, pack.config.host.hidden_size)).astype(np.float32)
    return normalise(rows, pack.config.input)


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("kind", ["mlp", "compact"])
def test_another_dtype_is_off_by_what_is_said(tmp_path: Path, kind: str, dtype: str) -> None:
    pack = make_pack(tmp_path / "a", kind=kind, dtype="fp32", hidden_size=64)
    made, error = convert(pack, tmp_path / "b", dtype)  # type: ignore[arg-type]
    assert made.config.lens.dtype == dtype
    assert made.hierarchy.concepts == pack.hierarchy.concepts, "metrics and thresholds are kept"
    np.testing.assert_array_equal(made.heads.calibrated, pack.heads.calibrated)
    assert made.config.provenance["logits_off_on_random_states"] == error.to_json()
    states_PD = states(pack)
    off = np.abs(logits_of(made, states_PD) - logits_of(pack, states_PD)).max()
    if dtype == "fp32":
        assert error.largest == off == 0
    else:
        assert 0 < error.median < error.largest < error.largest_logit
        assert off < 3 * error.largest, "the error said is of other random states of the same lenses"


def low_rank_pack(directory: Path, rank: int, dtype: str = "fp32") -> LensPack:
    """A pack whose lenses read so many directions alone."""
    pack = make_pack(directory / "full", hidden_size=24, dtype="fp32")
    basis = torch.linalg.qr(torch.randn(24, rank, generator=torch.Generator().manual_seed(3)))[0]
    layers = [layer @ basis @ basis.T for layer in FirstLayers(pack, dequantise=True)]
    config = pack.config
    return LensPack.create(
        directory / "low",
        host=config.host,
        site=config.site,
        input=config.input,
        lens=replace(config.lens, dtype=dtype),  # type: ignore[arg-type]
        base_levels=config.base_levels,
        hierarchy=pack.hierarchy,
        first_layers=layers,
        heads=pack.heads,
    )


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "int8"])
def test_lenses_that_read_few_directions_become_compact(tmp_path: Path, dtype: str) -> None:
    pack = low_rank_pack(tmp_path, 6, dtype)
    made, lost = convert_to_compact(pack, tmp_path / "compact", 6)
    assert made.config.lens == replace(pack.config.lens, kind="compact", widths=(6, *pack.config.lens.widths))
    assert lost <= MOST_LOST
    states_PD = states(pack)
    before, after = logits_of(pack, states_PD), logits_of(made, states_PD)
    allowed = 1e-5 if dtype == "fp32" else 0.05
    assert np.abs(before - after).max() <= allowed * np.abs(before).max()
    assert made.hierarchy.concepts == pack.hierarchy.concepts


def test_lenses_that_would_be_others_are_refused_with_what_to_do(tmp_path: Path) -> None:
    pack = low_rank_pack(tmp_path, 6)
    with pytest.raises(
        ConfigError, match=r"5 of 24 directions hold .* 6 directions would hold all; train compact"
    ):
        convert_to_compact(pack, tmp_path / "compact", 5)
    for rank in (0, 24):
        with pytest.raises(ConfigError, match="expected 1 to 23"):
            convert_to_compact(pack, tmp_path / "compact", rank)
    with pytest.raises(ConfigError, match="only mlp"):
        convert_to_compact(make_pack(tmp_path / "linear", kind="linear"), tmp_path / "compact", 2)
    assert not (tmp_path / "compact").exists()
