"""Directories of state dicts become packs that score as the same modules in plain PyTorch, and odd ones say so."""

import io
import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from foreign.state_dicts import MODEL, module, save, tree_keys, write_directory, write_hierarchy

from lenses.bank import Bank
from lenses.errors import ConfigError, SourceError
from lenses.importers.facts import Given
from lenses.importers.imported import Imported
from lenses.importers.reading import Limits, Reader, Refused, Unreadable
from lenses.importers.state_dicts import import_state_dicts
from lenses.pack import LensPack
from lenses.state import normalise
from tests.state_dicts import FACTS, Hostile

GIVEN = Given(**FACTS)
TREE = {"A:0": ["B:1", "D:1"], "B:1": ["C:2"]}


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    """One for all tests, since it takes two seconds to start; small, so that a bomb need not be large."""
    with Reader(Limits(file_bytes=64 << 20, address_bytes=48 << 20, cpu_s=1)) as reader:
        yield reader


def odd_in(made: Imported) -> dict[str, tuple[str, ...]]:
    return {item.what: item.names for item in made.odd}


def parents(pack: LensPack) -> dict[str, str | None]:
    return {concept.id: concept.parent for concept in pack.hierarchy}


@pytest.mark.parametrize(
    ("norm", "size", "widths"), [(False, 32, (8, 4)), (True, 32, (8, 4)), (True, 19, (5, 3))]
)
def test_every_lens_scores_as_its_module_does(
    tmp_path: Path, reader: Reader, norm: bool, size: int, widths: tuple[int, int]
) -> None:
    modules = write_directory(
        tmp_path / "in", tree_keys((4, 4, 3) if size == 32 else (2, 3)), norm=norm, size=size, widths=widths
    )
    pack = import_state_dicts(tmp_path / "in", tmp_path / "pack", GIVEN, reader=reader).pack
    assert len(pack.hierarchy) == len(modules)
    assert (pack.config.lens.dtype, pack.config.lens.widths) == ("fp32", widths)
    assert (pack.config.input.norm, pack.config.host.id) == ("layer" if norm else "none", MODEL)
    rows_PD = torch.randn(3, size, generator=torch.Generator().manual_seed(5)) * 3 + 1
    inputs_PD = normalise(rows_PD.numpy(), pack.config.input)
    bank = Bank(pack, base=range(len(pack.hierarchy.families)))
    served_PN = bank.score_base(inputs_PD)[:, np.argsort(bank.base_ids)]
    for key, net in modules.items():
        with torch.no_grad():
            expected_P = net(rows_PD)[:, 0].numpy()
        allowed = 1e-5 * max(1, np.abs(expected_P).max())
        index = pack.hierarchy.index(key)
        assert np.abs(served_PN[:, index] - expected_P).max() <= allowed
        alone_P = [pack.lens(index).logit(torch.from_numpy(state_D)) for state_D in inputs_PD]
        assert np.abs(alone_P - expected_P).max() <= allowed
    bank.close()


def test_bf16_stays_bf16_and_an_own_norm_makes_it_fp32(tmp_path: Path, reader: Reader) -> None:
    for norm in (False, True):
        source = tmp_path / f"in-{norm}"
        for name in "AB":
            save(module(3, norm=norm), source / "layer0" / f"{name}.pt", dtype=torch.bfloat16)
        made = import_state_dicts(
            source, tmp_path / f"pack-{norm}", Given(**FACTS, host_id=MODEL), reader=reader
        )
        assert made.pack.config.lens.dtype == ("fp32" if norm else "bf16")
        assert {"no hierarchy.json", "no pack_info.json"} <= odd_in(made).keys()
    stored = made.pack.lens(0).weight1
    net = module(3, norm=True).to(torch.bfloat16).float()
    torch.testing.assert_close(stored, net[1].weight * net[0].weight, rtol=0, atol=0)


def test_an_imported_pack_says_that_nothing_of_it_is_known(tmp_path: Path, reader: Reader) -> None:
    write_directory(tmp_path / "in", TREE)
    made = import_state_dicts(tmp_path / "in", tmp_path / "pack", GIVEN, reader=reader)
    pack = made.pack
    assert not pack.heads.calibrated.any()
    assert not pack.vouched_N.any()
    assert not any(concept.metrics or concept.threshold for concept in pack.hierarchy)
    assert "no lens is calibrated or measured" in pack.config.provenance["imported"]
    assert {fact.name: fact.origin for fact in made.facts} == {
        "host_id": "pack_info.json",
        "norm": "the tensors: no LayerNorm",
        "eps": "default",
        "base_levels": "default",
        "licence": "default: nothing says it",
        **dict.fromkeys(("site", "blocks", "host_dtype", "pooling"), "given"),
    }
    assert pack.config.licence == "unknown"
    assert [pack.hierarchy.index(f"{id}:{level}") for id, level in (("A", 0), ("B", 1), ("C", 2))] == [
        pack.hierarchy.index(id) for id in "ABC"
    ]
    assert not made.odd


def test_what_nobody_says_is_asked_for_at_once(tmp_path: Path, reader: Reader) -> None:
    write_directory(tmp_path / "in", TREE)
    with pytest.raises(ConfigError, match=r"--site.*--blocks.*--host-dtype.*--pooling") as caught:
        import_state_dicts(tmp_path / "in", tmp_path / "pack", Given(), reader=reader)
    assert "--host-id" not in str(caught.value), "pack_info.json says it"
    assert not (tmp_path / "pack").exists()


def test_a_hostile_pickle_is_refused_by_name_and_does_not_run(tmp_path: Path, reader: Reader) -> None:
    write_directory(tmp_path / "in", TREE)
    mark = tmp_path / "it-ran"
    torch.save({"net.0.weight": Hostile(mark)}, tmp_path / "in" / "layer1" / "Evil one.pt")
    with pytest.raises(SourceError, match=r"layer1/Evil one\.pt asks for posix\.mkdir.*nothing was imported"):
        import_state_dicts(tmp_path / "in", tmp_path / "pack", GIVEN, reader=reader)
    assert not mark.exists()
    assert not (tmp_path / "pack").exists()
    torch.load(tmp_path / "in" / "layer1" / "Evil one.pt", weights_only=False)
    assert mark.exists(), "the control: a reader that trusts the file runs it"


def test_what_takes_the_reading_process_down_takes_nothing_else_down(tmp_path: Path, reader: Reader) -> None:
    write_directory(tmp_path / "in", TREE)
    layer = tmp_path / "in" / "layer1"
    _write_spinning(layer / "Spin.pt", layer / "B_classifier.pt")
    _write_bomb(layer / "Bomb.pt")
    (layer / "Junk.pt").write_bytes(b"no pickle at all")
    (layer / "Empty.pt").touch()
    torch.save([torch.zeros(2)], layer / "List.pt")
    torch.save({"net.0.weight": torch.zeros(2, dtype=torch.float64)}, layer / "Wide.pt")
    made = import_state_dicts(tmp_path / "in", tmp_path / "pack", GIVEN, reader=reader)
    assert len(made.pack.hierarchy) == 4
    said = {
        name.partition(":")[0]: name for name in odd_in(made)["a file that cannot be read as a state dict"]
    }
    assert said.keys() == {f"layer1/{name}.pt" for name in ("Spin", "Bomb", "Junk", "Empty", "List", "Wide")}
    assert "CPU time" in said["layer1/Spin.pt"]
    assert "memory" in said["layer1/Bomb.pt"]
    assert "list" in said["layer1/List.pt"]
    assert "float64" in said["layer1/Wide.pt"]


def _write_spinning(path: Path, like: Path) -> None:
    """A file whose pickle is a dict with tuples of tuples as keys, whose hash takes 2^40 steps."""
    tuples = b"K\x01q\x00" + b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(41))
    with zipfile.ZipFile(like) as read, zipfile.ZipFile(path, "w") as written:
        for name in read.namelist():
            pickled = b"\x80\x02}(" + tuples + b"u."
            written.writestr(name, pickled if name.endswith("data.pkl") else read.read(name))


def _write_bomb(path: Path) -> None:
    """A small file that holds 56 MB of zeros."""
    file = io.BytesIO()
    torch.save({"net.0.weight": torch.zeros(14 << 20)}, file)
    with (
        zipfile.ZipFile(file) as read,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as written,
    ):
        for name in read.namelist():
            written.writestr(name, read.read(name))


def test_tensors_that_are_no_lens_are_left_out_and_said(tmp_path: Path, reader: Reader) -> None:
    write_directory(tmp_path / "in", TREE)
    layer = tmp_path / "in" / "layer1"
    save(module(1, size=16), layer / "Narrow.pt")
    save(torch.nn.Linear(32, 1), layer / "Linear.pt")
    bad = module(1)
    with torch.no_grad():
        bad[3].weight[0, 0] = torch.nan
    save(bad, layer / "Nan.pt")
    cut = {f"net.{name}": value for name, value in module(1).state_dict().items()}
    torch.save(cut | {"net.6.weight": torch.zeros(2, 4)}, layer / "Two.pt")
    made = import_state_dicts(tmp_path / "in", tmp_path / "pack", GIVEN, reader=reader)
    found = odd_in(made)
    assert found["another shape than the 4 lenses of 32-8-4-1"] == ("Narrow:1: 16-8-4-1",)
    wrong = "\n".join(found["tensors that are no such lens"])
    for part in (
        "Linear.pt has the keys net.bias, net.weight",
        "Nan.pt 3.weight holds numbers that are not finite",
        "Two.pt 6.weight is [2, 4], expected [1, 4]",
    ):
        assert part in wrong
    assert json.loads(json.dumps(made.pack.config.provenance["odd"])) == [item.to_json() for item in made.odd]


def test_lenses_with_and_without_a_layer_norm_are_not_mixed_without_a_word(
    tmp_path: Path, reader: Reader
) -> None:
    write_directory(tmp_path / "in", TREE)
    save(module(7, norm=True), tmp_path / "in" / "layer2" / "N.pt")
    with pytest.raises(
        SourceError, match=r"1 lenses have a LayerNorm.*4 have none.*--norm layer.*--norm none"
    ):
        import_state_dicts(tmp_path / "in", tmp_path / "pack", GIVEN, reader=reader)
    for norm, ids in (("layer", {"N"}), ("none", set("ABCD"))):
        made = import_state_dicts(tmp_path / "in", tmp_path / norm, Given(**FACTS, norm=norm), reader=reader)
        assert set(parents(made.pack)) == ids
        assert sum(len(item.names) for item in made.odd if item.what.startswith("another shape")) == 5 - len(
            ids
        )


def test_what_is_no_forest_is_made_one_and_said(tmp_path: Path, reader: Reader) -> None:
    write_directory(tmp_path / "in", {"A:0": ["B:1", "C:1"], "B:1": ["D:2"], "X:1": ["Y:2"], "Y:2": ["E:3"]})
    children = {
        "A:0": ["B:1", "C:1", "B:1"],
        "B:1": ["D:2", "Y:2"],
        "C:1": ["D:2"],
        "Ghost:1": ["E:3"],
        "B:2": ["Nobody:3"],
        "X:1": ["X:1"],
        "E:3": ["Ghost:1"],
        "no key": ["A:0"],
    }
    write_hierarchy(tmp_path / "in", children, child_to_parent={"D:2": "C:1", "A:0": "C:1"})
    made = import_state_dicts(tmp_path / "in", tmp_path / "pack", GIVEN, reader=reader)
    assert parents(made.pack) == {"A": None, "B": "A", "C": "A", "D": "C", "Y": "B", "X": None, "E": None}
    found = odd_in(made)
    assert found["several parents"] == ("D:2 under C:1, not B:1",)
    assert found["a parent in child_to_parent alone"] == ("A:0 under C:1",)
    assert found["a key of hierarchy.json that is not 'Name:level'"] == ("'no key'",)
    assert sorted(found["a cycle"]) == [
        "Ghost:1, of E:3 under Ghost:1 under E:3",
        "X:1, of X:1 under X:1",
    ]
    assert found["a parent without a lens"] == ("E:3: Ghost:1 has none, at the top",)
    assert found["in hierarchy.json, without a lens"] == ("B:2", "Ghost:1", "Nobody:3")
    assert "X:1" in found["no parent in hierarchy.json"]
    assert "E:3 is at level 0" in found["a level that is not its directory's number"]


def test_a_lens_hangs_under_the_nearest_that_has_one(tmp_path: Path, reader: Reader) -> None:
    write_directory(tmp_path / "in", {"A:0": ["B:1"], "B:1": ["C:2"], "C:2": ["D:3"]})
    (tmp_path / "in" / "layer1" / "B_classifier.pt").unlink()
    (tmp_path / "in" / "layer2" / "C.pt").unlink()
    made = import_state_dicts(tmp_path / "in", tmp_path / "pack", GIVEN, reader=reader)
    assert parents(made.pack) == {"A": None, "D": "A"}
    assert odd_in(made)["a parent without a lens"] == ("D:3: C:2 has none, under A:0",)


def test_a_file_that_changes_while_it_is_imported_ends_it(tmp_path: Path, reader: Reader) -> None:
    write_directory(tmp_path / "in", TREE)

    def change(what: str, done: int, total: int) -> None:
        if (what, done) == ("lenses read", total):
            save(module(99), tmp_path / "in" / "layer2" / "C_classifier.pt")
            save(module(99), tmp_path / "in" / "layer2" / "C.pt")

    with pytest.raises(SourceError, match=r"C.*pt changed while it was imported"):
        import_state_dicts(tmp_path / "in", tmp_path / "pack", GIVEN, reader=reader, progress=change)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"], "no pack and no debris"


def test_a_directory_that_is_none_is_one_line(tmp_path: Path, reader: Reader) -> None:
    given = Given(**FACTS, host_id=MODEL)
    for source in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(SourceError, match="layer0"):
            import_state_dicts(source, tmp_path / "pack", given, reader=reader)
    write_directory(tmp_path / "in", TREE)
    for name, text in (("hierarchy.json", '{"a": 1}'), ("hierarchy.json", "{"), ("pack_info.json", "[]")):
        shutil.copytree(tmp_path / "in", tmp_path / "bad", dirs_exist_ok=True)
        (tmp_path / "bad" / name).write_text(text)
        with pytest.raises(SourceError, match=name):
            import_state_dicts(tmp_path / "bad", tmp_path / "pack", given, reader=reader)


def test_a_pipe_a_directory_and_what_is_too_large_are_unreadable(tmp_path: Path, reader: Reader) -> None:
    os.mkfifo(tmp_path / "pipe.pt")
    (tmp_path / "folder.pt").mkdir()
    with (tmp_path / "large.pt").open("wb") as file:
        file.truncate((64 << 20) + 1)
    for name in ("pipe", "folder", "large", "missing"):
        with pytest.raises(Unreadable):
            reader.read(tmp_path / f"{name}.pt")


def test_a_pickle_of_the_old_kind_is_refused_too(tmp_path: Path, reader: Reader) -> None:
    mark = tmp_path / "it-ran"
    torch.save({"a": Hostile(mark)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(Refused, match="mkdir"):
        reader.read(tmp_path / "old.pt")
    assert not mark.exists()
