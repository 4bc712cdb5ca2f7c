"""The files of a pack are found and read without the libraries that only some uses need."""

import subprocess
import sys

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
