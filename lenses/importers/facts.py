"""What a pack must say of its lenses that their weights do not: the host, the site, how states are made.

Each fact has an origin: `given` by whoever imports, `pack_info.json`, `the tensors`, or `default`, which is said. What
nobody says and nothing shows is asked for, all of it at once. Knows nothing of files.
"""

from dataclasses import dataclass, fields
from typing import Any

from lenses.config import HostConfig, InputConfig
from lenses.errors import ConfigError

_ASKED = {
    "host_id": "--host-id ID, the model that the lenses were trained on",
    "site": "--site resid_post.N, the block whose output they read",
    "blocks": "--blocks N, how many decoder blocks that model has (num_hidden_layers)",
    "host_dtype": "--host-dtype bf16, what its states were computed in",
    "pooling": "--pooling token, mean, ema:A or ewm:A, how states were pooled over positions",
    "norm": "--norm none, rms or layer, how a state was normalised before the probes",
}
_EPS = {"none": 1e-6, "rms": 1e-6, "layer": 1e-5}
"""Of `layer` PyTorch's default, which a state dict does not hold."""


@dataclass(frozen=True, slots=True)
class Given:
    """What whoever imports says; None where they leave it to the source."""

    host_id: str | None = None
    host_revision: str | None = None
    host_dtype: str | None = None
    blocks: int | None = None
    site: str | None = None
    pooling: str | None = None
    norm: str | None = None
    eps: float | None = None
    base_levels: tuple[int, ...] | None = None
    licence: str | None = None


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that the pack says, and who said it."""

    name: str
    value: Any
    origin: str


class Facts:
    """The facts of one import as they are settled; the first to say one is believed."""

    def __init__(self, given: Given) -> None:
        self._facts: dict[str, Fact] = {}
        for item in fields(given):
            self.say(item.name, getattr(given, item.name), "given")

    def say(self, name: str, value: Any, origin: str) -> None:
        """Settle a fact, unless it is settled or `value` is None."""
        if value is not None:
            self._facts.setdefault(name, Fact(name, value, origin))

    def __getitem__(self, name: str) -> Any:
        return self._facts[name].value if name in self._facts else None

    def require(self, source: str, *names: str) -> None:
        """Raises ConfigError that names every fact of `names` that nobody said."""
        missing = [_ASKED[name] for name in names if name not in self._facts]
        if missing:
            raise ConfigError(f"{source} does not say it all; give {'; '.join(missing)}")

    def input(self) -> InputConfig:
        """How states are made, once norm and pooling are settled."""
        origin = "PyTorch's default, not in the files" if self["norm"] == "layer" else "default"
        self.say("eps", _EPS.get(self["norm"], 1e-6), origin)
        return InputConfig(self["norm"], self["eps"], self["pooling"])

    def host(self, hidden_size: int) -> HostConfig:
        """The host, once all of it is settled."""
        return HostConfig(
            self["host_id"], self["host_revision"], hidden_size, self["blocks"], self["host_dtype"]
        )

    def rows(self) -> list[Fact]:
        """All facts, in the order in which they are asked for."""
        order = [item.name for item in fields(Given)]
        return sorted(self._facts.values(), key=lambda fact: order.index(fact.name))
