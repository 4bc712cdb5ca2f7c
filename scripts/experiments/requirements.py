"""What was asked for, held against what was found: a row each, met or not. Knows numbers only."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from measuring.tables import digits
from pages.tables import table


@dataclass(frozen=True, slots=True)
class Requirement:
    """One number that had to be small enough, or large enough."""

    what: str
    found: float
    unit: str = "x"
    most: float | None = None
    least: float | None = None

    @property
    def met(self) -> bool:
        """Whether it is."""
        return (self.most is None or self.found <= self.most) and (
            self.least is None or self.found >= self.least
        )

    def to_json(self) -> dict[str, object]:
        """As one JSON object."""
        return asdict(self) | {"met": self.met}


def requirements_table(found: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = []
    for one in found:
        wanted = f"at most {one['most']:g}" if one["most"] is not None else f"at least {one['least']:g}"
        lines.append(
            (
                one["what"],
                f"{wanted} {one['unit']}",
                f"{digits(one['found'])} {one['unit']}",
                "met" if one["met"] else "**not met**",
            )
        )
    return table(("what", "wanted", "found", ""), lines)
