"""One repository's place in the cache of a model hub on this disk: the layout that huggingface_hub keeps and documents.

    <cache>/models--owner--name/blobs/<etag>              a file's bytes, named by the hub's hash of them
                                blobs/<etag>.incomplete   the beginning of one, while it comes and after a kill
                                snapshots/<commit>/NAME   links to blobs
                                refs/<revision>           the commit that a branch or tag was last seen at
    <cache>/.locks/models--owner--name/phoropter.lock     held by the one process that fetches this repository

A blob is renamed into place when all its bytes are there and have their hash, and a snapshot when all its blobs are:
neither is ever seen in part. Knows nothing of the network.
"""

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from lenses.config import CONFIG, PackConfig
from lenses.errors import PackIntegrityError, WriteError
from lenses.files import atomic_directory, sweep, write_atomically, write_errors
from lenses.store import PackDirectory, file_sha256

_PARTIAL = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\.incomplete")
"""Ours; huggingface_hub's own have a random part in the middle, and may be in use."""


class HubCache:
    """The files of one repository of a hub that are on this disk."""

    def __init__(self, cache: Path, repo_id: str) -> None:
        self.root = cache.expanduser().absolute()
        name = f"models--{repo_id.replace('/', '--')}"
        self._folder = self.root / name
        self._lock = self.root / ".locks" / name / "phoropter.lock"

    @property
    def links_to(self) -> Path:
        """What links of a snapshot may lead to: the cache, or this repository where it is kept elsewhere by a link."""
        folder = Path(os.path.realpath(self._folder))
        return self.root if folder.is_relative_to(os.path.realpath(self.root)) else folder

    def commit_of(self, revision: str) -> str | None:
        """The commit that a revision was last seen at; a full commit is its own."""
        if is_commit(revision):
            return revision
        try:
            commit = (self._folder / "refs" / revision).read_text().strip()
        except (OSError, ValueError):
            return None
        return commit if is_commit(commit) else None

    def snapshot(self, commit: str) -> Path:
        """Where the files of a commit are, or would be."""
        return self._folder / "snapshots" / commit

    def is_whole(self, commit: str) -> bool:
        """Whether every file of the pack at this commit is here.

        Raises PackFormatError for a configuration that may not be.
        """
        path = self.snapshot(commit)
        if not os.path.lexists(path / CONFIG):
            return False
        directory = PackDirectory(path, self.links_to)
        try:
            config = PackConfig.from_bytes(directory.read(CONFIG), directory.source(CONFIG))
        except PackIntegrityError:  # a link to a blob that has gone
            return False
        return all((path / name).is_file() for name in config.sha256)

    def blob(self, etag: str) -> Path:
        """Where the bytes with this hash are, or would be."""
        return self._folder / "blobs" / etag

    def partial(self, etag: str) -> Path:
        """Where the bytes with this hash are while they come."""
        return self._folder / "blobs" / f"{etag}.incomplete"

    @contextmanager
    def fetching(self) -> Iterator[None]:
        """Hold the repository alone; another process that wants to fetch it waits.

        What killed ones left of snapshots is removed. Raises WriteError.
        """
        with write_errors(self._folder):
            for folder in (self._folder / "blobs", self._folder / "snapshots", self._lock.parent):
                folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            with suppress(OSError):  # where a file system has no locks, hashes still hold
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            self.sweep()
            yield
        finally:
            os.close(descriptor)

    def settle(self, commit: str, etags: Mapping[str, str]) -> None:
        """Make the snapshot of a commit out of blobs, by name; it is seen whole or not at all. Raises WriteError."""
        with atomic_directory(self.snapshot(commit)) as aside:
            for name, etag in etags.items():
                link = aside / name
                link.parent.mkdir(parents=True, exist_ok=True)
                blob = Path(os.path.realpath(self.blob(etag).parent)) / etag
                link.symlink_to(os.path.relpath(blob, os.path.realpath(link.parent)))
        with suppress(OSError):
            for path in self.blob("").iterdir():
                if _PARTIAL.fullmatch(path.name):
                    path.unlink()

    def remember(self, revision: str, commit: str) -> None:
        """Note the commit that a branch or tag is at. A cache that may only be read goes without."""
        if self.commit_of(revision) != commit:
            with suppress(WriteError, OSError):
                reference = self._folder / "refs" / revision
                reference.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(reference, commit)

    def sweep(self) -> None:
        """Remove what killed processes left of snapshots and references."""
        sweep(self._folder / "snapshots")
        sweep(self._folder / "refs")


def is_commit(revision: str) -> bool:
    """Whether this is the full hash of a commit, which never means anything else."""
    return re.fullmatch(r"[0-9a-f]{40}", revision) is not None


def hash_like(path: Path, expected: str) -> str:
    """The hash of a file's bytes that `expected` is one of, by its length: sha256, or git's. Raises OSError."""
    if len(expected) == 64:
        return file_sha256(path)
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
