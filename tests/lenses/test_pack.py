"""A pack gives back what was written, and says in one line what is wrong with a damaged one."""

import errno
import gc
import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from lenses import LensPack, files, store
from lenses.concept import Hierarchy
from lenses.config import HostConfig, InputConfig, LensConfig
from lenses.errors import (
    ConfigError,
    HierarchyError,
    PackFormatError,
    PackIntegrityError,
    PackNotFound,
    WriteError,
)
from lenses.grade import UNMEASURED, grade
from lenses.lens import Heads
from lenses.quantise import quantise_rows
from tests.damage import (
    SHARD,
    contents,
    refused,
    rehash,
    rewrite_first_layers,
    rewrite_header,
    rewrite_tensors,
)
from tests.packs import make_pack, random_first_layers, random_heads, tree_nodes


@pytest.fixture
def pack(tmp_path: Path) -> LensPack:
    return make_pack(tmp_path / "packs" / "tiny")


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A directory that looks like a host model."""
    directory = tmp_path / "model"
    (directory / "extra").mkdir(parents=True)
    (directory / "config.json").write_text('{"model_type": "tiny"}')
    (directory / "model.safetensors").write_bytes(bytes(range(256)))
    (directory / "extra" / "vocab.txt").write_text("a\nb\n")
    (directory / ".cache").write_text("no part of it")
    return directory


# What was written comes back


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(["mlp", "linear", "compact"]),
    dtype=st.sampled_from(["bf16", "fp32", "int8"]),
    branching=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    widths=st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5)),
    hidden_size=st.integers(1, 9),
    max_shard_bytes=st.integers(1, 400),
    seed=st.integers(0, 9),
)
def test_any_pack_survives_a_round_trip(kind, dtype, branching, widths, hidden_size, max_shard_bytes, seed):
    rng = np.random.default_rng(seed)
    hierarchy = Hierarchy.build(tree_nodes(branching))
    lens = LensConfig(kind, widths[: {"mlp": 2, "linear": 0, "compact": 3}[kind]], dtype)
    layers = random_first_layers(hierarchy, lens, hidden_size, rng)
    heads = random_heads(len(hierarchy), lens, hidden_size, rng)
    with tempfile.TemporaryDirectory() as directory:
        made = LensPack.create(
            Path(directory, "a"),
            host=HostConfig("owner/host", "abc", hidden_size, 2, "bf16"),
            site="resid_post.1",
            input=InputConfig("layer", 1e-5, "mean"),
            lens=lens,
            base_levels=[0],
            hierarchy=hierarchy,
            first_layers=layers,
            heads=heads,
            max_shard_bytes=max_shard_bytes,
        )
        made.save_pretrained(Path(directory, "b"))
        again = LensPack.from_pretrained(Path(directory, "b"))
        assert contents(Path(directory, "a")) == contents(Path(directory, "b"))
        again.verify()
    assert again.config == made.config
    assert again.identity == made.identity
    assert again.hierarchy.concepts == hierarchy.concepts
    stored_dtype = {"bf16": torch.bfloat16, "fp32": torch.float32, "int8": torch.int8}[dtype]
    scales = []
    for family, layer in enumerate(layers):
        expected = layer.to(stored_dtype)
        if dtype == "int8":
            expected, scale_R = quantise_rows(layer)
            scales.append(scale_R.numpy())
        assert torch.equal(again.read_family(family), expected)
        assert again.family_bytes(family) == layer.numel() * stored_dtype.itemsize
    written = heads.tensors()
    if dtype == "int8":
        written["scale1"] = np.concatenate(scales).reshape(len(hierarchy), lens.h1)
    assert again.heads.tensors().keys() == written.keys()
    for name, array in written.items():
        np.testing.assert_array_equal(again.heads.tensors()[name], array)


def test_a_family_lies_in_one_file_and_families_follow_each_other_depth_first(tmp_path):
    pack = make_pack(tmp_path / "p", branching=(3, 3, 2), max_shard_bytes=1500)
    assert pack.config.lens.shards > 2
    entries = json.loads((pack.path / "families.json").read_text())
    assert [entry["tensor"] for entry in entries] == [f"family.{n:06d}" for n in range(len(entries))]
    raw = b"".join(pack.read_family(n).view(torch.uint8).numpy().tobytes() for n in range(len(entries)))
    data = b""
    for name in pack.config.lens.shard_names:
        shard = (pack.path / name).read_bytes()
        data += shard[8 + struct.unpack("<Q", shard[:8])[0] :]
    assert data == raw


def test_safetensors_itself_reads_what_we_write(pack):
    tensors = load_file(pack.path / SHARD)
    assert len(tensors) == len(pack.hierarchy.families)
    assert torch.equal(tensors["family.000003"], pack.read_family(3))


def test_each_read_is_new_aligned_memory_of_just_the_bytes_of_the_family(pack):
    first, second = pack.read_family(0), pack.read_family(0)
    assert first.data_ptr() != second.data_ptr()
    assert first.data_ptr() % 64 == 0
    assert first.untyped_storage().nbytes() == pack.family_bytes(0)
    first.zero_()
    assert not torch.equal(first, pack.read_family(0))


def test_a_lens_is_its_row_of_the_family_widened_to_fp32(pack):
    index = pack.hierarchy.index("c1-0")
    lens = pack.lens(index)
    family, row = pack.hierarchy.concepts[index].family, pack.hierarchy.concepts[index].row
    assert lens.concept is pack.hierarchy.concepts[index]
    assert torch.equal(lens.weight1, pack.read_family(family)[4 * row : 4 * row + 4].float())
    np.testing.assert_array_equal(lens.heads.bias1[0], pack.heads.bias1[index])


def test_many_threads_read_the_same_bytes(pack):
    families = list(range(len(pack.hierarchy.families))) * 8
    expected = [pack.read_family(family) for family in families]
    fresh = LensPack.from_pretrained(pack.path)
    with ThreadPoolExecutor(8) as threads:
        assert all(map(torch.equal, threads.map(fresh.read_family, families), expected))


def test_slices_of_one_stack_are_stored_as_families(tmp_path, pack):
    stack = torch.cat([pack.read_family(f).float() for f in range(len(pack.hierarchy.families))])
    sizes = [family.rows * 4 for family in pack.hierarchy.families]
    again = LensPack.create(
        tmp_path / "again",
        host=pack.config.host,
        site=pack.config.site,
        input=pack.config.input,
        lens=LensConfig("mlp", (4, 3), "fp32"),
        base_levels=(0,),
        hierarchy=pack.hierarchy,
        first_layers=stack.split(sizes),
        heads=pack.heads,
    )
    assert torch.equal(again.read_family(5), pack.read_family(5).float())


def test_identity_follows_every_byte_of_data(tmp_path):
    first, same, other = (make_pack(tmp_path / str(n), seed=seed) for n, seed in enumerate((0, 0, 1)))
    assert first.identity == same.identity != other.identity


def test_a_host_travels_with_the_pack(tmp_path, host):
    pack = make_pack(tmp_path / "p", host_dir=host)
    assert pack.config.host_files == ("host/config.json", "host/extra/vocab.txt", "host/model.safetensors")
    assert pack.host_dir == pack.path / "host"
    pack.save_pretrained(tmp_path / "copy")
    assert contents(tmp_path / "copy") == contents(pack.path)
    pack.verify()


def test_a_pack_can_be_made_again_around_the_host_that_is_already_in_its_place(tmp_path, host):
    shutil.copytree(host, tmp_path / "p" / "host")
    first = make_pack(tmp_path / "p", host_dir=tmp_path / "p" / "host", seed=0)
    second = make_pack(tmp_path / "p", host_dir=tmp_path / "p" / "host", seed=1)
    assert first.identity != second.identity
    assert (second.host_dir / "model.safetensors").read_bytes() == bytes(range(256))


def test_a_lens_is_vouched_for_where_it_is_calibrated_and_was_measured(pack):
    expected = [
        bool(calibrated) and grade(concept.metrics) != UNMEASURED
        for concept, calibrated in zip(pack.hierarchy, pack.heads.calibrated, strict=True)
    ]
    assert pack.vouched_N.tolist() == expected
    assert 0 < sum(expected) < pack.heads.calibrated.sum(), "some calibrated ones are unmeasured"


def test_a_pack_without_a_host_has_none(pack):
    assert pack.host_dir is None


def test_a_host_that_is_no_model_is_refused(tmp_path, one_line):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError) as caught:
        make_pack(tmp_path / "p", host_dir=tmp_path / "empty")
    one_line(caught, str(tmp_path / "empty"), "no config.json")
    assert not (tmp_path / "p").exists()


def test_the_card_names_host_site_counts_and_metrics_in_hub_form(tmp_path, host):
    pack = make_pack(tmp_path / "p", host="owner/model", host_dir=host)
    card = (pack.path / "README.md").read_text()
    _, front, body = card.split("---\n", 2)
    assert 'license: "apache-2.0"' in front
    assert 'base_model: "owner/model"' in front
    for part in ("# p\n", "`owner/model`", "`resid_post.2`", "21 in 10 families over 3 levels", "auroc"):
        assert part in body
    assert "from_pretrained" in body


def test_a_card_may_be_edited_and_travels_as_it_is(tmp_path, pack):
    (pack.path / "README.md").write_text("my own words\n")
    pack.verify()
    pack.save_pretrained(tmp_path / "copy")
    assert (tmp_path / "copy" / "README.md").read_text() == "my own words\n"


def test_a_pack_replaced_on_disk_goes_on_being_the_pack_that_was_opened(tmp_path):
    first = make_pack(tmp_path / "p", seed=0)
    expected = [first.read_family(f).clone() for f in range(3)]
    make_pack(tmp_path / "p", seed=1)
    assert all(torch.equal(first.read_family(f), expected[f]) for f in range(3))


def open_files(directory: Path) -> int:
    gc.collect()
    links = [Path("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
    return sum(os.path.realpath(link).startswith(str(directory)) for link in links if os.path.lexists(link))


def test_files_are_closed_when_the_pack_is_gone(pack):
    before = open_files(pack.path)
    opened = LensPack.from_pretrained(pack.path)
    assert open_files(pack.path) == before + 1
    del opened
    assert open_files(pack.path) == before


def test_files_are_closed_when_a_pack_is_refused(tmp_path, one_line):
    pack = make_pack(tmp_path / "p", max_shard_bytes=1500)
    before = open_files(pack.path)
    (pack.path / pack.config.lens.shard_names[-1]).write_bytes(b"")
    refused(pack, PackIntegrityError, one_line)
    assert open_files(pack.path) == before


# Where a pack is


def test_no_pack_at_a_path_says_what_to_do(tmp_path, one_line):
    for source in (tmp_path / "none", str(tmp_path / "none"), "./none", "~/none-of-these", "none", "a/b/c"):
        with pytest.raises(PackNotFound) as caught:
            LensPack.from_pretrained(source)
        one_line(caught, str(source), "no such directory", "phoropter pack list")


def test_a_misspelt_pack_beside_others_is_not_looked_for_on_a_hub(pack, monkeypatch, one_line):
    monkeypatch.chdir(pack.path.parent.parent)
    with pytest.raises(PackNotFound) as caught:
        LensPack.from_pretrained("packs/tiney")
    one_line(caught, "'packs/tiney'", "no such directory")


def test_a_directory_that_is_no_pack_says_so(tmp_path, one_line):
    with pytest.raises(PackNotFound) as caught:
        LensPack.from_pretrained(tmp_path)
    one_line(caught, str(tmp_path), "no lens pack", "config.json")


def test_a_file_is_no_pack(pack, one_line):
    with pytest.raises(PackNotFound) as caught:
        LensPack.from_pretrained(pack.path / "config.json")
    one_line(caught, "config.json", "is a file", "give its directory")


def test_a_revision_of_a_local_pack_is_refused(pack, one_line):
    with pytest.raises(ConfigError) as caught:
        LensPack.from_pretrained(pack.path, revision="main")
    one_line(caught, str(pack.path), "no revision 'main'", "leave it out")


def test_a_path_with_a_line_break_still_gives_one_line(one_line):
    with pytest.raises(PackNotFound) as caught:
        LensPack.from_pretrained("a\nb")
    one_line(caught, "a\\nb")


# What is checked when a pack is opened


def test_a_damaged_config_is_refused(pack, one_line):
    (pack.path / "config.json").write_text("{")
    refused(pack, PackFormatError, one_line, "config.json", "not valid JSON", "fetch the pack again")


def test_a_config_of_an_unknown_version_is_refused(pack, one_line):
    rehash(pack.path, version=2)
    refused(pack, PackFormatError, one_line, "config.json", "version 2", "expected 1", "upgrade phoropter")


def test_a_config_that_names_a_path_outside_the_pack_is_refused(pack, one_line):
    config = json.loads((pack.path / "config.json").read_text())
    rehash(pack.path, sha256={**config["sha256"], "../x": "0" * 64})
    refused(pack, PackFormatError, one_line, "config.json", "../x", "leads out of the pack")


def test_a_config_of_unbounded_size_is_refused(pack, one_line):
    os.truncate(pack.path / "config.json", 9_000_000)
    refused(pack, PackFormatError, one_line, "config.json", "9000000 bytes")


@pytest.mark.parametrize("name", ["../lenses.safetensors", "/tmp/x", "host/../../x"])
def test_families_that_name_a_path_outside_the_pack_are_refused(pack, one_line, name):
    entries = json.loads((pack.path / "families.json").read_text())
    entries[0]["file"] = name
    (pack.path / "families.json").write_text(json.dumps(entries))
    rehash(pack.path)
    refused(pack, PackFormatError, one_line, "families.json", "family 0", name, "leads out of the pack")


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda entries: entries.pop(), "expected a list of 10 families"),
        (lambda entries: entries[1].pop("rows"), "family 1: expected file, tensor, rows and sha256"),
        (lambda entries: entries[1].update(rows=9), "family 1: rows is 9, expected 2"),
        (lambda entries: entries[1].update(rows=True), "family 1: rows is True"),
        (lambda entries: entries[1].update(tensor="family.000007"), "family 1: tensor is 'family.000007'"),
        (lambda entries: entries[1].update(file="other.safetensors"), "the files are not lenses-00001"),
        (lambda entries: entries[1].update(file=7), "family 1: file is 7"),
    ],
)
def test_families_that_contradict_the_hierarchy_are_refused(pack, one_line, change, part):
    entries = json.loads((pack.path / "families.json").read_text())
    change(entries)
    (pack.path / "families.json").write_text(json.dumps(entries))
    rehash(pack.path)
    refused(pack, PackFormatError, one_line, "families.json", part)


@pytest.mark.parametrize("name", ["concepts.jsonl", "families.json", "heads.safetensors"])
def test_a_small_file_with_another_hash_is_refused(pack, one_line, name):
    raw = bytearray((pack.path / name).read_bytes())
    raw[-3] ^= 1
    (pack.path / name).write_bytes(raw)
    refused(pack, PackIntegrityError, one_line, name, "sha256", "fetch the pack again")


@pytest.mark.parametrize("name", ["concepts.jsonl", "families.json", "heads.safetensors", SHARD])
def test_a_truncated_file_is_refused(pack, one_line, name):
    os.truncate(pack.path / name, (pack.path / name).stat().st_size - 1)
    refused(pack, PackIntegrityError, one_line, name, "fetch the pack again")


@pytest.mark.parametrize("size", [0, 7, 100])
def test_a_lens_file_cut_within_its_header_is_refused(pack, one_line, size):
    os.truncate(pack.path / SHARD, size)
    refused(pack, PackIntegrityError, one_line, SHARD, "truncated")


def test_a_lens_file_with_bytes_appended_is_refused(pack, one_line):
    with (pack.path / SHARD).open("ab") as file:
        file.write(b"x")
    refused(pack, PackIntegrityError, one_line, SHARD, "appended")


@pytest.mark.parametrize("name", ["concepts.jsonl", "families.json", "heads.safetensors", SHARD])
def test_a_missing_file_is_refused(pack, one_line, name):
    (pack.path / name).unlink()
    refused(pack, PackIntegrityError, one_line, name, "missing", "fetch the pack again")


def test_a_missing_file_of_the_host_is_refused(tmp_path, host, one_line):
    pack = make_pack(tmp_path / "p", host_dir=host)
    (pack.path / "host" / "model.safetensors").unlink()
    refused(pack, PackIntegrityError, one_line, "host/model.safetensors", "missing")


@pytest.mark.parametrize(
    "name", ["config.json", "concepts.jsonl", "families.json", "heads.safetensors", SHARD]
)
def test_a_link_out_of_the_pack_is_refused(tmp_path, pack, one_line, name):
    shutil.move(pack.path / name, tmp_path / "outside")
    (pack.path / name).symlink_to(tmp_path / "outside")
    refused(pack, PackFormatError, one_line, name, "a link that leads out of the pack", "copy the file")


def test_a_linked_directory_out_of_the_pack_is_refused(tmp_path, host, one_line):
    pack = make_pack(tmp_path / "p", host_dir=host)
    shutil.move(pack.path / "host", tmp_path / "outside")
    (pack.path / "host").symlink_to(tmp_path / "outside")
    refused(pack, PackFormatError, one_line, "host/config.json", "a link that leads out of the pack")


def test_a_link_within_the_pack_and_a_link_to_the_pack_are_fine(tmp_path, pack):
    (pack.path / "real").write_bytes((pack.path / SHARD).read_bytes())
    (pack.path / SHARD).unlink()
    (pack.path / SHARD).symlink_to("real")
    (tmp_path / "link").symlink_to(pack.path)
    LensPack.from_pretrained(tmp_path / "link").verify()


def test_a_pipe_in_the_place_of_a_file_is_refused_and_does_not_wait(pack, one_line):
    (pack.path / "heads.safetensors").unlink()
    os.mkfifo(pack.path / "heads.safetensors")
    refused(pack, PackFormatError, one_line, "heads.safetensors", "not a regular file")


def test_a_file_that_cannot_be_read_is_refused(pack, monkeypatch, one_line):
    def denied(*_: object, **__: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(store.os, "open", denied)
    refused(pack, PackIntegrityError, one_line, "config.json", "Permission denied", "permissions")


def test_a_hierarchy_with_a_cycle_is_refused(pack, one_line):
    replace_line(pack, 0, lambda concept: concept.update(parent="c0-0"))
    refused(pack, HierarchyError, one_line, "concepts.jsonl", "cycle", "c0 under c0-0")


def test_a_hierarchy_with_an_orphan_is_refused(pack, one_line):
    replace_line(pack, 3, lambda concept: concept.update(parent="gone"))
    refused(pack, HierarchyError, one_line, "concepts.jsonl", "orphan", "'gone'")


def test_a_hierarchy_with_a_duplicate_id_is_refused(pack, one_line):
    replace_line(pack, 2, lambda concept: concept.update(id="c1"))
    refused(pack, HierarchyError, one_line, "concepts.jsonl", "'c1' stands twice")


def replace_line(pack: LensPack, number: int, change: Callable[[dict], object]) -> None:
    lines = (pack.path / "concepts.jsonl").read_text().splitlines()
    concept = json.loads(lines[number])
    change(concept)
    lines[number] = json.dumps(concept)
    (pack.path / "concepts.jsonl").write_text("\n".join(lines) + "\n")
    rehash(pack.path)


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"concepts": 20}, ["config.json", "concepts is 20, but concepts.jsonl has 21"]),
        ({"families": 9}, ["config.json", "families is 9, but concepts.jsonl has 10"]),
        ({"base_levels": [0, 1, 2, 3]}, ["config.json", "base levels 0,1,2,3"]),
    ],
)
def test_counts_that_contradict_the_hierarchy_are_refused(pack, one_line, changes, parts):
    rehash(pack.path, **changes)
    refused(pack, PackFormatError, one_line, *parts)


def change_config(pack: LensPack, part: str, **changes: object) -> None:
    config = json.loads((pack.path / "config.json").read_text())
    config[part].update(changes)
    (pack.path / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("part", "changes", "parts"),
    [
        ("host", {"hidden_size": 32}, [SHARD, "family.000000 is BF16 [12, 16], expected BF16 [12, 32]"]),
        ("lens", {"dtype": "fp32"}, [SHARD, "family.000000 is BF16 [12, 16], expected F32 [12, 16]"]),
        ("lens", {"widths": [8, 3]}, ["heads.safetensors", "bias1 is F32 [21, 4], expected F32 [21, 8]"]),
        ("lens", {"kind": "linear", "widths": []}, ["heads.safetensors", "bias", "by config.json"]),
    ],
)
def test_shapes_that_contradict_the_config_are_refused(pack, one_line, part, changes, parts):
    change_config(pack, part, **changes)
    refused(pack, PackFormatError, one_line, *parts)


@pytest.mark.parametrize(
    ("change", "kind", "parts"),
    [
        (lambda t: t["bias2"].__setitem__((4, 1), float("nan")), PackIntegrityError, ["bias2", "'c0-1'"]),
        (lambda t: t["weight2"].__setitem__(0, float("inf")), PackIntegrityError, ["weight2", "'c0'"]),
        (lambda t: t["platt_slope"].__setitem__(1, float("nan")), PackIntegrityError, ["platt_slope"]),
        (lambda t: t["calibrated"].__setitem__(1, 2), PackFormatError, ["calibrated"]),
        (lambda t: t.pop("bias3"), PackFormatError, ["bias3"]),
        (lambda t: t.update(extra=torch.zeros(3)), PackFormatError, ["extra"]),
        (lambda t: t.update(bias1=t["bias1"][:-1]), PackFormatError, ["bias1", "[20, 4]"]),
        (lambda t: t.update(bias3=t["bias3"].bfloat16()), PackFormatError, ["bias3 is BF16"]),
    ],
)
def test_heads_that_are_not_finite_or_contradict_the_config_are_refused(pack, one_line, change, kind, parts):
    rewrite_tensors(pack.path / "heads.safetensors", change)
    rehash(pack.path)
    refused(pack, kind, one_line, "heads.safetensors", *parts)


def many_tensors(_: dict) -> dict:
    return {f"t{n}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for n in range(100_001)}


def shifted(name: str, start: int, stop: int) -> Callable[[dict], None]:
    def change(header: dict) -> None:
        offsets = header[name]["data_offsets"]
        header[name]["data_offsets"] = [offsets[0] + start, offsets[1] + stop]

    return change


F1 = "family.000001"


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda h: json.dumps(h).encode().ljust(8_000_001), ["8000001 bytes", "at most 8000000"]),
        (many_tensors, ["100001 tensors", "at most 100000"]),
        (lambda h: json.dumps(h).replace("000002", "000001").encode(), ["'family.000001' stands twice"]),
        (lambda h: json.dumps(h).replace(F1, "../x").encode(), ["'../x' is no name"]),
        (lambda h: json.dumps(h).replace(F1, "a\\u000ab").encode(), ["'a\\nb' is no name"]),
        (lambda h: json.dumps(h).replace(F1, "family.00001x").encode(), ["family.00001x", "families.json"]),
        (lambda h: b"not json", ["header: not valid JSON"]),
        (lambda h: b"[]", ["no JSON object"]),
        (lambda h: b"[" * 100_000, ["not valid JSON"]),
        (lambda h: h.update(__metadata__={"a": 1}), ["__metadata__"]),
        (lambda h: h[F1].update(dtype="F16"), [F1, "dtype 'F16'"]),
        (lambda h: h[F1].update(dtype=["BF16"]), [F1, "dtype"]),
        (lambda h: h[F1].update(dtype="U8"), [F1, "takes 256 bytes, its shape [8, 16] of U8 takes 128"]),
        (lambda h: h[F1].update(shape=[4, 32]), [F1, "[4, 32]", "expected BF16 [8, 16]"]),
        (lambda h: h[F1].update(shape=[8, -16]), [F1, "whole numbers"]),
        (lambda h: h[F1].update(shape=[2**62, 2**62]), [F1, "whole numbers"]),
        (lambda h: h[F1].update(shape="8"), [F1, "whole numbers"]),
        (lambda h: h[F1].update(data_offsets=[640, 384]), [F1, "a start before the end"]),
        (lambda h: h[F1].update(data_offsets=[0]), [F1, "whole numbers"]),
        (lambda h: h[F1].pop("shape") and None, [F1, "must have dtype, shape and data_offsets"]),
        (lambda h: h[F1].update(more=1), [F1, "must have dtype, shape and data_offsets"]),
        (shifted(F1, -64, -64), [F1, "overlaps"]),
        (shifted(F1, 64, 64), [F1, "hole"]),
        (shifted("family.000009", 2**40, 2**40), ["family.000009", "hole"]),
        (lambda h: h.pop("family.000009") and None, ["appended"]),
    ],
)
def test_a_lens_file_with_a_header_that_lies_is_refused(pack, one_line, change, parts):
    rewrite_header(pack.path / SHARD, change)
    rehash(pack.path)
    with pytest.raises((PackFormatError, PackIntegrityError)) as caught:
        LensPack.from_pretrained(pack.path)
    one_line(caught, SHARD, *parts)


def test_families_out_of_order_in_a_lens_file_are_refused(pack, one_line):
    def swap(header: dict) -> None:
        header["family.000004"], header["family.000005"] = header["family.000005"], header["family.000004"]

    rewrite_header(pack.path / SHARD, swap)
    rehash(pack.path)
    refused(pack, PackFormatError, one_line, SHARD, "family.000005", "out of order")


# What is checked when a family is read


def flip_in_family(pack: LensPack, family: int) -> None:
    raw = bytearray((pack.path / SHARD).read_bytes())
    raw[len(raw) - sum(pack.family_bytes(f) for f in range(family, len(pack.hierarchy.families)))] ^= 1
    (pack.path / SHARD).write_bytes(raw)


def test_a_flipped_byte_stops_its_family_and_no_other(pack, one_line):
    expected = pack.read_family(3)
    flip_in_family(pack, 4)
    damaged = LensPack.from_pretrained(pack.path)
    for read in (damaged.read_family, damaged.read_family):
        with pytest.raises(PackIntegrityError) as caught:
            read(4)
        one_line(caught, SHARD, "family 4", "the children of 'c1'", "sha256", "fetch the pack again")
    assert torch.equal(damaged.read_family(3), expected)


def test_verify_finds_a_flipped_byte(pack, one_line):
    flip_in_family(pack, 0)
    with pytest.raises(PackIntegrityError) as caught:
        LensPack.from_pretrained(pack.path).verify()
    one_line(caught, SHARD, "family 0", "the top level", "fetch the pack again")


def test_verify_finds_what_changed_after_a_family_was_first_read(pack):
    pack.read_family(4)
    with (pack.path / SHARD).open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\xff")
    with pytest.raises(PackIntegrityError):
        pack.verify()


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_refused_even_with_the_right_hash(tmp_path, one_line, dtype, value):
    pack = make_pack(tmp_path / "p", dtype=dtype)
    rewrite_first_layers(pack, lambda tensors: tensors[F1].__setitem__((3, 2), value))
    forged = LensPack.from_pretrained(pack.path)
    with pytest.raises(PackIntegrityError) as caught:
        forged.read_family(1)
    one_line(caught, SHARD, "family 1", "'c0'", "not finite")


def test_the_largest_finite_weights_are_read(tmp_path):
    largest = torch.finfo(torch.bfloat16).max
    pack = make_pack(tmp_path / "p")
    layers = [pack.read_family(f) for f in range(len(pack.hierarchy.families))]
    layers[0][0, :2] = torch.tensor([largest, -largest])
    again = LensPack.create(
        tmp_path / "q",
        host=pack.config.host,
        site=pack.config.site,
        input=pack.config.input,
        lens=pack.config.lens,
        base_levels=(0,),
        hierarchy=pack.hierarchy,
        first_layers=layers,
        heads=pack.heads,
    )
    assert again.read_family(0)[0, 0] == largest


def test_a_lens_file_truncated_after_opening_is_named(pack, one_line):
    os.truncate(pack.path / SHARD, (pack.path / SHARD).stat().st_size - 1)
    last = len(pack.hierarchy.families) - 1
    with pytest.raises(PackIntegrityError) as caught:
        pack.read_family(last)
    one_line(caught, SHARD, f"family {last}", "truncated")


def test_a_disk_that_fails_while_reading_is_named(pack, monkeypatch, one_line):
    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(PackIntegrityError) as caught:
        pack.read_family(0)
    one_line(caught, SHARD, "family 0", "Input/output error")


def test_verify_finds_damage_in_the_host_and_files_that_are_not_listed(tmp_path, host, one_line):
    pack = make_pack(tmp_path / "p", host_dir=host)
    (pack.path / "host" / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(PackFormatError) as caught:
        pack.verify()
    one_line(caught, "host/pytorch_model.bin", "does not list", "remove it")
    (pack.path / "host" / "pytorch_model.bin").unlink()
    (pack.path / "host" / "model.safetensors").write_bytes(b"other")
    with pytest.raises(PackIntegrityError) as caught:
        LensPack.from_pretrained(pack.path).verify()
    one_line(caught, "host/model.safetensors", "sha256")


# Writing


def test_a_damaged_pack_is_not_copied(tmp_path, pack, one_line):
    flip_in_family(pack, 2)
    with pytest.raises(PackIntegrityError) as caught:
        LensPack.from_pretrained(pack.path).save_pretrained(tmp_path / "copy")
    one_line(caught, SHARD, "sha256")
    assert not (tmp_path / "copy").exists()


def test_a_directory_with_other_things_in_it_is_not_replaced(tmp_path, pack, one_line):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for write in (pack.save_pretrained, make_pack):
        with pytest.raises(WriteError) as caught:
            write(tmp_path / "mine")
        one_line(caught, str(tmp_path / "mine"), "'thesis.txt'", "choose an empty directory")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("limit", [10, 700, 3000])
def test_a_disk_that_fills_up_leaves_the_old_pack_and_nothing_else(tmp_path, pack, one_line, limit):
    before = contents(pack.path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(WriteError) as caught:
            make_pack(pack.path, seed=1)
        with pytest.raises(WriteError):
            pack.save_pretrained(tmp_path / "copy")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    one_line(caught, str(pack.path.name), "cannot write", "free some space")
    assert contents(pack.path) == before
    assert os.listdir(pack.path.parent) == [pack.path.name]
    assert not (tmp_path / "copy").exists()


def test_a_disk_that_fails_while_syncing_leaves_the_old_pack(pack, monkeypatch, one_line):
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = contents(pack.path)
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", fail)
        with pytest.raises(WriteError) as caught:
            make_pack(pack.path, seed=1)
    one_line(caught, str(pack.path), "No space left", "free some space")
    assert contents(pack.path) == before
    assert os.listdir(pack.path.parent) == [pack.path.name]


def test_no_permission_to_write_is_one_line(tmp_path, pack, monkeypatch, one_line):
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(WriteError) as caught:
        pack.save_pretrained(tmp_path / "copy")
    one_line(caught, str(tmp_path / "copy"), "Permission denied", "choose a place that you may write to")


def test_a_kill_in_mid_save_leaves_no_pack_and_is_swept_when_the_next_is_opened(pack):
    program = (
        "import os, signal, sys, lenses.pack\n"
        "lenses.pack.format_card = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "from tests.packs import make_pack\n"
        "make_pack(sys.argv[1])\n"
    )
    root = Path(__file__).parents[2]
    target = pack.path.parent / "killed"
    ended = subprocess.run([sys.executable, "-c", program, str(target)], check=False, cwd=root)
    assert ended.returncode == -signal.SIGKILL
    left = sorted(os.listdir(pack.path.parent))
    assert left[0].startswith(".killed.tmp-")
    assert left[1:] == ["tiny"]
    with pytest.raises(PackNotFound):
        LensPack.from_pretrained(target)
    assert os.listdir(pack.path.parent) == ["tiny"]


def create_like(pack: LensPack, directory: Path, **changes: object) -> LensPack:
    families = range(len(pack.hierarchy.families))
    parts: dict = {
        "host": pack.config.host,
        "site": pack.config.site,
        "input": pack.config.input,
        "lens": pack.config.lens,
        "base_levels": (0,),
        "hierarchy": pack.hierarchy,
        "first_layers": [pack.read_family(f) for f in families],
        "heads": pack.heads,
    }
    return LensPack.create(directory, **{**parts, **changes})


def test_parts_that_do_not_fit_each_other_make_no_pack(tmp_path, pack, one_line):
    layers = [pack.read_family(f) for f in range(len(pack.hierarchy.families))]
    tensors = pack.heads.tensors()
    nan_layer = layers[2].clone()
    nan_layer[0, 0] = float("nan")
    too_large = layers[2].float()
    too_large[0, 0] = torch.finfo(torch.float32).max
    nan_heads = {**tensors, "bias3": np.full_like(tensors["bias3"], np.nan)}
    for changes, kind, part in (
        ({"first_layers": layers[:-1]}, PackFormatError, "9 first layers for 10 families"),
        ({"first_layers": [layers[0][:-1], *layers[1:]]}, PackFormatError, "family 0 (the top level)"),
        ({"first_layers": [*layers[:2], nan_layer, *layers[3:]]}, PackIntegrityError, "family 2"),
        ({"first_layers": [*layers[:2], too_large, *layers[3:]]}, PackIntegrityError, "finite in bf16"),
        ({"heads": Heads.from_tensors(nan_heads, pack.config.lens, 16, 21)}, PackIntegrityError, "bias3"),
        ({"lens": LensConfig("mlp", (4, 2))}, PackFormatError, "bias2"),
        ({"base_levels": (1,)}, ConfigError, "base levels 1"),
        ({"base_levels": (0, 1, 2, 3)}, ConfigError, "base levels 0,1,2,3"),
        ({"site": "resid_post.4"}, ConfigError, "resid_post.4"),
    ):
        with pytest.raises(kind) as caught:
            create_like(pack, tmp_path / "made" / "p", **changes)
        one_line(caught, part)
        assert not (tmp_path / "made").exists() or os.listdir(tmp_path / "made") == []
