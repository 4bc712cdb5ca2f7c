"""What this machine brings: libraries, kernels, threads, memory, the hub's state, the terminal; a `Finding` for each.

Every check looks at one thing and asks nobody outside the machine. torch and what stands on it are imported by the
checks that need them, after the libraries were found to be there. Knows nothing about packs or hosts, or about how
findings are shown.
"""

from __future__ import annotations

import os
import platform
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from lenses.errors import PhoropterError
from lenses.text import one_line
from runtime.session import format_bytes

if TYPE_CHECKING:
    from rich.console import Console

Status = Literal["ok", "warning", "problem"]
"""ok: as it should be · warning: works, with a drawback · problem: watching will fail or cannot be trusted"""

FAITHFUL = 1e-5
"""How far fast scores may lie from the one-lens-at-a-time reference, as a share of the largest logit (at least 1)."""

_SHOWN = ("torch", "transformers", "numba", "numpy")


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    check: str
    status: Status
    found: str
    advice: str = ""
    """What to do; empty where nothing is to be done."""

    def __post_init__(self) -> None:
        assert bool(self.advice) == (self.status != "ok"), self


def refused(check: str, error: PhoropterError) -> Finding:
    """The problem that an error tells of: its message says what was found, and after `;` what to do."""
    found, _, advice = str(error).partition("; ")
    return Finding(check, "problem", found, advice or "see: phoropter --help")


def examine_machine(console: Console) -> Iterator[Finding]:
    """Look at everything here; ends after the libraries if they have a problem, since the rest stands on them."""
    libraries = check_libraries()
    yield libraries
    if libraries.status == "problem":
        return
    yield check_kernels()
    yield check_threads()
    yield check_hub()
    yield check_terminal(console)


def check_libraries(
    requirements: Iterable[str] | None = None, installed: Callable[[str], str] = metadata.version
) -> Finding:
    """Whether every library that this package requires is here, and recent enough.

    `requirements` are lines such as `torch>=2.11`, by default this package's own. numba may be missing: see
    `check_kernels`.
    """
    if requirements is None:
        try:
            requirements = metadata.requires("phoropter") or []
        except metadata.PackageNotFoundError:
            return Finding(
                "libraries",
                "warning",
                "phoropter runs without being installed, so nothing says which versions it needs",
                "install it: pip install .",
            )
    wrong, needed = [], []
    for line in requirements:
        match = re.fullmatch(r"([\w.-]+)>=([\d.]+)", line)
        if match is None:  # of an extra
            continue
        name, least = match.groups()
        try:
            found = installed(name)
        except metadata.PackageNotFoundError:
            if name == "numba":
                continue
            wrong.append(f"{name} is not installed")
        else:
            if _release(found) >= _release(least):
                continue
            wrong.append(f"{name} is {one_line(found)}, {least} or later is needed")
        needed.append(f"'{line}'")
    if wrong:
        return Finding("libraries", "problem", "; ".join(wrong), f"pip install {' '.join(needed)}")
    versions = [f"python {platform.python_version()}"]
    for name in _SHOWN:
        try:
            versions.append(f"{name} {one_line(installed(name))}")
        except metadata.PackageNotFoundError:
            versions.append(f"no {name}")
    return Finding("libraries", "ok", ", ".join(versions))


def _release(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with: (2, 13, 0) of `2.13.0+cpu`."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, match[0].split("."))) if match else ()


def check_kernels(load: Callable[[], Any] = lambda: import_module("lenses.kernels")) -> Finding:
    """Whether the CPU kernels compile here and compute what one lens after the other computes."""
    try:
        kernels = load()
    except ImportError:
        return Finding(
            "kernels", "warning", "numba is not installed: torch scores lenses, slower", "pip install numba"
        )
    except RuntimeError as error:  # numba found no directory to keep compiled kernels in
        return Finding(
            "kernels",
            "problem",
            f"numba cannot keep compiled kernels ({one_line(error)})",
            "set NUMBA_CACHE_DIR to a directory that can be written",
        )
    try:
        worst = _kernel_difference()
    except kernels.CompileError as error:
        first = str(error).strip().partition("\n")[0]
        return Finding(
            "kernels",
            "problem",
            f"the kernels do not compile ({one_line(first)})",
            "pip install --upgrade numba llvmlite; or pip uninstall numba, and torch scores lenses, slower",
        )
    if not worst <= FAITHFUL:
        return Finding(
            "kernels",
            "problem",
            f"kernels differ from the reference by {worst:.1g} of the largest logit, {FAITHFUL:.0e} is allowed",
            "pip uninstall numba, and torch scores lenses, slower; and please report this with the versions above",
        )
    return Finding("kernels", "ok", f"compiled, equal to the reference (largest difference {worst:.0e})")


def _kernel_difference() -> float:
    """The largest difference between bank and reference over every kind of lens and stored type, as a share of the
    largest logit; on small packs made for it."""
    import numpy as np
    import torch

    from lenses.bank import Bank
    from lenses.concept import Hierarchy
    from lenses.config import HostConfig, InputConfig, LensConfig, StoredDtype
    from lenses.lens import Heads
    from lenses.pack import LensPack

    rng = np.random.default_rng(0)
    count, hidden, positions = 5, 261, 4  # a width that is no multiple of any vector's
    hierarchy = Hierarchy.build((f"c{n}", f"c{n}", None) for n in range(count))
    states_PD = rng.normal(size=(positions, hidden)).astype(np.float32)
    worst = 0.0
    for kind, widths in (("mlp", (16, 8)), ("linear", ()), ("compact", (20, 16, 8))):
        for dtype in get_args(StoredDtype):
            shapes = Heads.shapes(LensConfig(kind, widths), hidden, count)  # type: ignore[arg-type]
            arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
            lens = LensConfig(kind, widths, dtype)  # type: ignore[arg-type]
            rows = rng.normal(size=(count * lens.h1, lens.columns(hidden))).astype(np.float32)
            with tempfile.TemporaryDirectory() as scratch:
                pack = LensPack.create(
                    Path(scratch) / "pack",
                    host=HostConfig("none", None, hidden, 1, "fp32"),
                    site="resid_post.0",
                    input=InputConfig(),
                    lens=lens,
                    base_levels=(0,),
                    hierarchy=hierarchy,
                    first_layers=[torch.from_numpy(rows)],
                    heads=Heads.from_tensors(arrays, LensConfig(kind, widths), hidden, count),  # type: ignore[arg-type]
                )
                bank = Bank(pack, [0])
                found_PN = bank.score_base(bank.inputs(states_PD))
                bank.close()
                lenses = [pack.lens(n) for n in range(count)]
            expected_PN = np.array([[one.logit(torch.from_numpy(s)) for one in lenses] for s in states_PD])
            scale = max(1.0, float(np.abs(expected_PN).max()))
            worst = float(np.maximum(worst, np.abs(found_PN - expected_PN).max() / scale))  # keeps NaN
    return worst


def check_threads(threads: int | None = None, cores: int | None = None) -> Finding:
    """Whether torch's threads, which score lenses too, have a core each."""
    if threads is None:
        import torch

        threads = torch.get_num_threads()
    if cores is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found = f"{threads} for {cores} cores"
    if threads > cores:
        return Finding(
            "threads",
            "warning",
            f"{found}: they wait for each other",
            f"set OMP_NUM_THREADS={cores}",
        )
    return Finding("threads", "ok", found)


def check_hub(state: Callable[[], tuple[bool, os.PathLike[str]]] | None = None) -> Finding:
    """Whether hosts and packs may be fetched by hub id; asks nobody."""
    if state is None:
        from runtime.host import hub_state

        state = hub_state
    may_ask, cache = state()
    where = f"kept in {one_line(os.fspath(cache))}"
    if may_ask:
        return Finding("hub", "ok", f"online: what is given by hub id is fetched, and {where}")
    return Finding("hub", "ok", f"offline by HF_HUB_OFFLINE: only what is {where} is found by hub id")


def free_memory_bytes() -> int:
    """Bytes of host memory that can be had without swapping."""
    import psutil  # accelerate requires it

    return int(psutil.virtual_memory().available)


def memory_bytes() -> int:
    """Bytes of host memory that this machine has."""
    import psutil

    return int(psutil.virtual_memory().total)


def check_memory(free_bytes: int, *, host_bytes: int, base_bytes: int, lens_bytes: int) -> Finding:
    """Whether host, base and, as they come, the other lenses fit into free memory.

    `base_bytes` are needed from the start; `lens_bytes` is the most that the lenses, base included, will ever take.
    """
    found = (
        f"{format_bytes(free_bytes)} free; host {format_bytes(host_bytes)}, lenses {format_bytes(base_bytes)} at "
        f"once, {format_bytes(lens_bytes)} at the most"
    )
    if host_bytes + base_bytes > free_bytes:
        return Finding(
            "memory",
            "problem",
            found,
            "close other programs, take a smaller host, or put it on an accelerator (--device)",
        )
    if host_bytes + lens_bytes > free_bytes:
        room = format_bytes(free_bytes - host_bytes)
        return Finding(
            "memory",
            "warning",
            found,
            f"give --hot-budget and --warm-budget that are {room} or less together",
        )
    return Finding("memory", "ok", found)


def check_terminal(console: Console) -> Finding:
    """What the live view can show here."""
    if not console.is_terminal or console.is_dumb_terminal:
        return Finding("terminal", "ok", "none for a live view: watch prints a line a token")
    wants = []
    if not console.encoding.lower().startswith("utf"):
        wants.append(
            (f"{console.encoding} has no bars and lines", "choose a UTF-8 locale, such as LANG=C.UTF-8")
        )
    if console.color_system is None or console.no_color:
        wants.append(("no colours, so words are not tinted", "unset NO_COLOR, set TERM=xterm-256color"))
    if console.width < _NARROW:
        wants.append((f"{console.width} columns cut paths short", f"make it {_NARROW} columns wide"))
    if wants:
        found, advice = ("; ".join(part) for part in zip(*wants, strict=True))
        return Finding("terminal", "warning", found, advice)
    colours = console.color_system
    return Finding("terminal", "ok", f"{console.width} columns, {colours} colours, {console.encoding}")


_NARROW = 60
