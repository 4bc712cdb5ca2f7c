"""Names of files become ids and aliases that find one concept each, whatever the names are."""

import tempfile
from pathlib import Path

import pytest
from foreign.state_dicts import write_hierarchy
from hypothesis import given
from hypothesis import strategies as st

from lenses.concept import Hierarchy
from lenses.errors import SourceError
from lenses.importers.forest import Edges, parents_among, read_edges
from lenses.importers.lens_files import LensFile, find_lens_files, ids_of
from lenses.importers.odd import Oddities

NAMES = st.text(st.sampled_from("aAbB :.0123_é\u00a0'\"()&"), min_size=1, max_size=8).filter(
    str.strip
) | st.text(st.characters(exclude_categories=("C", "Zl", "Zp")), min_size=1).filter(str.strip)
FILES = st.lists(st.tuples(NAMES, st.integers(0, 3)), min_size=1, max_size=25, unique=True).map(
    lambda some: [LensFile(Path(f"{name}.pt"), name, layer) for name, layer in some]
)


@given(FILES)
def test_ids_are_unique_and_keys_find_their_concept(files: list[LensFile]) -> None:
    ids = ids_of(files)
    assert len(set(ids.values())) == len(files)
    hierarchy = Hierarchy.build(
        ((id, id, None) for id in ids.values()),
        aliases={id: [key] for key, id in ids.items() if id != key},
    )
    for key, id in ids.items():
        assert hierarchy.index(key) == hierarchy.index(id)
    for file in files:
        if sum(other.name == file.name for other in files) == 1 and all(o.key != file.name for o in files):
            assert ids[file.key] == file.name, "a name of its own is the id"


@given(FILES, st.data())
def test_any_parents_give_a_forest(files: list[LensFile], data: st.DataObject) -> None:
    """Whatever a hierarchy says of lenses and of concepts without one, cycles and loops included."""
    keys = [file.key for file in files] + ["ghost:0", "ghost:1"]
    children = data.draw(
        st.dictionaries(
            st.sampled_from(keys), st.lists(st.sampled_from(keys), max_size=4), max_size=len(keys)
        )
    )
    odd = Oddities()
    with tempfile.TemporaryDirectory() as directory:
        write_hierarchy(Path(directory), children)
        edges = read_edges(Path(directory), odd)
    parents = parents_among(files, edges, odd)
    hierarchy = Hierarchy.build((key, key, parents[key]) for key in parents)
    assert len(hierarchy) == len(files)
    for file in files:
        told = [parent for parent, some in children.items() if file.key in some]
        assert parents[file.key] is not None or not told or list(odd), "what was changed was noted"


def found_in(
    directory: Path, keys: frozenset[str] = frozenset()
) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    odd = Oddities()
    files = find_lens_files(directory, keys, odd)
    return {file.key: file.path.name for file in files}, {item.what: item.names for item in odd}


def touch(directory: Path, *names: str) -> None:
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).touch()


def test_names_are_taken_as_they_are(tmp_path: Path) -> None:
    touch(
        tmp_path,
        *("layer0/Cell.pt", "layer0/cell.pt", "layer0/Living Thing.pt", "layer1/Living Thing_classifier.pt"),
        *("layer1/Image_classifier.pt", "layer1/_classifier.pt", "layer12/Ünï: (x).pt"),
        *("layer0/results.json", "layer01/A.pt", "README.md", "pack_info.json", "layer0/.pt"),
    )
    files, odd = found_in(tmp_path, frozenset({"Image_classifier:1"}))
    assert files == {
        "Cell:0": "Cell.pt",
        "cell:0": "cell.pt",
        "Living Thing:0": "Living Thing.pt",
        "Living Thing:1": "Living Thing_classifier.pt",
        "Image_classifier:1": "Image_classifier.pt",
        "_classifier:1": "_classifier.pt",
        "Ünï: (x):12": "Ünï: (x).pt",
    }
    assert odd == {
        "no directory of lenses": ("README.md", "layer01"),
        "a file that is no lens": ("layer0/.pt", "layer0/results.json"),
        "names that differ in case alone": ("Cell, cell",),
    }


def test_two_files_of_one_concept_are_both_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "layer0/A.pt", "layer0/A_classifier.pt", "layer0/B.pt")
    files, odd = found_in(tmp_path)
    assert files == {"B:0": "B.pt"}
    assert odd == {"two files of one concept": ("A:0: A.pt and A_classifier.pt",)}


def test_a_name_that_a_terminal_would_obey_is_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "layer0/a\x1b[2J.pt", "layer0/a\nb.pt", "layer0/  .pt", "layer0/A.pt")
    (tmp_path / "layer0" / b"\xff.pt".decode("utf-8", "surrogateescape")).touch()
    files, odd = found_in(tmp_path)
    assert files == {"A:0": "A.pt"}
    (names,) = odd.values()
    assert len(names) == 4
    assert all(name.isprintable() for name in names)


def test_a_directory_without_lenses_says_what_to_give(tmp_path: Path) -> None:
    touch(tmp_path, "layer0/readme.txt", "A.pt")
    with pytest.raises(SourceError, match="give the directory that holds layer0"):
        found_in(tmp_path)


def test_a_chain_without_lenses_may_be_longer_than_the_stack() -> None:
    count = 20_000
    parent_of = {f"g:{n + 1}": f"g:{n}" for n in range(count)}
    parent_of["A:5"] = f"g:{count}"
    files = [LensFile(Path("A.pt"), "A", 5)]
    edges = Edges(parent_of, frozenset(parent_of), frozenset())
    assert parents_among(files, edges, Oddities()) == {"A:5": None}
