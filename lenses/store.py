"""The files of one pack, opened by name and never outside it. The only user of safetensors.

It knows names, bytes and hashes, and nothing of what the files mean. A name may come from a stranger: `..`,
absolute names, links that lead out, pipes and devices are refused here, in one place.
"""

import hashlib
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lenses.config import check_file_name
from lenses.errors import ConfigError, PackFormatError, PackIntegrityError, WriteError
from lenses.text import one_line

if TYPE_CHECKING:
    import torch

_CHUNK_BYTES = 1 << 20
_PIECE_BYTES = 1 << 19
"""What is hashed while the next is read."""
_MOST_AT_ONCE = 1 << 30
"""One call reads less than 2 GiB."""
_hasher = ThreadPoolExecutor(1, thread_name_prefix="pack-hasher")


class PackDirectory:
    """A directory whose files are opened for reading, each checked to lie in it.

    `links_to` is a second directory that links may lead to: a hub cache keeps its files in one place and
    links to them.
    """

    def __init__(self, path: Path, links_to: Path | None = None) -> None:
        self.path = path
        self._roots = [Path(os.path.realpath(root)) for root in (path, links_to) if root is not None]

    def source(self, name: str) -> str:
        """How messages call the file `name`."""
        return one_line(self.path / name)

    def open(self, name: str) -> int:
        """A read-only descriptor of the regular file `name`; the caller closes it.

        Raises PackFormatError for a name or link that leads out of the pack, PackIntegrityError for a file
        that is missing, unreadable or not regular.
        """
        source = self.source(name)
        try:
            check_file_name("a file of the pack", name)
        except ConfigError as error:
            raise PackFormatError(f"{one_line(self.path)}: {error}") from error
        real = Path(os.path.realpath(self.path / name))
        if not any(real.is_relative_to(root) for root in self._roots):
            raise PackFormatError(
                f"{source}: a link that leads out of the pack, to {one_line(real)}; do not use this pack, or "
                "copy the file into it if you trust it"
            )
        try:
            # A pipe would block here without O_NONBLOCK, which regular files ignore.
            descriptor = os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError as error:
            raise PackIntegrityError(f"{source}: the file is missing; fetch the pack again") from error
        except OSError as error:
            raise _unreadable(source, error) from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise PackFormatError(f"{source}: not a regular file; fetch the pack again")
        return descriptor

    @contextmanager
    def opened(self, name: str) -> Iterator[int]:
        """`open(name)` for a `with`; reading errors inside become PackIntegrityError."""
        descriptor = self.open(name)
        try:
            yield descriptor
        except OSError as error:
            raise _unreadable(self.source(name), error) from error
        finally:
            os.close(descriptor)

    def read(self, name: str, *, sha256: str | None = None, most: int | None = None) -> bytes:
        """All bytes of `name`.

        Raises PackIntegrityError unless they have this hash and are at most `most` bytes.
        """
        with self.opened(name) as descriptor:
            size = os.fstat(descriptor).st_size
            if most is not None and size > most:
                raise PackFormatError(
                    f"{self.source(name)}: {size} bytes long, at most {most} are allowed; fetch the pack "
                    "again"
                )
            raw = b"".join(_chunks(descriptor))
        if sha256 is not None:
            self._compare(name, hashlib.sha256(raw).hexdigest(), sha256)
        return raw

    def read_array(self, name: str, *, sha256: str) -> NDArray[np.uint8]:
        """All bytes of `name` in memory that may be written to, held once; raises PackIntegrityError as `read`."""
        with self.opened(name) as descriptor:
            raw = np.empty(os.fstat(descriptor).st_size, np.uint8)
            try:
                found = read_span(descriptor, 0, memoryview(raw), hashed=True)  # type: ignore[arg-type]
            except ShortFile as error:
                raise PackIntegrityError(
                    f"{self.source(name)}: truncated to {error.found} of {len(raw)} bytes; fetch the pack again"
                ) from error
        self._compare(name, str(found), sha256)
        return raw

    def check(self, name: str, sha256: str) -> None:
        """Raises PackIntegrityError unless the file has this hash; reads all of it."""
        digest = hashlib.sha256()
        with self.opened(name) as descriptor:
            for chunk in _chunks(descriptor):
                digest.update(chunk)
        self._compare(name, digest.hexdigest(), sha256)

    def copy(self, name: str, target: Path, sha256: str) -> None:
        """Copies `name` to the path `target`, hashing on the way.

        Raises PackIntegrityError for a wrong hash.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor = self.open(name)
        try:
            with os.fdopen(descriptor, "rb", closefd=False) as read, target.open("xb") as written:
                shutil.copyfileobj(read, written, _CHUNK_BYTES)
        finally:
            os.close(descriptor)
        self._compare(name, file_sha256(target), sha256)

    def _compare(self, name: str, found: str, expected: str) -> None:
        if found != expected:
            raise PackIntegrityError(
                f"{self.source(name)}: sha256 is {found[:12]}..., expected {expected[:12]}...: the bytes are "
                "not those that were written; fetch the pack again"
            )


def save_tensors(tensors: "dict[str, torch.Tensor]", path: Path) -> None:
    """Writes a safetensors file, sorted by dtype and then name; raises WriteError."""
    from safetensors import SafetensorError  # here, because it imports torch, and listing packs need not wait
    from safetensors.torch import save_file

    try:
        save_file(tensors, path, metadata={"format": "pt"})
    except SafetensorError as error:
        raise WriteError(
            f"cannot write {one_line(path)}: {one_line(error)}; free some space or choose another place"
        ) from error


def read_tensors(path: Path) -> tuple[dict[str, NDArray[np.generic]], dict[str, str]]:
    """The tensors and the metadata of a safetensors file that is no pack's; raises ValueError, OSError."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(error) from error


def tensors_to_bytes(tensors: "Mapping[str, torch.Tensor]", metadata: Mapping[str, str]) -> bytes:
    """A safetensors file as bytes, for one that is written whole by `lenses.files`."""
    from safetensors.torch import save

    raw: bytes = save(dict(tensors), dict(metadata))
    return raw


def read_torch(path: Path) -> "tuple[dict[str, torch.Tensor], dict[str, str]]":
    """The tensors of any type, in memory of their own, and the metadata of a file that is no pack's.

    Raises ValueError, OSError.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            # Clones, because these are maps of the file: one that is cut short later would end the process.
            return {name: file.get_tensor(name).clone() for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(error) from error


class ShortFile(Exception):
    """A file ended before what was to be read; `found` bytes were there."""

    def __init__(self, found: int) -> None:
        super().__init__(found)
        self.found = found


def read_span(descriptor: int, start: int, into: memoryview, *, hashed: bool) -> str | None:
    """Reads a span of an open file into memory; returns its sha256 in hexadecimal if it is to be `hashed`.

    The kernel is told of the whole span first, so that the disk works while the first bytes are copied; and a thread
    hashes each piece while the next is read, since hashing is as slow as the disk. Raises ShortFile, OSError.
    """
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, start, len(into), os.POSIX_FADV_WILLNEED)
    digest = hashlib.sha256() if hashed else None
    beside = digest is not None and len(into) > _PIECE_BYTES
    hashing: Future[None] | None = None
    done = 0
    while done < len(into):
        piece = into[done : done + (_PIECE_BYTES if beside else _MOST_AT_ONCE)]
        read = os.preadv(descriptor, [piece], start + done)
        if not read:
            raise ShortFile(done)
        if digest is not None:
            if beside:
                hashing = _hasher.submit(digest.update, piece[:read])  # one thread, so in order
            else:
                digest.update(piece[:read])
        done += read
    if hashing is not None:
        hashing.result()
    return None if digest is None else digest.hexdigest()


def advise_spans(spans: Iterable[tuple[int, int, int]]) -> None:
    """Tell the kernel of `(descriptor, start, bytes)` that will be read, neighbours in one call; it may ignore it."""
    if not hasattr(os, "posix_fadvise"):
        return
    runs: list[list[int]] = []
    for descriptor, start, size_bytes in sorted(spans):
        if runs and runs[-1][0] == descriptor and start - runs[-1][2] < _PIECE_BYTES:
            runs[-1][2] = start + size_bytes
        else:
            runs.append([descriptor, start, start + size_bytes])
    for descriptor, start, stop in runs:
        os.posix_fadvise(descriptor, start, stop - start, os.POSIX_FADV_WILLNEED)


def byte_view(tensor: "torch.Tensor") -> memoryview:
    """The bytes of a CPU tensor `[bytes]` of uint8, to read and to write."""
    return memoryview(tensor.numpy())  # type: ignore[arg-type]  # numpy's stubs hide that arrays are buffers


def sha256_of(tensor: "torch.Tensor") -> str:
    """The sha256 of the bytes of a CPU tensor `[bytes]` of uint8, in hexadecimal."""
    return hashlib.sha256(byte_view(tensor)).hexdigest()


def file_sha256(path: Path) -> str:
    """The sha256 of a file in hexadecimal; raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _chunks(descriptor: int) -> Iterator[bytes]:
    while chunk := os.read(descriptor, _CHUNK_BYTES):
        yield chunk


def _unreadable(source: str, error: OSError) -> PackIntegrityError:
    return PackIntegrityError(
        f"{source}: cannot be read ({one_line(error.strerror or error)}); check the disk and the file's "
        "permissions"
    )
