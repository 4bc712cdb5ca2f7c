"""Linear probes out of scikit-learn's arrays score as `coef @ x + intercept`, and a file that holds none says so."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foreign.state_dicts import MODEL
from safetensors.numpy import save_file

from lenses.errors import ConfigError, SourceError
from lenses.importers.facts import Given
from lenses.importers.probes import import_probes
from tests.state_dicts import FACTS

GIVEN = Given(**FACTS, host_id=MODEL, norm="none")
NAMES = ["dog", "Dog", "a cat"]


def probes(dtype: str = "float64") -> dict[str, Any]:
    rng = np.random.default_rng(2)
    return {"coef": rng.normal(size=(3, 12)).astype(dtype), "intercept": rng.normal(size=3).astype(dtype)}


def write(path: Path, arrays: dict[str, Any], names: list[str]) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **arrays, names=np.array(names))
    else:
        save_file(arrays, path, metadata={"names": json.dumps(names)})
    return path


@pytest.mark.parametrize("ending", [".npz", ".safetensors"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_probes_score_as_they_did(tmp_path: Path, ending: str, dtype: str) -> None:
    arrays = probes(dtype)
    made = import_probes(write(tmp_path / f"p{ending}", arrays, NAMES), tmp_path / "pack", GIVEN)
    pack = made.pack
    assert (pack.config.lens.kind, pack.config.lens.dtype) == ("linear", "fp32")
    assert [concept.id for concept in pack.hierarchy] == NAMES
    assert not pack.heads.calibrated.any()
    state_D = np.random.default_rng(3).normal(size=12).astype(np.float32)
    expected_N = arrays["coef"] @ state_D + arrays["intercept"]
    found_N = [pack.lens(index).logit(torch.from_numpy(state_D)) for index in range(3)]
    np.testing.assert_allclose(found_N, expected_N, rtol=1e-5, atol=1e-5)
    assert [item.what for item in made.odd] == (["numbers of float64"] if dtype == "float64" else [])


def test_what_a_file_of_probes_does_not_say_is_asked_for(tmp_path: Path) -> None:
    file = write(tmp_path / "p.npz", probes(), NAMES)
    with pytest.raises(ConfigError, match=r"--host-id.*--site.*--blocks.*--host-dtype.*--pooling.*--norm"):
        import_probes(file, tmp_path / "pack", Given())


def nan_probes() -> dict[str, Any]:
    arrays = probes()
    arrays["coef"][1, 1] = np.inf
    return arrays


@pytest.mark.parametrize("ending", [".npz", ".safetensors"])
@pytest.mark.parametrize(
    ("arrays", "names", "part"),
    [
        (probes(), NAMES[:2], "2 names"),
        (probes(), ["dog", "dog", "cat"], "stands twice"),
        (probes(), ["dog", "a\nb", "cat"], "no line of text"),
        (probes() | {"coef": np.zeros(3)}, NAMES, r"coef is float64 \[3\]"),
        (probes() | {"coef": np.zeros((3, 2), np.int64)}, NAMES, "coef is int64"),
        ({"intercept": np.zeros(3)}, NAMES, "coef is missing"),
        (nan_probes(), NAMES, "'Dog' is not finite"),
    ],
)
def test_what_is_no_probes_is_refused(
    tmp_path: Path, ending: str, arrays: dict[str, Any], names: list[str], part: str
) -> None:
    file = write(tmp_path / f"p{ending}", arrays, names)
    with pytest.raises(SourceError, match=part):
        import_probes(file, tmp_path / "pack", GIVEN)
    assert not (tmp_path / "pack").exists()


def test_damage_and_pickles_are_refused(tmp_path: Path) -> None:
    objects = io.BytesIO()
    np.savez(objects, **probes(), names=np.array(NAMES, dtype=object))
    for name, raw in (("a.npz", b"PK\x03\x04"), ("b.npz", objects.getvalue()), ("c.safetensors", b"\0" * 9)):
        (tmp_path / name).write_bytes(raw)
        with pytest.raises(SourceError, match="no file of probes"):
            import_probes(tmp_path / name, tmp_path / "pack", GIVEN)
    with pytest.raises(SourceError, match=r"No such file"):
        import_probes(tmp_path / "missing.npz", tmp_path / "pack", GIVEN)
