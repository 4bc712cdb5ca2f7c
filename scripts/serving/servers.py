"""A server in a process of its own: started, waited for until it is ready, ended. Knows nothing of what it serves."""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx

from lenses.errors import ConfigError
from lenses.text import one_line

SCRIPTS = Path(__file__).parents[1]
START_S, END_S = 600.0, 30.0
_LOOK_S = 0.05
_URL = re.compile(rb"http://[0-9.\[\]:a-z]+")


@dataclass(frozen=True, slots=True)
class Running:
    """A server that is ready."""

    url: str
    pid: int


@contextmanager
def running(module: str, arguments: Sequence[str], *, ready: str | None = "/ready") -> Iterator[Running]:
    """Run a module of `scripts` that prints its url, until `ready` answers 200; end it behind.

    Raises ConfigError with the server's last line where it does not come up.
    """
    paths = [str(SCRIPTS.parent), str(SCRIPTS), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONUNBUFFERED": "1"}
    with tempfile.TemporaryFile() as said:
        process = start(["-m", module, *arguments], said, environment)
        try:
            url = _wait(process, said, ready)
            yield Running(url, process.pid)
        finally:
            process.terminate()
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def start(command: Sequence[str], said: IO[bytes], environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    """Start a Python that reads nothing and writes all to one file."""
    return subprocess.Popen(
        [sys.executable, *command],
        stdout=said,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        env=environment,
    )


def serving(pack: str, model: str | None, *options: str, add: Sequence[str] = ()) -> list[str]:
    """The command line of `serving.product` for a pack and its host, on a free port of the loopback."""
    added = [part for name in add for part in ("--add", name)]
    host = [] if model is None else ["--model", model]
    return [*added, "--pack", pack, *host, "--port", "0", "--device", "cpu", *options]


def _wait(process: "subprocess.Popen[bytes]", said: IO[bytes], ready: str | None) -> str:
    due_s = time.monotonic() + START_S
    while time.monotonic() < due_s:
        text = os.pread(said.fileno(), 1 << 16, 0)
        found = _URL.search(text)
        if process.poll() is not None:
            last = text.decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
            raise ConfigError(f"the server ended before it was ready: {one_line(last[0])}")
        if found is not None and (ready is None or _answers(found[0].decode() + ready)):
            return found[0].decode()
        time.sleep(_LOOK_S)
    raise ConfigError(f"the server was not ready after {START_S:g} s; try a smaller model")


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=START_S).status_code == 200
    except httpx.TransportError:
        return False
