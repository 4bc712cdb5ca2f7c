"""Families of a pack read as the cache reads them: from the disk, held against the disk, and out of the page cache."""

from collections.abc import Callable

import torch
from measuring.disk import DiskSpeed, evict
from measuring.floor import MemoryFloor
from measuring.rounds import Rounds, Variant, alternate

from guarding.ratios import Broken, Ratio, twice
from lenses.errors import SourceError
from lenses.pack import LensPack
from runtime.cache import FamilyCache

READERS = 4
WARM = "families out of the page cache: over the memory floor"
COLD = "families from the disk, first read: over the disk's own time"


def reading_ratios(
    pack: LensPack, *, rounds: int, between: Callable[[], object]
) -> tuple[list[Ratio], dict[str, str]]:
    """The ratios, and those that cannot be measured here with the reason. Raises Broken."""
    reader = _Reader(pack)
    disk = DiskSpeed(reader.path, reader.ranges, readers=READERS)
    try:
        with MemoryFloor() as floor:

            def before_a_round() -> None:
                floor.sample()
                between()

            warm = reader.time(WARM, reader.renew, rounds, before_a_round)
            found = [Ratio.over_ms(WARM, warm, WARM, floor.floor_ms(reader.size_bytes))]
        try:
            cold = reader.time(COLD, reader.renew_cold, rounds, disk.sample)
        except SourceError as error:
            return found, {COLD: str(error)}
        return [*found, Ratio.over_ms(COLD, cold, COLD, disk.own_ms)], {}
    finally:
        reader.close()


class _Reader:
    """Reads all families beyond the base through a cache that has none of them."""

    def __init__(self, pack: LensPack) -> None:
        self._pack = pack
        self._base = pack.hierarchy.base_families(pack.config.base_levels)
        self._families = [f.index for f in pack.hierarchy.families if f.index not in self._base]
        stored = [pack.stored_family(family) for family in self._families]
        self.path = pack.path / stored[0].file
        self.ranges = [(one.start, one.size_bytes) for one in stored]
        self.size_bytes = sum(one.size_bytes for one in stored)
        self._cache = self._new_cache(pack)

    def time(
        self, name: str, prepare: Callable[[], None], rounds: int, between: Callable[[], object]
    ) -> Rounds:
        """Time reading, an A/A pair."""
        variant = Variant(
            name, lambda: self._cache.prefetch(self._families), prepare, lambda _: self._check()
        )
        return alternate(twice([variant]), rounds=rounds, warm_up=1, between=between)

    def renew(self) -> None:
        """Have nothing in memory of what was read, the page cache aside."""
        self._renew(self._pack)

    def renew_cold(self) -> None:
        """Nor in the page cache, of a pack that has checked nothing yet; raises SourceError."""
        self._renew(LensPack.from_pretrained(self._pack.path))
        evict(self.path).check()

    def close(self) -> None:
        """End the readers."""
        self._cache.close()

    def _renew(self, pack: LensPack) -> None:
        self._cache.close()
        self._cache = self._new_cache(pack)

    def _new_cache(self, pack: LensPack) -> FamilyCache:
        families = pack.hierarchy.families
        return FamilyCache(
            pack,
            levels=[family.level for family in families],
            base=self._base,
            hot_budget_bytes=sum(pack.family_bytes(family.index) for family in families),
            warm_budget_bytes=0,
            device=torch.device("cpu"),
            readers=READERS,
        )

    def _check(self) -> None:
        found = self._cache.stats().bytes_read
        if found != self.size_bytes:
            raise Broken(f"counter bytes_read: {found} after reading {self.size_bytes} bytes of families")
