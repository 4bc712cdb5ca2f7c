"""Kills downloads of a lens pack at random moments: each leaves it absent or whole, and the next start mends the rest.

A hub on this machine serves a pack slowly to a process that fetches it and is killed (SIGKILL) at a random moment after
its first request. Looked at then: the snapshot is not there, or opens with every byte as it was. A second process then
fetches it, and there must be the pack and no debris.
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from lenses.hub_cache import HubCache
from lenses.pack import LensPack
from tests.hub_server import LocalHub, local_hub

ID = "local/pack"
_FETCH = "import sys; from lenses.hub import fetch; fetch(sys.argv[1])"
_SECONDS = 1.0
"""How long the bytes of the pack take to come, at the least; kills are drawn from twice that."""


def start_fetch(endpoint: str, home: Path, source: str = ID) -> subprocess.Popen[bytes]:
    """A process that fetches a pack from the hub at `endpoint` into the cache of an HF_HOME."""
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(home)}
    environment |= {
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    return subprocess.Popen([sys.executable, "-c", _FETCH, source], env=environment)


def kill_downloads(pack: Path, times: int, seed: int) -> Iterator[str]:
    """`absent` or `whole` for each download that was killed.

    Raises RuntimeError for anything between them, and for what the next start leaves lying about.
    """
    dice = random.Random(seed)
    identity = LensPack.from_pretrained(pack).identity
    size_bytes = sum(path.stat().st_size for path in pack.rglob("*") if path.is_file())
    with local_hub() as hub:
        commit = hub.add(ID, pack)
        for _ in range(times):
            home = Path(tempfile.mkdtemp(prefix="killed-"))
            try:
                hub.bytes_a_second = size_bytes / _SECONDS
                state = _kill(hub, home, commit, identity, dice.uniform(0, 2 * _SECONDS))
                hub.bytes_a_second = None
                if start_fetch(hub.endpoint, home).wait() != 0:
                    raise RuntimeError("the start after a kill could not fetch the pack")
                if _state(home, commit, identity) != "whole":
                    raise RuntimeError("the start after a kill left no pack")
                if debris := [str(path) for path in home.rglob("*") if _is_debris(path)]:
                    raise RuntimeError(f"the start after a kill left {', '.join(debris)}")
            finally:
                shutil.rmtree(home)
            yield state


def _kill(hub: LocalHub, home: Path, commit: str, identity: str, after_s: float) -> str:
    hub.asked.clear()
    child = start_fetch(hub.endpoint, home)
    while not hub.asked and child.poll() is None:
        time.sleep(0.01)
    time.sleep(after_s)
    child.kill()
    child.wait()
    return _state(home, commit, identity)


def _state(home: Path, commit: str, identity: str) -> str:
    cache = HubCache(home / "hub", ID)
    if not cache.snapshot(commit).exists():
        return "absent"
    if not cache.is_whole(commit):
        raise RuntimeError(f"{cache.snapshot(commit)} is seen in part")
    # A copy, since opening a directory sweeps beside it.
    with tempfile.TemporaryDirectory() as place:
        pack = LensPack.from_pretrained(shutil.copytree(cache.snapshot(commit), Path(place, "pack")))
        pack.verify()
    if pack.identity != identity:
        raise RuntimeError("another pack was opened than the one that is on the hub")
    return "whole"


def _is_debris(path: Path) -> bool:
    return (
        ".tmp" in path.name or path.name.endswith(".incomplete") or (path.is_symlink() and not path.exists())
    )
