"""A Python that has imported what the command imports: a program of a test is a fork of it, and begins at once.

A process that imports torch, transformers and the commands computes for seconds before it does anything. One for each
worker does so when the first program is wanted: it has one thread and a socket, and ends with the worker. A program is
a fork of it with words, an environment, a working directory, streams and a session of its own; it ends as any Python
does. Between the two stands a keeper, which tells how the program ended, and kills it when nobody wants it any more.

What begins here has found its imports already: tests of that start a real process.
"""

import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from fcntl import ioctl
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
IMPORTED = (
    "transformers.models.gemma3.modeling_gemma3",
    "typer._adapters",
    "runtime.cli",
    "runtime.display",
    "runtime.doctor",
    "runtime.host",
    "runtime.monitor",
    "runtime.packs",
    "runtime.page",
    "runtime.serve.app",
    "runtime.serve.server",
    "tests.slow_reads",
)
_MOST = 1 << 18
"""Bytes of a request."""


class Warm:
    """`python COMMAND`, forked: as much of `subprocess.Popen` as tests want."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        streams: tuple[int, int, int],
        env: Mapping[str, str],
        cwd: str | os.PathLike[str] = ".",
        has_terminal: bool = False,
    ) -> None:
        """Begin `-c CODE` or `-m MODULE`, and words; `streams` may be a terminal, which is then its own."""
        self.returncode: int | None = None
        request = {
            "command": list(command),
            "environment": dict(env),
            "directory": os.path.abspath(cwd),
            "has_terminal": has_terminal,
        }
        self._keeper, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with far:
            socket.send_fds(_warmed(), [json.dumps(request).encode()], [*streams, far.fileno()])
        self.pid = int(self._keeper.recv(_MOST))

    def poll(self) -> int | None:
        """The exit code, or none while it runs."""
        if self.returncode is None and select.select([self._keeper], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once there is one; raises TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self._keeper], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("a warm process", timeout or 0.0)
            self.returncode = int(self._keeper.recv(_MOST))
            self._keeper.close()
        return self.returncode

    def terminate(self) -> None:
        """Ask it to end."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def cold(
    command: Sequence[str],
    *,
    streams: tuple[int, int, int],
    env: Mapping[str, str],
    cwd: str | os.PathLike[str] = ".",
    has_terminal: bool = False,
) -> "subprocess.Popen[bytes]":
    """The same in a real process: what a warm one is held against."""

    def begin() -> None:
        # What a shell runs in the background ignores Ctrl-C, and so would all that it starts.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if has_terminal:
            ioctl(0, termios.TIOCSCTTY, 0)

    stdin, stdout, stderr = streams
    return subprocess.Popen(
        [sys.executable, *command],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=env,
        cwd=cwd,
        start_new_session=True,
        preexec_fn=begin,
    )


@cache
def _warmed() -> socket.socket:
    """The way to this process's warm one, which is started."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    paths = os.pathsep.join([str(ROOT), str(ROOT / "scripts")])
    with far:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.warm"],
            stdin=far.fileno(),
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": paths},
            start_new_session=True,
        )
    process.returncode = 0  # it ends when `near` is closed, with this process: nobody will have waited
    return near


def _serve(requests: socket.socket) -> None:
    """Import, then fork for each request until nobody is left to make one. Forks return from here to run."""
    for name in IMPORTED:
        import_module(name)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for keepers
    while True:
        told, descriptors, _, _ = socket.recv_fds(requests, _MOST, 4)
        if not told:
            sys.exit()
        if os.fork() == 0:
            break
        for descriptor in descriptors:
            os.close(descriptor)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    requests.close()
    *streams, wanted = descriptors
    if (pid := os.fork()) != 0:
        for stream in streams:
            os.close(stream)
        _keep(pid, socket.socket(fileno=wanted))
    os.close(wanted)
    _run(streams, **json.loads(told))


def _keep(pid: int, wanted: socket.socket) -> None:
    """Tell the program's number, and how it ended; kill it when the other side has gone."""
    wanted.send(str(pid).encode())
    ended = os.pidfd_open(pid)
    if ended not in select.select([ended, wanted.fileno()], [], [])[0]:
        os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        wanted.send(str(code).encode())
    finally:
        os._exit(0)


def _run(
    streams: list[int], command: list[str], environment: dict[str, str], directory: str, has_terminal: bool
) -> None:
    """Be that program."""
    os.setsid()
    for at, stream in enumerate(streams):
        os.dup2(stream, at)
    for stream in set(streams) - {0, 1, 2}:
        os.close(stream)
    if has_terminal:
        ioctl(0, termios.TIOCSCTTY, 0)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    spelling = environment.get("PYTHONIOENCODING") or "utf-8"
    at_once = bool(environment.get("PYTHONUNBUFFERED"))

    def opened(descriptor: int, mode: str, errors: str) -> Any:
        lines = os.isatty(descriptor) or at_once or descriptor == 2
        return open(descriptor, mode, 1 if lines else -1, spelling, errors, closefd=False)

    sys.stdin = sys.__stdin__ = opened(0, "r", "strict")  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = opened(1, "w", "strict")  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = opened(2, "w", "backslashreplace")  # type: ignore[misc]
    how, what, *words = command
    sys.argv = [how, *words]
    if how == "-c":
        exec(what, {"__name__": "__main__"})
    else:
        runpy.run_module(what, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _serve(socket.socket(fileno=0))
