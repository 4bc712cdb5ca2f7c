"""What a monitor can be told, checked where it is said."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lenses.errors import ConfigError
from runtime.rules import Rule

if TYPE_CHECKING:  # imports torch, which a configuration need not wait for
    from lenses.pack import LensPack

PromptEvents = Literal["full", "base", "off"]
Missing = Literal["strict", "deferred"]

_UNITS = {"": 1, "b": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


@dataclass(frozen=True, slots=True)
class MonitorConfig:
    """The configuration of a monitor. Everything here can change what is seen or what it costs; see each line."""

    base_levels: tuple[int, ...] | None = None
    """Levels whose families are scored at every position: 0..n. None: as the pack says."""
    top_k: int | None = None
    """Families opened a level at the most: the width of the expansion. None: as the pack says."""
    load_threshold: float | None = None
    """Calibrated probability from which a concept's family is opened. None: as the pack says."""
    max_level: int | None = None
    """The deepest level that is scored. None: the deepest there is."""
    exhaustive: bool = False
    """Score every lens at every position instead of expanding."""
    prompt_events: PromptEvents = "full"
    """Which positions of the prompt get events: all of them, with the base alone, or none."""
    prewarm: bool = True
    """Read the families that the prompt will want in overlapped batches before they are needed.

    These batches are waited for before the first word, whatever `missing` says: that is what they are for. What has no
    room in the tiers beside them is missing then. With `deferred` and no pre-warming the prompt waits for nothing.
    """
    missing: Missing = "strict"
    """What is done where a family is wanted that is not in memory. `strict`: wait for it; every event is complete.
    `deferred`: go on. The event is emitted at revision 0 with what is pending, and once more at revision 1, with the
    content that `strict` would have given, when the families came: at a later step, or when the sequence is over."""
    kept_budget_bytes: int = 32 * 2**20
    """Room for the states and scores of positions that wait for families (`deferred`); beyond it the oldest is waited
    for. A position takes four bytes for each of the host's dimensions, and eight for each concept scored."""
    read_every: int = 1
    """Score generated tokens in groups of this many: their rows stay where the host computed them until then, so there
    is one copy from the device and one scoring a group. Events are the same and come in bursts, up to
    `read_every` - 1 tokens late: whatever reacts to them (a view, a sink that stops or steers) is that late too. The
    prompt is not held back; the rest is scored when a sequence ends, when generation ends and at `Monitor.finish`."""
    rules: tuple[Rule, ...] = ()
    """What is looked for at every position, and what is done then: see `runtime.rules`."""
    always: tuple[str, ...] = ()
    """Concepts, by id, that are scored at every position that has an event, whether or not the walk comes to them: see
    `Event.asked`. The concepts of rules are among them unsaid. What else is scored stays the same."""
    hot_budget_bytes: int = 512 * 2**20
    """Room for families ready to score on the compute device, the base included."""
    warm_budget_bytes: int = 2 * 2**30
    """Room for families in host memory."""
    device: str = "cpu"
    """Where lenses are scored."""
    queue_events: int = 100_000
    """How many of the latest events `monitor.events` keeps."""

    def __post_init__(self) -> None:
        if self.base_levels is not None and (
            not self.base_levels or self.base_levels != tuple(range(len(self.base_levels)))
        ):
            raise ConfigError(
                f"base levels {','.join(map(str, self.base_levels)) or '(none)'} are no prefix of the levels; "
                "give 0, or 0,1, or 0,1,2 and so on"
            )
        if self.top_k is not None:
            _at_least("top-k", self.top_k, 1)
        if self.load_threshold is not None and not 0.0 <= self.load_threshold <= 1.0:
            raise ConfigError(f"load threshold {self.load_threshold} is no probability; give 0 to 1")
        if self.max_level is not None:
            _at_least("max level", self.max_level, 0)
        if self.prompt_events not in ("full", "base", "off"):
            raise ConfigError(
                f"prompt events {self.prompt_events!r} is not full, base or off; give one of these"
            )
        if self.missing not in ("strict", "deferred"):
            raise ConfigError(
                f"missing families {self.missing!r} is not strict or deferred; give one of these"
            )
        if not all(isinstance(rule, Rule) for rule in self.rules):
            raise ConfigError("rules are to be Rule objects; make them of texts with Rule.parse")
        _at_least("kept budget", self.kept_budget_bytes, 0)
        _at_least("read every", self.read_every, 1)
        _at_least("hot budget", self.hot_budget_bytes, 0)
        _at_least("warm budget", self.warm_budget_bytes, 0)
        _at_least("queue of events", self.queue_events, 1)

    def reach(self, pack: "LensPack") -> "Reach":
        """How far this walks down the pack's hierarchy; raises ConfigError for levels that it does not have."""
        base_levels = pack.config.base_levels if self.base_levels is None else self.base_levels
        deepest = pack.hierarchy.depth - 1
        if max(base_levels) > deepest:
            raise ConfigError(
                f"base level {max(base_levels)} does not exist: this pack has levels 0 to {deepest}; leave it out"
            )
        max_level = deepest if self.max_level is None else self.max_level
        if max_level < max(base_levels):
            raise ConfigError(
                f"max level {max_level} is above base level {max(base_levels)}; raise it or give fewer base levels"
            )
        return Reach(
            base_levels,
            pack.config.top_k if self.top_k is None else self.top_k,
            pack.config.load_threshold if self.load_threshold is None else self.load_threshold,
            max_level,
        )


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a monitor walks down one pack: what it was told, or else what the pack says."""

    base_levels: tuple[int, ...]
    top_k: int
    load_threshold: float
    max_level: int


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(f"{name} {value} is too small; give {least} or more")


def parse_bytes(text: str) -> int:
    """Bytes of a size as people write it: `512MiB`, `2GiB`, `1.5GB`, `4096`; raises ConfigError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmg]?i?)b?\s*", text.lower())
    if match is None or match.group(2) not in _UNITS:
        raise ConfigError(
            f"size {text!r} is not understood; give a number with a unit, such as 512MiB or 2GB"
        )
    return int(float(match.group(1)) * _UNITS[match.group(2)])


def parse_levels(text: str) -> tuple[int, ...]:
    """Levels of a list as people write it: `0,1`; raises ConfigError."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ConfigError(f"base levels {text!r} are not understood; give numbers with commas, such as 0,1")
    return tuple(int(part) for part in parts)
