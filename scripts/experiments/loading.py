"""Ways to load the families that a walk wants, warm and cold, beside pickle-per-lens; each is checked by what it gave.

    page cache   the file is in memory, as the kernel keeps it: one copy
    cold         it is not: the disk must read. Held against the disk's own time for the same bytes

Families are spread over one file of the pack, none beside another, so that no way profits from what the disk reads
ahead of the last one.

Shapes: h1 the width of a first layer, C its columns.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from baseline.files import export_baseline, lens_path, load_module
from baseline.module import LensModule
from measuring.comparing import ratio
from measuring.disk import DiskSpeed, Range, evict
from measuring.floor import MemoryFloor
from measuring.rounds import Variant, alternate
from profiling.runs import Differs

from experiments.subject import beyond
from lenses.contents import read_contents
from lenses.errors import ConfigError
from lenses.lens import Lens
from lenses.pack import LensPack
from lenses.store import PackDirectory
from runtime.cache import FamilyCache

READERS = 4
"""As many as a family cache has."""

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Chosen:
    """The families that are loaded, and where they lie."""

    families: tuple[int, ...]
    lenses: tuple[int, ...]
    file: Path
    ranges: tuple[Range, ...]

    @property
    def size_bytes(self) -> int:
        """Of all their first layers."""
        return sum(length for _, length in self.ranges)


def choose(pack: LensPack, count: int, seed: int) -> Chosen:
    """So many families of the file that holds most of those beyond the base, in file order; raises ConfigError."""
    contents = read_contents(PackDirectory(pack.path))
    contents.opened.close()
    stored = contents.stored
    by_file: dict[str, list[int]] = {}
    for family in beyond(pack, pack.config.base_levels):
        by_file.setdefault(stored[family].file, []).append(family)
    file, there = max(by_file.items(), key=lambda item: len(item[1]))
    if count < 1 or len(there) < 2 * count:
        raise ConfigError(f"{count} families out of {len(there)} in {file}; give 1 to {len(there) // 2}")
    step = len(there) // count
    starts = np.random.default_rng(seed).integers(0, step - 1, count) + step * np.arange(count)
    families = tuple(there[at] for at in starts.tolist())
    found = [pack.hierarchy.families[family] for family in families]
    return Chosen(
        families,
        tuple(index for one in found for index in range(one.first, one.first + one.rows)),
        pack.path / file,
        tuple((stored[family].start, stored[family].size_bytes) for family in families),
    )


@dataclass(frozen=True, slots=True)
class Way:
    """One way to load all chosen families."""

    name: str
    cold: bool
    readers: int
    """How many threads read: the disk is measured with as many."""
    prepare: Callable[[], object]
    """Makes what is loaded from; its files are in the page cache, or dropped from it, afterwards."""
    run: Callable[[], object]
    check: Callable[[Any], object]


class Loader:
    """All ways over one choice of families; keeps what `prepare` made for `run`."""

    def __init__(self, pack: LensPack, chosen: Chosen, files: Path) -> None:
        self._pack, self._chosen, self._files = pack, chosen, files
        others = (f for f in beyond(pack, pack.config.base_levels) if f not in chosen.families)
        self._others = list(islice(others, READERS))
        export_baseline(pack, files, families=chosen.families)
        self._paths = [lens_path(files, index) for index in chosen.lenses]
        self._expected = [pack.read_family(family) for family in chosen.families]
        """So the bytes are checked, and reads that follow do not check them again."""
        self._lenses: list[Lens] = [pack.lens(index) for index in chosen.lenses]
        self._fresh = pack
        self._cache: FamilyCache | None = None

    def ways(self) -> Iterator[Way]:
        """Every way, page cache first."""
        for cold in (False, True):
            where = "cold" if cold else "page cache"
            opened, first_layers = partial(self._drop, cold), self._same_layers
            yield Way(f"{where}: a family at a time", cold, 1, opened, self._read, first_layers)
            yield Way(
                f"{where}: a family at a time, bytes checked",
                cold,
                1,
                partial(self._open_anew, cold),
                self._read_anew,
                first_layers,
            )
            yield Way(
                f"{where}: through the cache, when met",
                cold,
                1,
                partial(self._new_cache, cold),
                self._meet,
                self._cache_has_all,
            )
            yield Way(
                f"{where}: through the cache, overlapped",
                cold,
                READERS,
                partial(self._new_cache, cold),
                self._prefetch,
                self._cache_has_all,
            )
            yield Way(
                f"{where}: {PICKLE}",
                cold,
                1,
                partial(self._drop_pickles, cold),
                self._unpickle,
                self._same_modules,
            )
        yield Way("warm tier to hot", False, 1, self._all_warm, self._meet, self._cache_has_all)

    def control(self) -> None:
        """See that families in another order are not taken for these; raises Differs."""
        try:
            self._same_layers([*self._expected[1:], self._expected[0]])
        except Differs:
            return
        raise Differs("families in another order pass for these: nothing was compared")

    def close(self) -> None:
        """End the readers."""
        if self._cache is not None:
            self._cache.close()

    def _drop(self, cold: bool) -> None:
        if cold:
            evict(self._chosen.file).check()
        else:
            self._read()

    def _open_anew(self, cold: bool) -> None:
        self._fresh = LensPack.from_pretrained(self._pack.path)
        self._drop(cold)

    def _drop_pickles(self, cold: bool) -> None:
        for path in self._paths:
            if cold:
                evict(path).check()
            else:
                path.read_bytes()

    def _new_cache(self, cold: bool, *, warm: bool = False) -> None:
        self.close()
        sizes = [self._pack.family_bytes(family) for family in (*self._chosen.families, *self._others)]
        self._cache = FamilyCache(
            self._pack,
            levels=[family.level for family in self._pack.hierarchy.families],
            base=self._pack.hierarchy.base_families(self._pack.config.base_levels),
            hot_budget_bytes=self._base_bytes + (self._largest if warm else self._largest + sum(sizes)),
            warm_budget_bytes=self._largest + sum(sizes) if warm else 0,
            device=torch.device("cpu"),
            readers=READERS,
        )
        self._cache.prefetch(self._others)  # readers start with their first reads, which are none of these
        self._drop(cold)

    @property
    def _base_bytes(self) -> int:
        return sum(
            map(self._pack.family_bytes, self._pack.hierarchy.base_families(self._pack.config.base_levels))
        )

    @property
    def _largest(self) -> int:
        return max(map(self._pack.family_bytes, beyond(self._pack, self._pack.config.base_levels)))

    def _all_warm(self) -> None:
        """All in the warm tier but those that the smallest hot tier holds."""
        self._new_cache(cold=False, warm=True)
        assert self._cache is not None
        self._cache.prefetch(self._chosen.families)

    def _read(self) -> list[torch.Tensor]:
        return [self._pack.read_family(family) for family in self._chosen.families]

    def _read_anew(self) -> list[torch.Tensor]:
        return [self._fresh.read_family(family) for family in self._chosen.families]

    def _meet(self) -> None:
        assert self._cache is not None
        for _ in self._cache.groups(self._chosen.families, None, "generation"):
            pass

    def _prefetch(self) -> None:
        assert self._cache is not None
        self._cache.prefetch(self._chosen.families)

    def _unpickle(self) -> list[LensModule]:
        return [load_module(self._pack, self._files, index) for index in self._chosen.lenses]

    def _same_layers(self, found: Sequence[torch.Tensor]) -> None:
        for family, tensor, expected in zip(self._chosen.families, found, self._expected, strict=True):
            if not torch.equal(tensor, expected):
                raise Differs(f"family {family}: other bytes than the pack's")

    def _cache_has_all(self, _: object) -> None:
        assert self._cache is not None
        reads = self._cache.stats().reads
        expected = len(self._chosen.families) + len(self._others)
        if reads != expected:
            raise Differs(f"{reads} families were read, expected {expected}")
        found: dict[int, torch.Tensor] = {}
        for group in self._cache.groups(self._chosen.families, None, "generation"):
            found |= group.resident
        self._same_layers([found[family] for family in self._chosen.families])

    def _same_modules(self, found: Sequence[LensModule]) -> None:
        for index, module, lens in zip(self._chosen.lenses, found, self._lenses, strict=True):
            if not torch.equal(module.net[0].weight, lens.weight1):  # type: ignore[arg-type]
                raise Differs(f"lens {index}: other weights than the pack's")


PICKLE = "a pickle a lens (the baseline)"


def measure(
    pack: LensPack,
    chosen: Chosen,
    files: Path,
    *,
    rounds: int,
    seed: int,
    floor: MemoryFloor,
    between: Callable[[], object],
) -> Record:
    """All ways in turns, with the disk's own speed and the memory floor read between the rounds."""
    speeds = {readers: DiskSpeed(chosen.file, chosen.ranges, readers=readers) for readers in (1, READERS)}
    loader = Loader(pack, chosen, files)
    try:
        loader.control()
        ways = {way.name: way for way in loader.ways()}
        variants = [Variant(way.name, way.run, prepare=way.prepare, check=way.check) for way in ways.values()]
        again = next(way for way in ways.values() if way.cold)
        variants.append(next(one for one in variants if one.name == again.name).again())

        def each_round() -> None:
            floor.sample()
            for speed in speeds.values():
                speed.sample()
            between()

        found = alternate(variants, rounds=rounds, warm_up=1, seed=seed, between=each_round)
    finally:
        loader.close()
    rows = []
    for variant in variants:
        way = ways.get(variant.name, again)
        where = "cold" if way.cold else "page cache"
        against = found[f"{where}: {PICKLE}"]
        estimate = ratio(found[variant.name], against)
        own_ms = speeds[way.readers].own_ms if way.cold else floor.floor_ms(chosen.size_bytes)
        summary = found.summary(variant.name)
        rows.append(
            {
                "name": variant.name,
                "cold": way.cold,
                "ms": summary.to_json(),
                "lens_ms": summary.median / len(chosen.lenses),
                "family_ms": summary.median / len(chosen.families),
                "floor_ms": own_ms,
                "floor": f"disk, {way.readers} readers" if way.cold else "memory",
                "ratio": [estimate.value, estimate.low, estimate.high],
            }
        )
    return {
        "rows": rows,
        "disk": {str(readers): speed.to_json() for readers, speed in speeds.items()},
        "families": len(chosen.families),
        "lenses": len(chosen.lenses),
        "size_bytes": chosen.size_bytes,
    }
