"""A report as files: JSON, the page, its pictures. Knows nothing about what is in them."""

from collections.abc import Mapping
from pathlib import Path

from lenses.files import write_atomically


def picture_name(out: Path, name: str) -> str:
    """Where a picture of a report lies, as its page names it."""
    return f"pictures/{out.name}-{name}.svg"


def write_report(out: Path, *, json: str, page: str, pictures: Mapping[str, str] | None = None) -> list[Path]:
    """Write `out`.json, `out`.md and the pictures, by `picture_name`, beside them; returns their paths.

    Raises WriteError.
    """
    texts = {f"{out.name}.json": json, f"{out.name}.md": page, **(pictures or {})}
    for name, text in texts.items():
        (out.parent / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out.parent / name, text)
    return [out.parent / name for name in texts]
