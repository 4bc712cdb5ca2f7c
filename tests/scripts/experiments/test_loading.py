"""Every way to load gives the pack's families, and one that does not is noticed."""

from pathlib import Path

import pytest
import torch
from experiments.loading import PICKLE, READERS, Loader, choose
from experiments.subject import Subject, beyond
from measuring.disk import cached_pages
from profiling.runs import Differs

from lenses.errors import ConfigError

FAMILIES = 5


@pytest.fixture
def loader(subject: Subject, tmp_path: Path) -> Loader:
    return Loader(subject.pack, choose(subject.pack, FAMILIES, 0), tmp_path)


def test_families_lie_apart_in_one_file(subject: Subject) -> None:
    pack = subject.pack
    chosen = choose(pack, FAMILIES, 0)
    assert len(set(chosen.families)) == FAMILIES
    assert set(chosen.families) <= set(beyond(pack, pack.config.base_levels))
    assert chosen.size_bytes == sum(map(pack.family_bytes, chosen.families))
    ends = [start + length for start, length in chosen.ranges]
    assert all(end < start for end, (start, _) in zip(ends, chosen.ranges[1:], strict=False))
    with open(chosen.file, "rb") as file:
        for family, (start, length) in zip(chosen.families, chosen.ranges, strict=True):
            file.seek(start)
            assert file.read(length) == pack.read_family(family).view(torch.uint8).numpy().tobytes()
    with pytest.raises(ConfigError, match="families out of"):
        choose(pack, 10_000, 0)


def test_every_way_gives_the_families_cold_or_not(loader: Loader, subject: Subject) -> None:
    chosen = choose(subject.pack, FAMILIES, 0)
    loader.control()
    names = []
    for way in loader.ways():
        way.prepare()
        if way.cold and PICKLE not in way.name:
            assert not cached_pages(chosen.file).any(), way.name
        way.check(way.run())
        names.append(way.name)
    loader.close()
    assert len(set(names)) == len(names) == 11
    assert sum(name.startswith("cold: ") for name in names) == 5


def test_a_way_that_gives_something_else_is_noticed(loader: Loader) -> None:
    for way in loader.ways():
        way.prepare()
        found = way.run()
        if isinstance(found, list):
            with pytest.raises(Differs):
                way.check([*found[1:], found[0]])
        elif way.readers == READERS:
            way.prepare()  # a cache into which nothing was loaded
            with pytest.raises(Differs, match="families were read"):
                way.check(None)
    loader.close()
