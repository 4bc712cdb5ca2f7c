"""What differs between two packs is said part by part, and what is the same is not."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lenses.concept import Hierarchy
from lenses.convert import convert
from lenses.diff import diff
from lenses.pack import FirstLayers, LensPack
from lenses.subset import write_subset
from tests.packs import make_pack


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> LensPack:
    return make_pack(tmp_path_factory.mktemp("packs") / "a")


def changed(pack: LensPack, directory: Path, **parts: Any) -> LensPack:
    """A copy of a pack with some of its parts exchanged."""
    config = pack.config
    given: dict[str, Any] = {
        name: getattr(config, name)
        for name in ("host", "site", "input", "lens", "base_levels", "top_k", "provenance", "licence")
    }
    given |= {
        "hierarchy": pack.hierarchy,
        "heads": pack.heads,
        "first_layers": FirstLayers(pack, dequantise=False),
    }
    return LensPack.create(directory, **given | parts)


def said(a: LensPack, b: LensPack) -> list[tuple[str, str]]:
    return [(one.part, one.where) for one in diff(a, b)]


def test_a_pack_and_its_copy_are_the_same(pack: LensPack, tmp_path: Path) -> None:
    assert said(pack, LensPack.from_pretrained(pack.save_pretrained(tmp_path / "b"))) == []
    assert said(pack, changed(pack, tmp_path / "c")) == []


def test_settings_are_named(pack: LensPack, tmp_path: Path) -> None:
    other = changed(
        pack,
        tmp_path / "b",
        top_k=3,
        licence="mit",
        provenance={},
        input=replace(pack.config.input, norm="none"),
    )
    assert set(said(pack, other)) == {
        ("configuration", name) for name in ("top_k", "licence", "provenance", "input.norm")
    }


def test_one_weight_is_found_in_its_family(pack: LensPack, tmp_path: Path) -> None:
    layers = [layer.clone() for layer in FirstLayers(pack, dequantise=False)]
    layers[2][1, 1] += 0.5 if layers[2][1, 1] < 0 else -0.5
    parent = pack.hierarchy.concepts[pack.hierarchy.families[2].parent or 0].id
    found = list(diff(pack, changed(pack, tmp_path / "b", first_layers=layers)))
    rows = pack.hierarchy.families[2].rows
    assert [(one.part, one.where) for one in found] == [("weights", f"below {parent}: 1 of {rows} lenses")]
    assert float(found[0].b.split()[2]) == pytest.approx(0.5, abs=0.01), "in bf16"


def test_later_layers_calibration_and_metrics_are_parts_of_their_own(pack: LensPack, tmp_path: Path) -> None:
    bias2, slope, calibrated = (
        np.array(getattr(pack.heads, name)) for name in ("bias2", "platt_slope", "calibrated")
    )
    bias2[0] += 1
    on = int(np.flatnonzero(calibrated)[0])
    slope[on] *= 2
    concepts = list(pack.hierarchy)
    concepts[3] = replace(
        concepts[3], metrics={**concepts[3].metrics, "auroc": 0.25, "recall": 1.0}, name="other"
    )
    other = changed(
        pack,
        tmp_path / "b",
        heads=replace(pack.heads, bias2=bias2, platt_slope=slope),
        hierarchy=Hierarchy(concepts),
    )
    id = concepts[3].id
    assert said(pack, other) == [
        ("concepts", f"{id}: name"),
        ("weights", "the top level: 1 of 3 lenses"),
        ("calibration", concepts[on].id),
        ("metrics", f"{id}: auroc"),
        ("metrics", f"{id}: recall"),
    ]


def test_concepts_added_removed_and_moved(pack: LensPack, tmp_path: Path) -> None:
    small = write_subset(pack, ["c0", "c1"], tmp_path / "small")
    gone = [one for one in diff(pack, small) if one.part == "concepts"]
    assert {one.where for one in gone} == {c.id for c in pack.hierarchy if c.id.startswith("c2")}
    assert all(one.a and not one.b for one in gone)
    back = [one for one in diff(small, pack) if one.part == "concepts"]
    assert [(one.where, one.a, one.b) for one in back] == [(one.where, one.b, one.a) for one in gone]
    assert not [one for one in diff(pack, small) if one.part in ("weights", "calibration", "metrics")]

    nodes = [("a", "a", None), ("b", "b", None), ("x", "x", "a")]
    one, two = (
        make_pack(tmp_path / name, nodes=[*nodes[:2], ("x", "x", parent)])
        for name, parent in (("under a", "a"), ("under b", "b"))
    )
    assert said(one, two) == [("concepts", "x")], "the same lens in another place"


def test_another_dtype_is_a_setting_and_what_it_rounds(pack: LensPack, tmp_path: Path) -> None:
    wide, _ = convert(pack, tmp_path / "wide", "fp32")
    assert set(said(pack, wide)) == {("configuration", "lens.dtype"), ("configuration", "provenance")}
    small, _ = convert(pack, tmp_path / "small", "int8")
    assert Counter(part for part, _ in said(pack, small)) == {
        "configuration": 2,
        "weights": len(pack.hierarchy.families),
    }
    same, _ = convert(small, tmp_path / "same", "int8")
    assert said(small, same) == [("configuration", "provenance")]


def test_lenses_of_other_widths_are_not_compared(pack: LensPack, tmp_path: Path) -> None:
    other = make_pack(tmp_path / "b", widths=(5, 3))
    assert ("weights", "all lenses: not comparable") in said(pack, other)
    shared = make_pack(tmp_path / "c", kind="compact"), make_pack(tmp_path / "d", kind="compact", seed=1)
    assert ("weights", "the projection that all share") in said(*shared)
