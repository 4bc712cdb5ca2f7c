"""What a server says of its memory, read from its metrics as Prometheus would."""

from dataclasses import dataclass
from typing import Any

from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True, slots=True)
class Residence:
    """A host, a pack or an engine that is in memory."""

    name: str
    size_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"name": self.name, "size_bytes": self.size_bytes}


@dataclass(frozen=True, slots=True)
class Memory:
    """All of them, and what was done so far."""

    all: list[Residence]
    loads: int
    evictions: int


def residence(metrics: str) -> Memory:
    """What the text of GET /metrics says."""
    here: list[Residence] = []
    done: dict[str, int] = {}
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            if sample.name == "phoropter_resident_bytes":
                here.append(Residence(sample.labels["name"], int(sample.value)))
            elif sample.name == "phoropter_resident_wishes_total":
                done[sample.labels["outcome"]] = int(sample.value)
    return Memory(here, done["load"], done["eviction"])
