"""The files of a pack are found and read without the libraries that only some uses need."""

import os
import subprocess
import sys

import pytest

from lenses.store import advise_spans

PROGRAM = """
import sys
import lenses, lenses.config, lenses.store, lenses.files
assert "torch" not in sys.modules, "configurations are read without torch"
from lenses import LensPack
assert "torch" in sys.modules
assert "huggingface_hub" not in sys.modules, "local packs are opened without the library of the hub"
"""


def test_slow_libraries_are_imported_when_they_are_needed():
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system cannot be told what will be read")
def test_spans_that_lie_close_are_announced_together(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int, int]] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda *call: told.append(call[:3]))
    far = 10 << 20
    advise_spans([(4, 100, 50), (3, far, 8), (3, 20, 30), (3, 0, 20), (3, 70, 10)])
    assert told == [(3, 0, 80), (3, far, 8), (4, 100, 50)]
    advise_spans([])
    assert len(told) == 3
