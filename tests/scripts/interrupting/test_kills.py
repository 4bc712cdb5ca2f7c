"""Killing at random finds what it is for: a writer that leaves halves or debris is seen to."""

import sys
from pathlib import Path

import pytest
from interrupting.kills import Case, interrupt

from lenses.errors import PackFormatError, PhoropterError

WHOLE = "0123456789" * 2
CAREFUL = """
import sys; from lenses.files import AtomicFile; import time
with AtomicFile(sys.argv[1]) as file:
    for digit in "0123456789" * 2: file.write(digit); time.sleep(0.002)
"""
CARELESS = """
import sys, time
with open(sys.argv[1], "w", buffering=1) as file:
    for digit in "0123456789" * 2: file.write(digit); file.flush(); time.sleep(0.02)
"""
LITTERING = """
import os, sys, time
path = sys.argv[1]
with open(f"{path}.{os.getpid()}", "w") as file:
    file.write("0123456789" * 2); time.sleep(0.1)
os.rename(f"{path}.{os.getpid()}", path)
"""


def check(target: Path) -> str:
    text = target.read_text()
    if text != WHOLE:
        raise PackFormatError(f"{len(text)} of {len(WHOLE)} digits")
    return text


def case(program: str, place: Path) -> Case:
    target = place / "file"
    return Case("writer", [sys.executable, "-c", program, str(target)], target, [place], check)


def test_a_careful_writer_passes(tmp_path: Path) -> None:
    found = interrupt(case(CAREFUL, tmp_path), 4, 0, lambda: None)
    assert found["broken"] == []
    assert found["absent"] + found["whole"] + found["put_back"] == 4
    assert found["same_in_the_end"]
    assert found["debris_in_the_end"] == found["missing_in_the_end"] == []


def test_a_writer_of_halves_is_seen(tmp_path: Path) -> None:
    found = interrupt(case(CARELESS, tmp_path), 4, 0, lambda: None)
    assert found["broken"]
    assert all("digits" in said for said in found["broken"])


def test_a_writer_that_leaves_debris_is_seen(tmp_path: Path) -> None:
    found = interrupt(case(LITTERING, tmp_path), 4, 0, lambda: None)
    assert found["debris_seen"]
    assert found["debris_in_the_end"]


def test_a_command_that_fails_by_itself_is_no_case(tmp_path: Path) -> None:
    with pytest.raises(PhoropterError, match="exit code 3 without being killed"):
        interrupt(case("import sys; sys.exit(3)", tmp_path), 1, 0, lambda: None)
