"""Running a program that makes a report: a bar while it works, its files at the end, one line for what is wrong."""

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.progress import Progress

from lenses.errors import PhoropterError
from runtime.display import progress_bars

Record = dict[str, Any]


def make_report(
    script: str,
    argv: Sequence[str] | None,
    arguments: Namespace,
    *,
    build: Callable[[Namespace, Sequence[str], Progress], Record],
    write: Callable[[Record, Path], Sequence[Path]],
    summary: Callable[[Record], object],
) -> int:
    """Build and write the report, then print its paths and its summary as JSON; the exit code, 2 for a user's error."""
    command = ["python", script, *(sys.argv[1:] if argv is None else argv)]
    try:
        with progress_bars() as progress:
            report = build(arguments, command, progress)
        paths = write(report, arguments.out)
    except PhoropterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if paths:
        print(f"wrote {', '.join(map(str, paths))}")
    print(json.dumps(summary(report)))
    return 0
