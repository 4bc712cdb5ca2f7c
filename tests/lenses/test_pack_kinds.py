"""Packs of int8 rows and of compact lenses: what is refused, how a pack is made family by family, and stored anew."""

import hashlib
import json
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lenses import LensPack
from lenses.concept import Hierarchy
from lenses.errors import ConfigError, PackFormatError, PackIntegrityError
from lenses.lens import Heads
from lenses.quantise import dequantise_rows, quantise_rows
from runtime.packs import about_rows
from tests.damage import (
    SHARD,
    contents,
    flip_last_byte,
    refused,
    rehash,
    rewrite_first_layers,
    rewrite_tensors,
)
from tests.packs import make_pack, tree_nodes

KINDS = ("mlp", "linear", "compact")
DTYPES = ("bf16", "fp32", "int8")


def create_like(pack: LensPack, directory: Path, **changes: object) -> LensPack:
    """A pack with all parts of `pack` but those that are given."""
    parts: dict = {
        "host": pack.config.host,
        "site": pack.config.site,
        "input": pack.config.input,
        "lens": pack.config.lens,
        "base_levels": (0,),
        "hierarchy": pack.hierarchy,
        "first_layers": [pack.read_family(f) for f in range(len(pack.hierarchy.families))],
        "heads": pack.heads,
    }
    return LensPack.create(directory, **{**parts, **changes})


# What a damaged or forged pack says


@pytest.mark.parametrize(
    ("change", "kind", "parts"),
    [
        (lambda t: t.pop("scale1"), PackFormatError, ["scale1 has shape none, expected (21, 4)"]),
        (
            lambda t: t.update(scale1=t["scale1"][:, :3]),
            PackFormatError,
            ["scale1 is F32 [21, 3]", "[21, 4]"],
        ),
        (
            lambda t: t.update(scale1=t["scale1"].flatten()),
            PackFormatError,
            ["scale1 is F32 [84]", "[21, 4]"],
        ),
        (
            lambda t: t.update(scale1=t["scale1"].bfloat16()),
            PackFormatError,
            ["scale1 is BF16", "expected F32"],
        ),
        (
            lambda t: t["scale1"].__setitem__((4, 1), 0.0),
            PackIntegrityError,
            ["scale1 of concept 'c0-1' is 0,"],
        ),
        (lambda t: t["scale1"].__setitem__((4, 1), -0.5), PackIntegrityError, ["'c0-1' is -0.5, expected"]),
        (
            lambda t: t["scale1"].__setitem__((4, 1), float("nan")),
            PackIntegrityError,
            ["'c0-1' is nan, expected"],
        ),
        (
            lambda t: t["scale1"].__setitem__((4, 1), float("inf")),
            PackIntegrityError,
            ["'c0-1' is inf, expected"],
        ),
        (lambda t: t["scale1"].__setitem__((4, 1), 3e38), PackIntegrityError, ["'c0-1' is 3e+38, expected"]),
        (lambda t: t.pop("projection"), PackFormatError, ["projection has shape none, expected (6, 16)"]),
        (
            lambda t: t.update(projection=t["projection"][:5]),
            PackFormatError,
            ["projection is F32 [5, 16]", "[6, 16]"],
        ),
        (
            lambda t: t.update(projection=t["projection"].T.contiguous()),
            PackFormatError,
            ["projection is F32 [16, 6], expected F32 [6, 16]"],
        ),
        (
            lambda t: t["projection"].__setitem__((5, 3), float("nan")),
            PackIntegrityError,
            ["projection is not finite"],
        ),
    ],
)
def test_scales_and_a_projection_that_cannot_hold_are_refused(tmp_path, one_line, change, kind, parts):
    pack = make_pack(tmp_path / "p", kind="compact", dtype="int8")
    rewrite_tensors(pack.path / "heads.safetensors", change)
    rehash(pack.path)
    refused(pack, kind, one_line, "heads.safetensors", *parts)


@pytest.mark.parametrize(
    ("kind", "dtype", "name"), [("compact", "bf16", "scale1"), ("mlp", "int8", "projection")]
)
def test_scales_or_a_projection_where_none_belongs_are_refused(tmp_path, one_line, kind, dtype, name):
    pack = make_pack(tmp_path / "p", kind=kind, dtype=dtype)
    rewrite_tensors(
        pack.path / "heads.safetensors", lambda tensors: tensors.update({name: torch.ones(21, 4)})
    )
    rehash(pack.path)
    refused(pack, PackFormatError, one_line, "heads.safetensors", name)


@pytest.mark.parametrize("said", DTYPES)
@pytest.mark.parametrize("held", DTYPES)
def test_first_layers_of_another_type_than_the_config_says_are_refused(tmp_path, one_line, said, held):
    pack = make_pack(tmp_path / "p", kind="compact", dtype=said)
    dtypes = {"bf16": torch.bfloat16, "fp32": torch.float32, "int8": torch.int8}
    rewrite_first_layers(
        pack, lambda tensors: tensors.update({k: v.to(dtypes[held]) for k, v in tensors.items()})
    )
    if held == said:
        LensPack.from_pretrained(pack.path).verify()
        return
    names = {"bf16": "BF16", "fp32": "F32", "int8": "I8"}
    part = f"family.000000 is {names[held]} [12, 6], expected {names[said]} [12, 6] by config.json"
    refused(pack, PackFormatError, one_line, SHARD, part)


def test_first_layers_of_compact_have_the_columns_of_the_projection(tmp_path, one_line):
    pack = make_pack(tmp_path / "p", kind="compact")
    rewrite_first_layers(
        pack,
        lambda tensors: tensors.update({k: torch.zeros(len(v), 16).bfloat16() for k, v in tensors.items()}),
    )
    refused(pack, PackFormatError, one_line, SHARD, "family.000000 is BF16 [12, 16], expected BF16 [12, 6]")


def test_a_flipped_byte_of_int8_is_found(tmp_path, one_line):
    pack = make_pack(tmp_path / "p", dtype="int8")
    flip_last_byte(pack.path / SHARD)
    damaged = LensPack.from_pretrained(pack.path)
    with pytest.raises(PackIntegrityError) as caught:
        damaged.read_family(len(pack.hierarchy.families) - 1)
    one_line(caught, SHARD, "sha256")


def test_a_stored_minus_128_is_read_like_any_other_number(tmp_path):
    pack = make_pack(tmp_path / "p", dtype="int8")
    rewrite_first_layers(pack, lambda tensors: tensors["family.000000"].fill_(-128))
    again = LensPack.from_pretrained(pack.path)
    again.verify()
    expected = np.repeat(again.heads.scale1[0][:, None] * -128, 16, axis=1)
    np.testing.assert_array_equal(again.lens(0).weight1.numpy(), expected)


# Making a pack


def test_int8_that_comes_with_its_scales_is_stored_as_it_is(tmp_path):
    pack = make_pack(tmp_path / "p", kind="compact", dtype="int8")
    again = create_like(pack, tmp_path / "q")
    for name in (SHARD, "heads.safetensors", "families.json"):
        assert (again.path / name).read_bytes() == (pack.path / name).read_bytes()


def test_first_layers_and_scales_that_do_not_fit_each_other_make_no_pack(tmp_path, one_line):
    pack = make_pack(tmp_path / "p", dtype="int8")
    stored = [pack.read_family(f) for f in range(len(pack.hierarchy.families))]
    floats = [layer.float() for layer in stored]
    alone = replace(pack.heads, scale1=None)
    zero = replace(pack.heads, scale1=np.zeros_like(pack.heads.scale1))
    nan, huge = (
        [*floats[:3], torch.full_like(floats[3], torch.nan), *floats[4:]],
        [floats[0] * 3e36, *floats[1:]],
    )
    bf16 = replace(pack.config.lens, dtype="bf16")
    for changes, kind, part in (
        (
            {"first_layers": floats},
            PackFormatError,
            "family 0 (the top level): the first layer is float32, expected int8",
        ),
        ({"heads": alone}, PackFormatError, "the first layer is int8, expected floats"),
        ({"heads": alone, "lens": bf16}, PackFormatError, "the first layer is int8, expected floats"),
        ({"lens": bf16}, PackFormatError, "scale1 has shape (21, 4), expected none"),
        ({"heads": zero}, PackIntegrityError, "scale1 of concept 'c0' is 0, expected a finite scale above 0"),
        (
            {"heads": alone, "first_layers": nan},
            PackIntegrityError,
            "family 3 (the children of 'c0-1') holds weights",
        ),
        (
            {"heads": alone, "first_layers": huge},
            PackIntegrityError,
            "family 0 (the top level) holds weights",
        ),
    ):
        with pytest.raises(kind) as caught:
            create_like(pack, tmp_path / "made" / "p", **changes)
        one_line(caught, part)
        assert not (tmp_path / "made").exists() or not any((tmp_path / "made").iterdir())


def test_a_compact_pack_needs_its_projection(tmp_path, one_line):
    pack = make_pack(tmp_path / "p", kind="compact")
    for heads, part in (
        (replace(pack.heads, projection=None), "projection has shape none, expected (6, 16)"),
        (replace(pack.heads, projection=np.full((6, 16), np.inf, np.float32)), "projection is not finite"),
    ):
        with pytest.raises((PackFormatError, PackIntegrityError)) as caught:
            create_like(pack, tmp_path / "q", heads=heads)
        one_line(caught, part)


class Lazy(Sequence):
    """First layers made when they are asked for; it knows which of them are still held."""

    def __init__(self, layers: list[torch.Tensor]) -> None:
        self.layers = layers
        self.asked: list[int] = []
        self.held: weakref.WeakValueDictionary[int, np.ndarray] = weakref.WeakValueDictionary()
        self.most_bytes = 0

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, family: int) -> torch.Tensor:
        self.asked.append(family)
        made = self.layers[family].numpy().copy()
        self.held[family] = made
        self.most_bytes = max(self.most_bytes, sum(array.nbytes for array in self.held.values()))
        return torch.from_numpy(made)  # holds the array for as long as any tensor over it lives


@settings(max_examples=15, deadline=None)
@given(
    branching=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    max_shard_bytes=st.integers(1, 3000),
    dtype=st.sampled_from(DTYPES),
)
def test_a_pack_is_made_family_by_family_and_holds_one_file_at_most(
    tmp_path_factory, branching, max_shard_bytes, dtype
):
    plain = make_pack(tmp_path_factory.mktemp("plain") / "p", branching=branching, dtype="fp32")
    lazy = Lazy([plain.read_family(f) for f in range(len(plain.hierarchy.families))])
    done: list[int] = []
    made = create_like(
        plain,
        tmp_path_factory.mktemp("made") / "p",
        lens=replace(plain.config.lens, dtype=dtype),
        first_layers=lazy,
        max_shard_bytes=max_shard_bytes,
        progress=done.append,
    )
    families = list(range(len(lazy)))
    assert lazy.asked == families
    assert done == [family + 1 for family in families]
    largest = max(plain.family_bytes(f) for f in families)
    # fp32 is held as it came until its file is written; of the others only what they were converted to.
    assert lazy.most_bytes <= (max(max_shard_bytes, largest) if dtype == "fp32" else 2 * largest)
    made.verify()


# Storing a pack anew


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("before", DTYPES)
@pytest.mark.parametrize("after", DTYPES)
def test_a_pack_is_stored_anew_with_all_it_had(tmp_path, kind, before, after):
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "config.json").write_text("{}")
    pack = make_pack(
        tmp_path / "p", kind=kind, dtype=before, host_dir=tmp_path / "host", top_k=3, load_threshold=0.7
    )
    done: list[int] = []
    again = pack.save_as(tmp_path / "q", after, progress=done.append)
    again.verify()
    assert done[-1] == len(pack.hierarchy.families)
    assert again.config == replace(
        pack.config,
        lens=replace(pack.config.lens, dtype=after),
        sha256=again.config.sha256,
        provenance={"stored_from": pack.identity, "dtype": after, "provenance": pack.config.provenance},
    )
    assert again.hierarchy.concepts == pack.hierarchy.concepts
    assert contents(again.host_dir) == contents(pack.host_dir)
    for name, array in pack.heads.tensors().items():
        if name != "scale1":
            np.testing.assert_array_equal(again.heads.tensors()[name], array)
    for n in range(len(pack.hierarchy)):
        was, now = pack.lens(n).weight1, again.lens(n).weight1
        if after == "int8":
            # Two roundings of a scale and one of a quotient stand beside the half.
            assert ((was - now).abs() <= torch.from_numpy(again.heads.scale1[n])[:, None] * 0.5001).all()
        else:
            assert torch.equal(now, was.to(torch.bfloat16).float() if after == "bf16" else was)
    if before == after:
        assert (again.path / SHARD).read_bytes() == (pack.path / SHARD).read_bytes()
        assert (again.path / "heads.safetensors").read_bytes() == (
            pack.path / "heads.safetensors"
        ).read_bytes()


def test_int8_of_a_pack_is_int8_of_its_weights(tmp_path):
    pack = make_pack(tmp_path / "p")
    again = pack.save_as(tmp_path / "q", "int8")
    stored_RC, scale_R = quantise_rows(pack.read_family(4).float())
    assert torch.equal(again.read_family(4), stored_RC)
    first = pack.hierarchy.families[4].first
    assert torch.equal(torch.from_numpy(again.heads.scale1[first : first + 2]).flatten(), scale_R)
    assert torch.equal(again.lens(first).weight1, dequantise_rows(stored_RC, scale_R)[:4])


def test_a_pack_takes_its_own_place_in_another_type(tmp_path):
    pack = make_pack(tmp_path / "p")
    expected = pack.lens(7).weight1
    assert pack.save_as(tmp_path / "p", "fp32").identity == LensPack.from_pretrained(tmp_path / "p").identity
    assert torch.equal(LensPack.from_pretrained(tmp_path / "p").lens(7).weight1, expected)


def test_a_pack_that_is_damaged_or_of_an_unknown_type_is_not_stored_anew(tmp_path, one_line):
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "config.json").write_text("{}")
    pack = make_pack(tmp_path / "p", host_dir=tmp_path / "host")
    with pytest.raises(ConfigError) as unknown:
        pack.save_as(tmp_path / "q", "int4")
    one_line(unknown, "lens.dtype is 'int4', expected bf16 or fp32 or int8")
    (pack.path / "host" / "config.json").write_text("{ }")
    with pytest.raises(PackIntegrityError) as host:
        pack.save_as(tmp_path / "q", "int8")
    one_line(host, "host/config.json", "sha256")
    (pack.path / "host" / "config.json").write_text("{}")
    flip_last_byte(pack.path / SHARD)
    with pytest.raises(PackIntegrityError) as weights:
        LensPack.from_pretrained(pack.path).save_as(tmp_path / "q", "int8")
    one_line(weights, SHARD, "sha256")
    assert not (tmp_path / "q").exists()


# What is said of a pack


def test_card_and_table_say_kind_projection_and_type(tmp_path):
    pack = make_pack(tmp_path / "p", kind="compact", dtype="int8")
    expected = "compact 16-6-4-3-1 (one projection to R = 6 for all), first layers"
    assert f"| lenses | {expected} in int8 |" in (pack.path / "README.md").read_text()
    assert dict(about_rows(pack))["lenses"] == f"21 {expected} int8, 1 file(s)"


def test_the_bytes_of_packs_without_scales_and_projection_are_what_they_were(tmp_path):
    """The hash of a small pack as it was written before there were int8 and compact."""
    hierarchy = Hierarchy.build(tree_nodes((2, 2)))
    plain = make_pack(tmp_path / "p")
    lens = plain.config.lens
    ramp = {
        name: np.arange(np.prod(shape), dtype=np.float32).reshape(shape) / 8
        for name, shape in Heads.shapes(lens, 16, 6).items()
    }
    ramp["calibrated"] = np.ones(6, np.uint8)
    layers = [torch.arange(f.rows * 4 * 16).view(-1, 16) / 64 for f in hierarchy.families]
    made = create_like(
        plain,
        tmp_path / "q",
        hierarchy=hierarchy,
        first_layers=layers,
        heads=Heads.from_tensors(ramp, lens, 16, 6),
    )
    raw = b"".join(raw for name, raw in sorted(contents(made.path).items()) if name != "README.md")
    assert (
        hashlib.sha256(raw).hexdigest() == "f3cbaf5e405ca1e5437448ccb7125665ef8594ce5f645325070fbe4806b05c0c"
    )
    assert set(json.loads((made.path / "config.json").read_text())["lens"]) == {
        "dtype",
        "kind",
        "shards",
        "widths",
    }
