"""The rows of a scan as Parquet: the same values, in columns. The only user of pyarrow.

Columns are those of both kinds of rows (see `scanner`), empty where a row's kind has none; ids are strings. Knows
nothing about how rows come about.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lenses.errors import ExtraMissing

_ROWS = 20_000
"""Rows that are in memory at a time, and a row group of the file."""


def check_parquet() -> None:
    """Raise ExtraMissing without pyarrow."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise ExtraMissing(
            "pyarrow is not installed, which Parquet needs; type: pip install 'phoropter[parquet]', or give a file "
            "that ends in .jsonl"
        ) from error


def write_parquet(rows: Path, out: Path) -> None:
    """Write the rows of a file of JSON lines as Parquet."""
    import pyarrow as pa
    from pyarrow import parquet

    concept = pa.struct(
        [
            ("id", pa.string()),
            ("probability", pa.float32()),
            ("positions", pa.int32()),
            ("vouched", pa.bool_()),
        ]
    )
    rule = pa.struct(
        [
            ("rule", pa.string()),
            ("run", pa.int32()),
            ("probability", pa.float32()),
            ("positions", pa.int32()),
            ("first", pa.int32()),
        ]
    )
    columns = {
        **dict.fromkeys(("kind",), pa.string()),
        "line": pa.int64(),
        **dict.fromkeys(("id", "state", "problem", "text", "aggregate"), pa.string()),
        **dict.fromkeys(("position", "token", "expected", "failed"), pa.int32()),
        **dict.fromkeys(("tokens", "read", "scored", "not_finite"), pa.int32()),
        "concepts": pa.list_(concept),
        "rules": pa.list_(rule),
    }
    schema = pa.schema(list(columns.items()))
    with parquet.ParquetWriter(out, schema) as writer:
        for some in _batches(rows):
            writer.write_table(pa.Table.from_pylist(some, schema=schema))


def _batches(path: Path) -> Iterator[list[dict[str, Any]]]:
    with path.open("rb") as file:
        lines: list[dict[str, Any]] = []
        for raw in file:
            row = json.loads(raw)
            row["id"] = None if row["id"] is None else str(row["id"])
            lines.append(row)
            if len(lines) == _ROWS:
                yield lines
                lines = []
        if lines:
            yield lines
