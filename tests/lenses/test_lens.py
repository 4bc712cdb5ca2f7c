"""The slow score of a lens is its formula, over the numbers that the pack's files hold."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lenses.lens import Lens
from tests.damage import SHARD
from tests.packs import make_pack

STATES_BD = np.random.default_rng(1).normal(size=(3, 16))


@pytest.mark.parametrize("kind", ["mlp", "linear", "compact"])
@pytest.mark.parametrize("dtype", ["bf16", "fp32", "int8"])
def test_a_logit_is_the_formula_over_the_bytes_in_the_files(tmp_path: Path, kind: str, dtype: str) -> None:
    pack = make_pack(tmp_path / "p", kind=kind, dtype=dtype)
    heads = {k: v.double().numpy() for k, v in load_file(pack.path / "heads.safetensors").items()}
    families = load_file(pack.path / SHARD)
    h1 = {"mlp": 4, "linear": 1, "compact": 4}[kind]
    for n, concept in enumerate(pack.hierarchy):
        stored = families[f"family.{concept.family:06d}"].double().numpy()
        weight1 = stored[concept.row * h1 : (concept.row + 1) * h1]
        if dtype == "int8":
            weight1 = weight1 * heads["scale1"][n][:, None]
        for state_D in STATES_BD:
            x = heads["projection"] @ state_D if kind == "compact" else state_D
            expected = weight1 @ x + heads["bias1"][n]
            if kind != "linear":
                expected = np.maximum(heads["weight2"][n] @ np.maximum(expected, 0) + heads["bias2"][n], 0)
                expected = [heads["weight3"][n] @ expected + heads["bias3"][n]]
            found = pack.lens(n).logit(torch.from_numpy(state_D))
            assert found == pytest.approx(expected[0], rel=1e-5, abs=1e-5)


def test_the_heads_of_one_lens_are_its_own_and_the_projection_is_shared(tmp_path: Path) -> None:
    pack = make_pack(tmp_path / "p", kind="compact", dtype="int8")
    own = pack.heads.only(5)
    assert own.count == 1
    assert own.projection is pack.heads.projection
    for name, array in own.tensors().items():
        if name != "projection":
            np.testing.assert_array_equal(array, pack.heads.tensors()[name][5:6])


def test_int8_without_scales_and_scales_without_int8_make_no_lens(tmp_path: Path) -> None:
    fp32, int8 = (make_pack(tmp_path / dtype, dtype=dtype) for dtype in ("fp32", "int8"))
    for rows, heads in ((int8, fp32.heads), (fp32, int8.heads)):
        with pytest.raises(AssertionError):
            Lens.of(rows.hierarchy.concepts[0], rows.read_family(0)[:4], heads, 0)
