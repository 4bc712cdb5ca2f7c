"""This run beside the committed one: then, now, what changed, and whether that is more than noise.

Both are JSON as `bench.py` writes it. Times are never a failure here: machines differ. Knows names and numbers only.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measuring.tables import digits

from lenses.errors import SourceError
from lenses.text import one_line

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Line:
    """One ratio or counter, then and now; None where one of the runs has it not."""

    name: str
    then: float | None
    now: float | None
    noise: float
    """The larger noise of the two runs, as a share; 0 of a counter."""

    @property
    def change(self) -> float | None:
        """As a share of then."""
        return None if self.then is None or self.now is None or not self.then else self.now / self.then - 1

    @property
    def stands_out(self) -> bool:
        """Whether the change is beyond the noise."""
        return self.change is not None and abs(self.change) > self.noise


def read_committed(path: Path) -> Record | None:
    """The committed run; None where there is none. Raises SourceError for what is none."""
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise SourceError(f"{one_line(path)}: {one_line(error)}; write it anew with --update") from error
    if not isinstance(found, dict) or not {"ratios", "counters"} <= found.keys():
        raise SourceError(f"{one_line(path)}: no ratios and counters in it; write it anew with --update")
    return found


def compare(then: Mapping[str, Any] | None, now: Mapping[str, Any]) -> list[Line]:
    """Ratios first, then counters, in this run's order; what only the committed run has comes last."""
    then = then or {"ratios": {}, "counters": {}}
    lines = []
    for name in [*now["ratios"], *(then["ratios"].keys() - now["ratios"].keys())]:
        pair = then["ratios"].get(name), now["ratios"].get(name)
        before, after = (None if one is None else one["value"] for one in pair)
        lines.append(Line(name, before, after, max(one["noise"] for one in pair if one is not None)))
    for name in [*now["counters"], *(then["counters"].keys() - now["counters"].keys())]:
        lines.append(Line(name, then["counters"].get(name), now["counters"].get(name), 0.0))
    return lines


def format_lines(lines: Sequence[Line]) -> str:
    """A table for a terminal."""
    wide = max(len(line.name) for line in lines)
    head = f"{'':{wide}}  {'then':>9}  {'now':>9}  {'change':>8}  {'noise':>7}"
    return "\n".join([head, *(_format(line, wide) for line in lines)])


def _number(value: float | None) -> str:
    """A ratio to three digits, a counter as it is."""
    if value is None:
        return "—"
    return str(value) if isinstance(value, int) else digits(value)


def _format(line: Line, wide: int) -> str:
    then, now = (_number(value) for value in (line.then, line.now))
    change = "—" if line.change is None else f"{100 * line.change:+.1f} %"
    noise = f"± {100 * line.noise:.0f} %" if line.noise else ""
    mark = "  beyond noise" if line.stands_out and line.noise else "  changed" if line.stands_out else ""
    return f"{line.name:{wide}}  {then:>9}  {now:>9}  {change:>8}  {noise:>7}{mark}"
