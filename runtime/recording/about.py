"""What a recording says of its run beside the run itself: host, site, pack, settings, versions, counters."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version as installed_version
from typing import Self

from lenses.pack import LensPack
from runtime.config import MonitorConfig
from runtime.monitor import MonitorStats
from runtime.plan import Setting


@dataclass(frozen=True, slots=True)
class RecordedHost:
    """The language model that was watched."""

    id: str
    revision: str | None
    """The commit of its hub repository, where it is known."""
    dtype: str
    """What its rows are, as torch spells it: `bfloat16`."""
    hidden_size: int
    """D"""
    bos_token: int | None
    eos_tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RecordedPack:
    """The lenses that scored."""

    name: str
    identity: str
    """sha256 of the canonical config.json, in hexadecimal."""
    source: str | None
    """`owner/name@commit` of a pack that came from a hub."""

    @classmethod
    def of(cls, pack: LensPack) -> Self:
        """What is said of a pack."""
        return cls(pack.name, pack.identity, pack.hub_source)


@dataclass(frozen=True, slots=True)
class Generation:
    """One `generate` of the run."""

    eos_ids: tuple[int, ...]
    pads: bool
    seed: int | None
    """What torch's generator of the host's device was seeded with; None where it had been drawn from since."""
    settings: Mapping[str, Setting]
    """What `generate` was told, as it resolved it."""


@dataclass(frozen=True, slots=True)
class About:
    """What is said of a run."""

    date: str
    """When it began, in UTC: `2026-07-24T15:30:12+00:00`."""
    ended: str | None
    """Why it ended before it was over; None where it did not."""
    site: str
    host: RecordedHost
    pack: RecordedPack
    versions: Mapping[str, str]
    """Of phoropter and the libraries that compute, by name."""
    config: MonitorConfig
    """A rule that calls a function is a rule that marks: functions cannot be written down."""
    stats: MonitorStats
    """The monitor's counters when the run was over."""
    generations: tuple[Generation, ...]

    @property
    def seed(self) -> int | None:
        """The seed of the first `generate`."""
        return self.generations[0].seed if self.generations else None


def recorded_config(config: MonitorConfig) -> MonitorConfig:
    """A configuration that can be written down."""
    rules = [
        replace(rule, action="mark", call=None) if rule.call is not None else rule for rule in config.rules
    ]
    return replace(config, rules=tuple(rules))


def versions() -> dict[str, str]:
    """What computes here."""
    return {name: installed_version(name) for name in ("phoropter", "torch", "transformers", "numpy")}
