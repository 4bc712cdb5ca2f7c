"""A lens pack on disk: opening it, reading families out of it, and making one.

It knows nothing about tiers, devices or models: a family is read when asked for and given away. Opening
checks all but the bytes of first layers (see `LensPack.from_pretrained`); those are checked when a family is
first read, because that is when they are wanted, and reading all of them at the start would cost the start.

A family is one contiguous read into memory that torch allocated (64-byte aligned, exactly as long as the
family). A memory map is slower when cold and cannot be counted in a budget.

Shapes: D hidden size, N concepts, h1 the width of the first layer, C columns of a first layer (D, or R of compact).
"""

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from lenses.card import format_card
from lenses.concept import Hierarchy
from lenses.config import (
    CARD,
    CONFIG,
    HEADS,
    HOST,
    HostConfig,
    InputConfig,
    LensConfig,
    PackConfig,
    StoredDtype,
)
from lenses.contents import StoredFamily, check_heads, read_contents, title
from lenses.errors import PackFormatError, PackIntegrityError
from lenses.files import PathLike, atomic_directory, local_path, sweep
from lenses.grade import UNMEASURED, grade
from lenses.hub import locate, upload
from lenses.lens import Heads, Lens
from lenses.quantise import dequantise_rows
from lenses.store import PackDirectory, ShortFile, advise_spans, byte_view, file_sha256, read_span
from lenses.text import one_line
from lenses.writer import TORCH_DTYPES, copy_host, host_names, refuse_to_replace, write_files

_GIB = 1 << 30
SHARD_BYTES = 128 << 20
"""Of one file of first layers where a pack is written out of another: the writer has one file in memory."""


class LensPack:
    """The trained lenses of one hierarchy for one host at one site; immutable, and safe to read from many
    threads.

    Open one with `LensPack.from_pretrained`, make one with `LensPack.create`.
    """

    def __init__(self, directory: PackDirectory, hub_source: str | None = None) -> None:
        contents = read_contents(directory)
        self._directory = directory
        self.hub_source = hub_source
        """`owner/name@commit` of a pack that came from a hub: `from_pretrained` opens the same bytes again with it."""
        self._stored = contents.stored
        self._checked = bytearray(len(contents.stored))  # a byte a family: threads may set it without a lock
        # Files stay open, so that a pack replaced on disk goes on being the pack that was opened.
        weakref.finalize(self, contents.opened.close).atexit = False
        self.config: PackConfig = contents.config
        self.hierarchy: Hierarchy = contents.hierarchy
        self.heads: Heads = contents.heads
        """All but the first layers, over canonical concept index."""
        self.identity: str = contents.config.identity
        """sha256 of the canonical config.json, in hexadecimal."""

    @classmethod
    def from_pretrained(cls, source: PathLike, *, revision: str | None = None) -> Self:
        """Opens the pack in a directory, or of a hub id such as `owner/name` or `owner/name@revision`.

        A pack of a hub is fetched unless it is cached, all its bytes are checked as they come, and it is seen whole or
        not at all; `hub_source` says what was opened. A revision that is a full commit hash opens just that.
        On opening, all is checked but the bytes of first layers: the configuration, the hierarchy, the heads with their
        hashes, and the header and exact size of every lens file. Raises PackNotFound, PackFormatError,
        PackIntegrityError, HierarchyError, ConfigError, and WriteError where what is fetched cannot be kept.
        """
        sweep(local_path(source).absolute().parent)
        found = locate(source, revision)
        return cls(PackDirectory(found.path, found.links_to), found.source)

    @cached_property
    def vouched_N(self) -> NDArray[np.bool_]:
        """[N] which lenses are calibrated and were measured. What others say is shown, marked, and never an alarm."""
        vouched_N: NDArray[np.bool_] = np.array([grade(c.metrics) != UNMEASURED for c in self.hierarchy])
        vouched_N &= self.heads.calibrated
        return vouched_N

    @classmethod
    def create(
        cls,
        directory: PathLike,
        *,
        host: HostConfig,
        site: str,
        input: InputConfig,
        lens: LensConfig,
        base_levels: Sequence[int],
        hierarchy: Hierarchy,
        first_layers: Sequence[torch.Tensor],
        heads: Heads,
        top_k: int = 10,
        load_threshold: float = 0.3,
        calibration_prior: float = 0.5,
        provenance: Mapping[str, Any] | None = None,
        licence: str = "apache-2.0",
        host_dir: PathLike | None = None,
        max_shard_bytes: int = 4 * _GIB,
        progress: Callable[[int], None] = lambda families: None,
    ) -> Self:
        """Writes a new pack as `directory`, whole or not at all, and opens it.

        `first_layers[f]` is family f's `[rows * h1, C]`, in any float dtype; it is stored in `lens.dtype`, and for
        int8 it is quantised here, which gives `heads.scale1`. Heads that come with `scale1` say that first layers are
        int8 already: those are stored as they are. Each item is asked for once, in order, and at most one file's are
        held, so the sequence may make them as it is asked. `progress(families)` is called after each, with how many
        are done.
        The files of `host_dir` travel with the pack. `lens.shards` is set from `max_shard_bytes`; a family
        never spans two files. Raises WriteError, and ConfigError, PackFormatError or PackIntegrityError for
        parts that do not fit each other.
        """
        target = local_path(directory)
        refuse_to_replace(target)
        hierarchy.base_families(base_levels)
        # Heads without scales are those of floats, whatever the floats will be stored as.
        given = replace(lens, dtype="fp32") if heads.scale1 is None else lens
        heads = Heads.from_tensors(heads.tensors(), given, host.hidden_size, len(hierarchy))
        check_heads(heads.tensors(), hierarchy, HEADS)
        with atomic_directory(target) as aside:
            lens = write_files(
                aside,
                hierarchy=hierarchy,
                first_layers=first_layers,
                heads=heads,
                lens=lens,
                hidden_size=host.hidden_size,
                max_shard_bytes=max_shard_bytes,
                progress=progress,
            )
            if host_dir is not None:
                copy_host(local_path(host_dir), aside / HOST)
            written = sorted(path for path in aside.rglob("*") if path.is_file())
            config = PackConfig(
                host=host,
                site=site,
                input=input,
                lens=lens,
                base_levels=tuple(base_levels),
                concepts=len(hierarchy),
                families=len(hierarchy.families),
                top_k=top_k,
                load_threshold=load_threshold,
                sha256={path.relative_to(aside).as_posix(): file_sha256(path) for path in written},
                calibration_prior=calibration_prior,
                provenance=dict(provenance or {}),
                licence=licence,
            )
            (aside / CONFIG).write_bytes(config.to_bytes())
            (aside / CARD).write_text(format_card(target.name, config, hierarchy), encoding="utf-8")
            cls(PackDirectory(aside))  # what cannot be opened is never seen under its name
        return cls.from_pretrained(target)

    def save_pretrained(self, directory: PathLike) -> Path:
        """Copies the pack to `directory` byte for byte, its card and host with it, whole or not at all.

        The copy has the same identity. Raises WriteError, and PackIntegrityError for a file that is not what
        it was.
        """
        target = local_path(directory)
        refuse_to_replace(target)
        with atomic_directory(target) as aside:
            for name, sha256 in self.config.sha256.items():
                self._directory.copy(name, aside / name, sha256)
            for name in self._plain_files():
                (aside / name).write_bytes(self._directory.read(name))
        return target

    def save_as(
        self,
        directory: PathLike,
        dtype: StoredDtype,
        *,
        told: Mapping[str, Any] | None = None,
        max_shard_bytes: int = SHARD_BYTES,
        progress: Callable[[int], None] = lambda families: None,
    ) -> Self:
        """Writes this pack as `directory` with its first layers stored as `dtype`, and opens it.

        Concepts with their metrics, heads with their calibration and the host are kept; they are not measured again.
        What the pack's provenance was is kept inside the new one's, since it tells of the lenses as they were; so is
        what is `told` of the change.
        Raises as `create` and `read_family`.
        """
        for name in self.config.host_files:
            self._directory.check(name, self.config.sha256[name])
        keeps_int8 = dtype == "int8" and self.config.lens.dtype == "int8"
        config = self.config
        return self.create(
            directory,
            host=config.host,
            site=config.site,
            input=config.input,
            lens=replace(config.lens, dtype=dtype),
            base_levels=config.base_levels,
            hierarchy=self.hierarchy,
            first_layers=FirstLayers(self, dequantise=not keeps_int8),
            heads=self.heads if keeps_int8 else replace(self.heads, scale1=None),
            top_k=config.top_k,
            load_threshold=config.load_threshold,
            calibration_prior=config.calibration_prior,
            provenance={
                "stored_from": self.identity,
                "dtype": dtype,
                **(told or {}),
                "provenance": dict(config.provenance),
            },
            licence=config.licence,
            host_dir=self.host_dir,
            max_shard_bytes=max_shard_bytes,
            progress=progress,
        )

    def push_to_hub(self, repo_id: str, *, private: bool = False) -> str:
        """Uploads the pack to the hub repository `repo_id`, made if needed, as one commit; returns its address.

        Every byte is checked first. Raises WriteError, and as `verify`.
        """
        self.verify()
        return upload(self.path, [*self._plain_files(), *self.config.sha256], repo_id, private=private)

    @property
    def path(self) -> Path:
        """The pack's directory."""
        return self._directory.path

    @property
    def name(self) -> str:
        """What people call the pack: the name of its directory, or `owner/name@` and the beginning of the commit."""
        if self.hub_source is None:
            return self.path.name
        hub_id, _, commit = self.hub_source.partition("@")
        return f"{hub_id}@{commit[:7]}"

    @property
    def host_dir(self) -> Path | None:
        """The directory of the host that travels with the pack; None where none does."""
        return self.path / HOST if self.config.host_files else None

    def family_bytes(self, family: int) -> int:
        """The bytes of the first layers of a family, as stored and as `read_family` allocates."""
        return self._stored[family].size_bytes

    def stored_family(self, family: int) -> StoredFamily:
        """Where the first layers of a family are on disk."""
        return self._stored[family]

    def expect(self, families: Iterable[int]) -> None:
        """Have the disk read ahead the first layers of families that will soon be read; waits for nothing."""
        advise_spans(
            (stored.descriptor, stored.start, stored.size_bytes)
            for stored in (self._stored[family] for family in families)
        )

    def read_family(self, family: int) -> torch.Tensor:
        """The first layers of a family, `[rows * h1, C]` in the stored dtype, in new memory on the CPU.

        The first read checks hash and finiteness. Raises PackIntegrityError naming the family.
        """
        tensor = self._read(family, check=not self._checked[family])
        self._checked[family] = 1
        return tensor

    def _read(self, family: int, *, check: bool) -> torch.Tensor:
        stored = self._stored[family]
        buffer = torch.empty(stored.size_bytes, dtype=torch.uint8, device="cpu")
        try:
            sha256 = read_span(stored.descriptor, stored.start, byte_view(buffer), hashed=check)
        except OSError as error:
            raise self._damaged(family, f"cannot be read ({one_line(error.strerror or error)})") from error
        except ShortFile as error:
            raise self._damaged(family, f"is truncated to {error.found} of {len(buffer)} bytes") from error
        if check:
            if sha256 != stored.sha256:
                raise self._damaged(family, "has not the bytes that were written (sha256 differs)")
            if not _is_finite(buffer, self.config.lens.dtype):
                raise self._damaged(family, "holds weights that are not finite")
        columns = self.config.lens.columns(self.config.host.hidden_size)
        return buffer.view(TORCH_DTYPES[self.config.lens.dtype]).view(-1, columns)

    def _damaged(self, family: int, found: str) -> PackIntegrityError:
        source = self._directory.source(self._stored[family].file)
        return PackIntegrityError(f"{source}: {title(self.hierarchy, family)} {found}; fetch the pack again")

    def lens(self, index: int) -> Lens:
        """The lens of one concept, its weights widened to fp32.

        Raises PackIntegrityError as `read_family`.
        """
        concept = self.hierarchy.concepts[index]
        h1 = self.config.lens.h1
        first_layer = self.read_family(concept.family)[concept.row * h1 : (concept.row + 1) * h1]
        return Lens.of(concept, first_layer, self.heads, index)

    def verify(self) -> None:
        """Checks every byte of every file and family.

        Raises PackIntegrityError or PackFormatError at the first damage.
        """
        for family in range(len(self._stored)):
            self._read(family, check=True)
        for name, sha256 in self.config.sha256.items():
            self._directory.check(name, sha256)
        if self.host_dir is not None:
            strangers = set(host_names(self.host_dir)) - {
                name.removeprefix(f"{HOST}/") for name in self.config.host_files
            }
            if strangers:
                raise PackFormatError(
                    f"{one_line(self.host_dir / min(strangers))}: a file that config.json does not list; "
                    "remove it"
                )

    def _plain_files(self) -> list[str]:
        """The files without a hash.

        The configuration, which holds the hashes, and the card, which is prose.
        """
        return [CONFIG, CARD] if (self.path / CARD).exists() else [CONFIG]

    def __repr__(self) -> str:
        config, where = self.config, self.hub_source or str(self.path)
        return f"LensPack({where!r}: {config.concepts} lenses for {config.host.id} at {config.site})"


class FirstLayers(Sequence[torch.Tensor]):
    """The first layers of a pack's families, each read when it is asked for."""

    def __init__(self, pack: LensPack, *, dequantise: bool) -> None:
        self._pack = pack
        self._dequantise = dequantise

    def __len__(self) -> int:
        return len(self._pack.hierarchy.families)

    def __getitem__(self, family: int) -> torch.Tensor:  # type: ignore[override]  # nobody slices it
        layer = self._pack.read_family(family)
        scale1 = self._pack.heads.scale1
        if scale1 is None or not self._dequantise:
            return layer
        first, rows = self._pack.hierarchy.families[family].first, self._pack.hierarchy.families[family].rows
        return dequantise_rows(layer, torch.from_numpy(scale1[first : first + rows]).view(-1))


def _is_finite(buffer: torch.Tensor, dtype: str) -> bool:
    """Whether no bf16 or fp32 number in these bytes has the exponent of NaN and infinity; int8 has no such numbers.

    In numpy and not in torch: readers are many threads, and each would start torch's own thread pool.
    """
    if dtype == "int8":
        return True
    bits, exponent = (np.uint16, 0x7F80) if dtype == "bf16" else (np.uint32, 0x7F800000)
    return not bool(np.any(np.bitwise_and(buffer.numpy().view(bits), bits(exponent)) == exponent))
