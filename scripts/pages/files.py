"""A report on lenses as files: JSON, the page, its pictures."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from judging.verdicts import Record

from lenses.metrics import Estimate
from pages.lens_pictures import pictures
from pages.lens_report import markdown
from pages.report_files import picture_name, write_report


def plain(value: Any, digits: int = 4) -> Any:
    """The value as JSON has it: an estimate as [value, low, high], numbers to so many digits."""
    if isinstance(value, Estimate):
        return plain((value.value, value.low, value.high), digits)
    if isinstance(value, Mapping):
        return {key: plain(one, digits) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one, digits) for one in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def to_json(report: Record) -> str:
    """The report as JSON, a lens a line."""
    head = {name: value for name, value in report.items() if name != "lenses"}
    text = json.dumps(head, indent=1, ensure_ascii=False, allow_nan=False)
    lenses = ",\n".join(
        json.dumps(one, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        for one in report["lenses"]
    )
    return f'{text[:-2]},\n "lenses": [\n{lenses}\n]}}\n'


def write(report: Record, out: Path) -> list[Path]:
    """Write `out`.json, `out`.md and the pictures beside them; returns their paths."""
    drawn = {picture_name(out, name): svg for name, svg in pictures(report).items()}
    return write_report(out, json=to_json(report), page=markdown(report, sorted(drawn)), pictures=drawn)
