"""A report as files: JSON, the page, its pictures. Knows nothing about what is in them."""

import json as codec
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lenses.files import write_atomically


def picture_name(out: Path, name: str) -> str:
    """Where a picture of a report lies, as its page names it."""
    return f"pictures/{out.name}-{name}.svg"


def json_text(report: Mapping[str, Any]) -> str:
    """A report of plain values (see `pages.files.plain`) as JSON."""
    return codec.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_report(out: Path, *, json: str, page: str, pictures: Mapping[str, str] | None = None) -> list[Path]:
    """Write `out`.json, `out`.md and the pictures, by `picture_name`, beside them; returns their paths.

    Raises WriteError.
    """
    texts = {f"{out.name}.json": json, f"{out.name}.md": page, **(pictures or {})}
    for name, text in texts.items():
        (out.parent / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out.parent / name, text)
    return [out.parent / name for name in texts]


def page_alone(markdown: Callable[[dict[str, Any]], str]) -> Callable[[dict[str, Any], Path], list[Path]]:
    """How a report without pictures is written, whose page is `markdown(report)`."""
    return lambda report, out: write_report(out, json=json_text(report), page=markdown(report))
