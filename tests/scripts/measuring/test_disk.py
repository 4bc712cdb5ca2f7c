"""Cold reads are cold, and a file that stays in memory is noticed."""

import mmap
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from measuring import disk
from measuring.disk import DiskSpeed, Eviction, cached_pages, evict

from lenses.errors import ConfigError, SourceError

PAGE = mmap.PAGESIZE
SIZE = 40 * PAGE + 123


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.write_bytes(os.urandom(SIZE))
    if evict(path).left:
        pytest.skip("this directory lives in memory")
    return path


def test_reading_brings_pages_in_and_eviction_takes_them_out(file: Path) -> None:
    assert not cached_pages(file).any()
    assert len(cached_pages(file)) == 41
    file.read_bytes()
    assert cached_pages(file).all()
    found = evict(file)
    assert (found.pages, found.left) == (41, 0)
    found.check()


def test_a_file_just_written_can_be_evicted(file: Path) -> None:
    file.write_bytes(bytes(SIZE))
    assert evict(file).left == 0


def test_pages_that_stay_are_said(file: Path) -> None:
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert len(mapped[: 3 * PAGE]) == 3 * PAGE  # mapped pages cannot be dropped
        found = evict(file)
        assert found.left > 0
        with pytest.raises(SourceError, match=rf"{found.left} of 41 pages stay"):
            found.check()
        with pytest.raises(SourceError, match="stay in the page cache"):
            DiskSpeed(file, [(0, PAGE)]).sample()
    Eviction(file, 3, 0).check()


@pytest.mark.parametrize("readers", [1, 3])
def test_speed_is_that_of_the_faster_way(file: Path, readers: int) -> None:
    ranges = [(0, PAGE), (3 * PAGE + 5, 2 * PAGE), (39 * PAGE, SIZE - 39 * PAGE)]
    speed = DiskSpeed(file, ranges, readers=readers)
    for _ in range(3):
        speed.sample()
    found = speed.to_json()
    assert speed.size_bytes == 3 * PAGE + SIZE - 39 * PAGE
    assert speed.buffered_ms.n == 3
    if speed.direct_ms is None:
        assert speed.direct_refused
        assert speed.own_ms == speed.buffered_ms.median
    else:
        assert speed.direct_ms.n == 3
        assert speed.own_ms == min(speed.direct_ms.median, speed.buffered_ms.median)
    assert found["own_ms"] == speed.own_ms
    assert found["readers"] == readers


@given(st.integers(0, 10**7), st.integers(1, 10**7))
def test_direct_reads_take_the_whole_pages_around_a_range_and_no_more(start: int, length: int) -> None:
    first, size = disk._aligned((start, length))
    assert first % PAGE == size % PAGE == 0
    assert first <= start < first + PAGE
    assert start + length <= first + size < start + length + PAGE


def test_every_range_is_read(file: Path) -> None:
    with file.open("rb") as opened, mmap.mmap(-1, 3 * PAGE) as buffer:
        disk._read_all(opened.fileno(), [(7, 2 * PAGE), (SIZE - 9, PAGE)], buffer)
        assert buffer[:9] == file.read_bytes()[-9:]
        assert buffer[9 : 2 * PAGE] == file.read_bytes()[7 + 9 : 7 + 2 * PAGE]


def test_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="give another file"):
        evict(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="at least one"):
        DiskSpeed(tmp_path / "x", [])
    (tmp_path / "empty").write_bytes(b"")
    assert evict(tmp_path / "empty").pages == 0
