"""Memory in large pages is memory like any other: writable, of the size asked for, and given back."""

import gc

import psutil
import pytest

from lenses.memory import empty_bytes


@pytest.mark.parametrize("size_bytes", [0, 1, 4095, 4 << 20, (4 << 20) + 123])
def test_it_is_writable_and_of_its_size(size_bytes: int) -> None:
    memory = empty_bytes(size_bytes)
    assert memory.untyped_storage().nbytes() == size_bytes
    memory.fill_(7)
    assert (memory == 7).all()


def test_it_is_given_back() -> None:
    process = psutil.Process()
    memory = empty_bytes(64 << 20).fill_(1)
    held = process.memory_info().rss
    del memory
    gc.collect()
    assert held - process.memory_info().rss > 60 << 20
