"""The rows of the ledger: each says what it changes of the project's default, and how far its runs must agree with it.

The default: the prompt in one pass, every generated token read when it comes, lenses scored by the bank, all families
in memory, whoever lacks one waits, the host as it was loaded. Knows no times.
"""

from dataclasses import dataclass
from typing import Literal

Must = Literal["agree exactly", "agree nearly", "write the same"]
HostChange = Literal["fused QKV", "compiled"]

Settings = tuple[tuple[str, int | str], ...]


@dataclass(frozen=True, slots=True)
class Variant:
    """One row."""

    name: str
    changes: str
    """In a few words."""
    watched: bool = True
    by_token: bool = False
    """The prompt is fed token by token instead of in one pass."""
    banked: bool = True
    """Lenses are scored by the bank; else one module at a time."""
    int8: bool = False
    """The lenses of a second pack, whose first layers are int8."""
    little_memory: bool = False
    """Room for the base and a quarter of the rest, nothing warm."""
    settings: Settings = ()
    """Of `MonitorConfig`, by name."""
    host: tuple[HostChange, ...] = ()

    @property
    def must(self) -> Must:
        """How far its runs must agree with the default's."""
        if not self.watched or self.int8:
            return "write the same"
        return "agree nearly" if self.host or self.by_token or not self.banked else "agree exactly"


DEFAULT = Variant("default", "nothing")
AGAIN = Variant("default (again)", "nothing: the same once more, to show what a difference is worth")
_EVERY_4: Settings = (("read_every", 4),)

VARIANTS = (
    DEFAULT,
    AGAIN,
    Variant("lens off", "nobody watches", watched=False),
    Variant("prompt token by token", "the prompt is fed one token at a time", by_token=True),
    Variant("read every 4", "generated tokens are read and scored in fours", settings=_EVERY_4),
    Variant(
        "read every 16",
        "generated tokens are read and scored in sixteens",
        settings=(("read_every", 16),),
    ),
    Variant("one module at a time", "a module a lens, all in memory, instead of the bank", banked=False),
    Variant(
        "prompt token by token + one module at a time",
        "as systems begin: one token, one lens at a time",
        by_token=True,
        banked=False,
    ),
    Variant("fused QKV", "the host's queries, keys and values in one product", host=("fused QKV",)),
    Variant("compiled", "the host's blocks compiled", host=("compiled",)),
    Variant("int8", "first layers of the lenses in int8", int8=True),
    Variant("little memory", "a quarter of the families beyond the base has room", little_memory=True),
    Variant(
        "little memory + deferred",
        "and who lacks a family does not wait",
        little_memory=True,
        settings=(("missing", "deferred"),),
    ),
    Variant("fused QKV + read every 4", "both", host=("fused QKV",), settings=_EVERY_4),
    Variant("fused QKV + compiled", "both", host=("fused QKV", "compiled")),
    Variant("compiled + read every 4", "both", host=("compiled",), settings=_EVERY_4),
)
"""In the order of the report; the first is the baseline."""
