"""Starts a command, kills it at a random moment, and looks whether what it writes is absent or whole; again and again.

A command is an argument list, and what it writes is a path, so any program can be killed. Its whole process group is
killed with SIGKILL, which no program can answer. Half of the moments are drawn from all of the command's usual
duration; half are so long after it is seen to begin writing as its writing usually takes, at the most, since that is
when a kill can do harm. Every second time what is there already stays, so that the command replaces it.

In the end the command runs once more to its end: then its places must hold what they held after the first such run.
"""

import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lenses.errors import PackError, PhoropterError
from lenses.files import sweep
from lenses.pack import LensPack
from lenses.text import one_line

Record = dict[str, Any]

_LONGEST_S = 600.0
_LOOK_S = 0.002


def verified(target: Path) -> str:
    """The identity of the pack at `target`, every byte of it checked; raises PackError."""
    pack = LensPack.from_pretrained(target)
    pack.verify()
    return pack.identity


@dataclass(frozen=True, slots=True)
class Case:
    """One command to be killed."""

    name: str
    argv: Sequence[str]
    """The command; run again it writes the same."""
    target: Path
    """What it writes."""
    places: Sequence[Path]
    """The directories in which it leaves anything: nothing else may be in them in the end."""
    check: Callable[[Path], str] = verified
    """Says which pack is whole at `target`; raises PhoropterError."""


def interrupt(case: Case, times: int, seed: int, progress: Callable[[], None]) -> Record:
    """Kills the command so many times; what was found. Raises PhoropterError where it fails without being killed."""
    rng = random.Random(seed)
    usual_s, writing_s = _run(case)
    identity = case.check(case.target)
    expected = _held(case)
    found: Counter[str] = Counter()
    broken: list[str] = []
    for turn in range(times):
        if turn % 2 == 0:
            _remove(case.target)
        was_there = os.path.lexists(case.target)
        writes = turn % 4 < 2
        delay_s = rng.uniform(0, usual_s - writing_s if writes else usual_s)
        ended = _kill_after(case, delay_s, writes=writes)
        found["ended before" if ended else "killed"] += 1
        found["debris seen"] += bool(_held(case) - expected)
        try:
            found[_state(case, was_there, identity)] += 1
        except PhoropterError as error:
            begun = " of writing" if writes else ""
            broken.append(f"after {delay_s:.3f} s{begun}: {one_line(error)}")
        progress()
    usual_again_s, _ = _run(case)
    return {
        "case": case.name,
        "command": [Path(case.argv[0]).name, *case.argv[1:]],
        "kills": times,
        "usual_s": [usual_s, usual_again_s],
        "writing_from_s": writing_s,
        **{
            name.replace(" ", "_"): found[name]
            for name in ("killed", "ended before", "absent", "whole", "put back", "debris seen")
        },
        "broken": broken,
        "same_in_the_end": case.check(case.target) == identity,
        "debris_in_the_end": sorted(_held(case) - expected),
        "missing_in_the_end": sorted(expected - _held(case)),
    }


def _state(case: Case, was_there: bool, identity: str) -> str:
    """`whole`, `absent`, or `put back`: caught as one pack took another's place, which the next start ends."""
    if os.path.lexists(case.target):
        if case.check(case.target) != identity:
            raise PackError(f"{case.target.name} is another pack than the command writes")
        return "whole"
    if not was_there:
        return "absent"
    sweep(case.target.parent)  # as every start does
    if case.check(case.target) != identity:
        raise PackError(f"{case.target.name} is another pack than it was")
    return "put back"


def _run(case: Case) -> tuple[float, float]:
    """Run the command to its end: its seconds, and the second at which it began to write."""
    before, begin = _held(case), time.monotonic()
    _remove(case.target)
    writing_s: float | None = None
    process = _start(case)
    while process.poll() is None:
        time.sleep(_LOOK_S)
        if writing_s is None and _held(case) - before:
            writing_s = time.monotonic() - begin
        if time.monotonic() - begin > _LONGEST_S:
            _kill(process)
            raise PhoropterError(f"{case.name}: not done after {_LONGEST_S:g} s; make it smaller")
    if process.returncode:
        raise PhoropterError(
            f"{case.name}: exit code {process.returncode} without being killed; run it by hand"
        )
    seconds = time.monotonic() - begin
    return seconds, writing_s if writing_s is not None else 0.0


def _kill_after(case: Case, delay_s: float, *, writes: bool) -> bool:
    """Start the command and kill it so many seconds later, or after it began to write; whether it had ended before."""
    before = _held(case)
    process = _start(case)
    while writes and process.poll() is None and not _held(case) - before:
        time.sleep(_LOOK_S)
    try:
        process.wait(delay_s)
    except subprocess.TimeoutExpired:
        _kill(process)
        return False
    return True


def _start(case: Case) -> subprocess.Popen[bytes]:
    nowhere = subprocess.DEVNULL
    return subprocess.Popen(case.argv, stdin=nowhere, stdout=nowhere, stderr=nowhere, start_new_session=True)


def _kill(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _held(case: Case) -> set[str]:
    """All that the case's places hold, by relative path."""
    return {
        os.path.join(place.name, os.path.relpath(os.path.join(folder, name), place))
        for place in case.places
        for folder, folders, files in os.walk(place)
        for name in (*folders, *files)
    }


def _remove(target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)
