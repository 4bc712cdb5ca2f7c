"""Tables of a page in Markdown, and numbers as their cells. Knows nothing of what they mean."""

from collections.abc import Sequence
from typing import Any

from judging.verdicts import Record


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def number(value: Any) -> str:
    """A number, or one with its interval."""
    if value is None:
        return "unmeasured"
    if isinstance(value, list):
        return f"{value[0]:.3f} ({value[1]:.3f} to {value[2]:.3f})"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def spread(found: Record) -> tuple[str, ...]:
    """n, 10 %, median and 90 % as cells; single numbers, intervals are where thresholds are."""
    if not found["n"]:
        return ("0", "unmeasured", "unmeasured", "unmeasured")
    cells = [
        found[name][0] if isinstance(found[name], list) else found[name] for name in ("p10", "median", "p90")
    ]
    return (str(found["n"]), *(f"{cell:.3f}" for cell in cells))


def made_with(run: Record) -> list[tuple[str, str]]:
    """The rows of a page's head that say what a run was made with: code, machine, libraries."""
    return [
        ("commit", f"`{run['commit']}`"),
        ("hardware", ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in run["hardware"].items())),
        ("versions", ", ".join(f"{k} {v}" for k, v in run["versions"].items())),
    ]
