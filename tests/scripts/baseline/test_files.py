"""Each lens a file of its own: what is written is what is read, and other files are refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from baseline.files import (
    check_directory,
    export_baseline,
    families_scored,
    lens_path,
    lenses_there,
    load_module,
)
from baseline.module import module_of

from lenses.errors import ConfigError, PackMismatch, PackNotFound
from runtime.config import MonitorConfig
from tests.packs import make_pack


@pytest.mark.parametrize(
    ("kind", "dtype"), [("mlp", "bf16"), ("mlp", "fp32"), ("mlp", "int8"), ("linear", "bf16")]
)
def test_a_lens_computes_from_its_file_what_the_pack_says(tmp_path: Path, kind: str, dtype: str) -> None:
    pack = make_pack(tmp_path / "pack", kind=kind, dtype=dtype)
    written = export_baseline(pack, tmp_path / "files")
    assert written == sum(path.stat().st_size for path in (tmp_path / "files").glob("*.pt"))
    states_BD = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    for index in range(len(pack.hierarchy)):
        expected = [pack.lens(index).logit(state_D) for state_D in states_BD]
        for module in (load_module(pack, tmp_path / "files", index), module_of(pack, index)):
            with torch.inference_mode():
                found = module(states_BD)[:, 0].tolist()
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_file_holds_its_own_lens_and_no_other(tmp_path: Path) -> None:
    pack = make_pack(
        tmp_path / "pack", dtype="fp32", branching=(9, 9)
    )  # whose first layers are views of one read
    export_baseline(pack, tmp_path / "files")
    parameters = sum(weight.numel() for weight in module_of(pack, 0).state_dict().values())
    for path in (tmp_path / "files").glob("*.pt"):
        assert path.stat().st_size < 4 * parameters + 3000


def test_families_are_added_to_what_is_there(tmp_path: Path) -> None:
    pack = make_pack(tmp_path / "pack")
    files = tmp_path / "files"
    first = pack.hierarchy.families[1]
    assert export_baseline(pack, files, families=[1]) > 0
    assert list(lenses_there(pack, files)) == list(range(first.first, first.first + first.rows))
    assert export_baseline(pack, files, families=[1]) == 0
    export_baseline(pack, files)
    assert len(lenses_there(pack, files)) == len(pack.hierarchy)


def test_the_families_that_states_meet_are_those_of_the_scores(tmp_path: Path) -> None:
    pack = make_pack(tmp_path / "pack", branching=(3, 3, 3))
    states_PD = np.random.default_rng(0).standard_normal((4, 16), dtype=np.float32)
    base = pack.hierarchy.base_families((0,))
    quiet = families_scored(pack, MonitorConfig(base_levels=(0,), load_threshold=1.0), states_PD)
    everything = families_scored(pack, MonitorConfig(exhaustive=True), states_PD)
    assert set(quiet) == set(base)
    assert everything == tuple(range(len(pack.hierarchy.families)))


def test_lenses_of_another_pack_and_missing_ones_are_refused(tmp_path: Path) -> None:
    pack, other = make_pack(tmp_path / "pack"), make_pack(tmp_path / "other", seed=1)
    export_baseline(pack, tmp_path / "files", families=[0])
    for use in (
        lambda: check_directory(other, tmp_path / "files"),
        lambda: export_baseline(other, tmp_path / "files"),
    ):
        with pytest.raises(PackMismatch, match="directory of its own"):
            use()
    with pytest.raises(PackNotFound, match="export the pack there first"):
        check_directory(pack, tmp_path / "nowhere")
    last = len(pack.hierarchy) - 1
    assert not lens_path(tmp_path / "files", last).exists()
    with pytest.raises(PackNotFound, match=rf"{pack.hierarchy.concepts[last].id}; export family"):
        load_module(pack, tmp_path / "files", last)


def test_lenses_that_share_a_projection_are_no_modules_of_their_own(tmp_path: Path) -> None:
    pack = make_pack(tmp_path / "pack", kind="compact", widths=(6, 4, 3))
    with pytest.raises(ConfigError, match="holds compact ones"):
        export_baseline(pack, tmp_path / "files")
