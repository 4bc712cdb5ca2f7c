"""Brings a pack from a hub into its cache: config.json first, then what it names, each file checked before it is kept.

Knows the order and the hashes; `lenses.transfer` moves the bytes, `lenses.hub_cache` knows where they go. A file has
two hashes: the hub's own of its bytes, and the sha256 in config.json, which is the pack's word and counts.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from huggingface_hub.errors import EntryNotFoundError
from huggingface_hub.utils import tqdm

from lenses.config import CARD, CONFIG, PackConfig
from lenses.errors import PackIntegrityError, PackNotFound, WriteError
from lenses.hub_cache import HubCache, hash_like
from lenses.text import one_line, quoted
from lenses.transfer import RemoteFile, look_up, receive

_MAX_CONFIG_BYTES = 8_000_000


def bring(cache: HubCache, repo_id: str, described: RemoteFile) -> None:
    """Fetch what is missing of a pack whose config.json was looked up, check all of it, and make its snapshot.

    Raises as `lenses.transfer.look_up`, and PackNotFound, PackFormatError, PackIntegrityError, WriteError, OSError.
    """
    title = f"lens pack {quoted(repo_id)} at {described.commit[:12]}"
    if described.size_bytes > _MAX_CONFIG_BYTES:
        raise PackNotFound(f"{title} on the hub is no lens pack: its {CONFIG} is too large; check the name")
    with tqdm(unit="B", unit_scale=True, desc=f"Fetching {repo_id}", disable=None, leave=False) as bar:
        _bring(cache, described, described.etag, title, bar.update)
        raw = cache.blob(described.etag).read_bytes()
        config = PackConfig.from_bytes(raw, f"{title}: {CONFIG}")
        files = {CONFIG: described}
        for name in (CARD, *config.sha256):
            try:
                files[name] = look_up(repo_id, name, described.commit)
            except EntryNotFoundError as error:
                if name != CARD:
                    raise PackIntegrityError(
                        f"{title}: {name} is missing on the hub; tell its author, or give another revision"
                    ) from error
        _check_room(cache, files)
        bar.total = sum(file.size_bytes for file in files.values())
        for name, sha256 in config.sha256.items():
            etag = files[name].etag
            if len(etag) == 64 and etag != sha256:  # known before any byte has come
                raise _wrong_bytes(title, name, etag, sha256)
        for name in [name for name in files if name != CONFIG]:
            _bring(cache, files[name], config.sha256.get(name, files[name].etag), title, bar.update)
    cache.settle(described.commit, {name: file.etag for name, file in files.items()})


def _bring(
    cache: HubCache, file: RemoteFile, expected: str, title: str, progress: Callable[[int], None]
) -> None:
    """Make sure that the cache holds the bytes of a file, which have the hash `expected`."""
    blob, partial = cache.blob(file.etag), cache.partial(file.etag)
    if blob.is_file() and hash_like(blob, expected) == expected:
        progress(file.size_bytes)
        return
    with partial.open("ab+") as opened:
        begun = opened.seek(0, os.SEEK_END)
        progress(begun)
        receive(file, opened, progress)
        if begun and hash_like(partial, expected) != expected:
            # The beginning is of another time, and a disk may have lost some of it: that is not the hub's fault.
            progress(-opened.tell())
            opened.truncate(0)
            receive(file, opened, progress)
        os.fsync(opened.fileno())
    found = hash_like(partial, expected)
    if found != expected:
        partial.unlink()
        raise _wrong_bytes(title, file.name, found, expected)
    os.replace(partial, blob)


def _wrong_bytes(title: str, name: str, found: str, expected: str) -> PackIntegrityError:
    return PackIntegrityError(
        f"{title}: {name} has the hash {found[:12]}..., expected {expected[:12]}...: the bytes are not those that "
        "were written, and are not kept; fetch the pack again, and if that fails, tell its author"
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _check_room(cache: HubCache, files: dict[str, RemoteFile]) -> None:
    """Raises WriteError where what is missing will not fit on the disk."""
    missing = sum(
        file.size_bytes - _size(cache.partial(file.etag))
        for file in files.values()
        if not cache.blob(file.etag).exists()
    )
    free = shutil.disk_usage(cache.root).free
    if missing > free:
        raise WriteError(
            f"cannot write {one_line(cache.root)}: the pack needs {missing / 1e9:.1f} GB more and {free / 1e9:.1f} GB "
            "are free; free some space there, or set HF_HOME to another place"
        )
