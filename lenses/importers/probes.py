"""Importing linear probes: the `coef` and `intercept` of scikit-learn, of many concepts in one file.

    probes.npz             arrays coef [N, D], intercept [N], names [N] (text)
    probes.safetensors     tensors coef [N, D], intercept [N]; names as a JSON list in the file's metadata

A row is a concept: for a binary problem one row, `coef_` as scikit-learn has it. All concepts are at the top. What a
probe was fitted on (host, site, norm, pooling) is in neither file. Knows nothing of `.pt` files.

Shapes: N probes, D hidden size.
"""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lenses.concept import Hierarchy
from lenses.config import LensConfig, StoredDtype
from lenses.errors import PackFormatError, SourceError
from lenses.files import PathLike, local_path
from lenses.importers.facts import Facts, Given
from lenses.importers.imported import Imported, Progress, create_pack, uncalibrated
from lenses.importers.odd import Oddities
from lenses.lens import Heads
from lenses.store import file_sha256, read_tensors
from lenses.text import is_plain, one_line, quoted, read_json
from lenses.writer import refuse_to_replace

ENDINGS = (".npz", ".safetensors")
_MOST_BYTES = 4 << 30


def import_probes(
    file: PathLike,
    out: PathLike,
    given: Given,
    *,
    dtype: StoredDtype | None = None,
    progress: Progress = lambda what, done, total: None,
) -> Imported:
    """Writes the probes of `file` as the linear pack `out`, whole or not at all; in fp32 unless `dtype` is given.

    Raises SourceError where the file holds no probes, ConfigError where a fact is missing, and as `LensPack.create`.
    """
    source, odd, facts = local_path(file), Oddities(), Facts(given)
    refuse_to_replace(local_path(out))
    facts.require(one_line(source), "host_id", "site", "blocks", "host_dtype", "pooling", "norm")
    arrays, names = _read(source)
    coef_ND, intercept_N = _checked(source, arrays, names, odd)
    hierarchy = Hierarchy.build((name, name, None) for name in names)
    return create_pack(
        out,
        facts,
        odd,
        lens=LensConfig("linear", (), dtype or "fp32"),
        hidden_size=coef_ND.shape[1],
        hierarchy=hierarchy,
        first_layers=[torch.from_numpy(coef_ND)],
        heads=Heads(
            bias1=intercept_N[:, None],
            weight2=None,
            bias2=None,
            weight3=None,
            bias3=None,
            **uncalibrated(len(names)),
        ),
        provenance={"source": source.name, "sha256": file_sha256(source)},
        progress=progress,
    )


def _read(source: Path) -> tuple[Mapping[str, NDArray[Any]], list[Any]]:
    """The arrays of the file, and the names of its rows."""
    try:
        if source.stat().st_size > _MOST_BYTES:
            raise SourceError(
                f"{one_line(source)}: more than {_MOST_BYTES} bytes long; give a file of probes"
            )
        if source.suffix == ".npz":
            # No pickles: an array of objects is refused, and runs nothing.
            with source.open("rb") as file, np.load(file, allow_pickle=False) as loaded:
                arrays = {name: loaded[name] for name in ("coef", "intercept", "names") if name in loaded}
            names = arrays.pop("names", np.empty(0))
            return arrays, names.tolist() if names.dtype.kind == "U" and names.ndim == 1 else []
        tensors, told = read_tensors(source)
        names = read_json(told["names"].encode(), f"{source}: names") if "names" in told else []
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, PackFormatError) as error:
        raise SourceError(
            f"{one_line(source)}: no file of probes ({one_line(error)}); give an .npz or .safetensors file"
        ) from error
    return tensors, names if isinstance(names, list) else []


def _checked(
    source: Path, arrays: Mapping[str, NDArray[Any]], names: Sequence[Any], odd: Oddities
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The probes in fp32; raises SourceError where they are none."""
    where = one_line(source)
    for name, ndim in (("coef", 2), ("intercept", 1)):
        found = arrays.get(name)
        if found is None or found.ndim != ndim or found.dtype.kind != "f" or not found.size:
            what = "is missing" if found is None else f"is {found.dtype} {list(found.shape)}"
            raise SourceError(f"{where}: {name} {what}, expected floats: coef [N, D] and intercept [N]")
    coef, intercept = arrays["coef"], arrays["intercept"]
    if len(intercept) != len(coef) or len(names) != len(coef):
        raise SourceError(
            f"{where}: {len(coef)} rows of coef, {len(intercept)} of intercept and {len(names)} names; give one of "
            "each a concept (names: an array of text in .npz, a JSON list in the metadata of .safetensors)"
        )
    seen: set[str] = set()
    for name in names:
        if not isinstance(name, str) or not is_plain(name) or not name.strip() or name in seen:
            raise SourceError(
                f"{where}: the name {quoted(name)} is no line of text or stands twice; rename it"
            )
        seen.add(name)
    for name, array in (("coef", coef), ("intercept", intercept)):
        if array.dtype.itemsize > 4:
            odd.add(f"numbers of {array.dtype}", "rounded to fp32", name)
    with np.errstate(over="ignore"):
        coef_ND, intercept_N = coef.astype(np.float32), intercept.astype(np.float32)
    bad_N = ~(np.isfinite(coef_ND).all(axis=1) & np.isfinite(intercept_N))
    if bad_N.any():
        raise SourceError(
            f"{where}: the probe {quoted(names[int(bad_N.argmax())])} is not finite in fp32; leave it out"
        )
    return np.ascontiguousarray(coef_ND), intercept_N
