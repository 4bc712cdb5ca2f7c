"""A warm process is what a cold one is, but for its age."""

import json
import os
import pty
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.warm import Warm, cold

SHOW = """
import json, os, signal, sys, threading
json.dump({
    "words": sys.argv,
    "home": os.environ.get("HOME"),
    "given": os.environ.get("GIVEN"),
    "directory": os.getcwd(),
    "input": sys.stdin.read(),
    "encodings": [stream.encoding for stream in (sys.stdin, sys.stdout, sys.stderr)],
    "errors": [stream.errors for stream in (sys.stdout, sys.stderr)],
    "leads": os.getsid(0) == os.getpid(),
    "threads": len(os.listdir("/proc/self/task")),
    "open": [int(name) for name in os.listdir("/proc/self/fd") if int(name) > 3],
    "ctrl_c": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
    "child": str(signal.getsignal(signal.SIGCHLD)),
    "name": __name__,
}, sys.stdout)
sys.stdout.flush()
print("\\u2192", file=sys.stderr)
sys.exit(7)
"""


def read_all(descriptor: int) -> None:
    while os.read(descriptor, 10_000):
        pass


each = pytest.mark.parametrize("start", [Warm, cold], ids=["warm", "cold"])
Start = Callable[..., Any]


def run(start: Start, directory: Path, *command: str, **environment: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of what reads "typed" and has this environment alone."""
    (directory / "in").write_text("typed")
    with (
        (directory / "in").open() as fed,
        (directory / "out").open("w") as out,
        (directory / "err").open("w") as err,
    ):
        streams = (fed.fileno(), out.fileno(), err.fileno())
        code = start(command, streams=streams, env=environment, cwd=directory).wait(60)
    return code, (directory / "out").read_text(), (directory / "err").read_text()


@pytest.mark.parametrize("spelling", ["utf-8", "ascii"])
def test_it_has_a_setting_of_its_own_like_any_process(spelling: str, tmp_path: Path) -> None:
    given = {"GIVEN": "this", "PYTHONIOENCODING": spelling}
    warm, plain = (run(start, tmp_path, "-c", SHOW, "a", "b c", **given) for start in (Warm, cold))
    assert warm == plain
    seen = json.loads(warm[1])
    assert warm[0] == 7
    assert (seen["words"], seen["home"], seen["given"]) == (["-c", "a", "b c"], None, "this")
    assert (seen["threads"], seen["open"], seen["leads"]) == (1, [], True)


@each
def test_it_ends_as_python_ends(start: Start, tmp_path: Path) -> None:
    code, said, errors = run(start, tmp_path, "-c", "import atexit; atexit.register(print, 'last'); 1 / 0")
    assert (code, said) == (1, "last\n")
    assert errors.splitlines()[-1] == "ZeroDivisionError: division by zero"
    assert run(start, tmp_path, "-c", "import sys; sys.exit('why')") == (1, "", "why\n")
    assert run(start, tmp_path, "-m", "this")[0] == 0


@each
def test_ctrl_c_of_its_terminal_and_signals_reach_it(start: Start) -> None:
    near, far = pty.openpty()
    sleep = ["-c", "import time; print('sleeps'); time.sleep(60)"]
    running = start(sleep, streams=(far, far, far), env={}, has_terminal=True)
    os.close(far)
    assert os.read(near, 100) == b"sleeps\r\n"
    assert running.poll() is None
    os.write(near, b"\x03")
    with pytest.raises(OSError, match="Input/output error"):  # whoever had it open has closed it
        read_all(near)
    assert running.wait(60) == -signal.SIGINT
    os.close(near)
    for tell, number in (("terminate", signal.SIGTERM), ("kill", signal.SIGKILL)):
        running = start(sleep, streams=(0, 1, 2), env={})
        with pytest.raises(subprocess.TimeoutExpired):
            running.wait(0.01)
        getattr(running, tell)()
        assert running.wait(60) == -number
        getattr(running, tell)()


def test_what_nobody_wants_any_more_is_killed() -> None:
    read, write = os.pipe()
    left = Warm(["-c", "import time; time.sleep(60)"], streams=(0, write, write), env={})
    os.close(write)
    left._keeper.close()
    assert os.read(read, 1) == b""
    os.close(read)
