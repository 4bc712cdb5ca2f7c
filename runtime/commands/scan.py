"""`phoropter scan`: the lenses over finished texts."""

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from stat import S_ISREG
from tempfile import TemporaryFile
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from lenses.errors import ConfigError, SourceError
from lenses.files import local_path
from lenses.text import one_line, quoted
from runtime.commands.options import (
    Device,
    HotBudget,
    Model,
    Pack,
    WarmBudget,
    lens_device,
    open_host,
    open_monitor,
)

if TYPE_CHECKING:
    from runtime.config import MonitorConfig
    from runtime.host import Host
    from runtime.monitor import Monitor
    from runtime.scan.aggregate import Aggregation
    from runtime.scan.scanner import Counts, Selection
    from runtime.scan.unfinished import Unfinished

_CHUNK_BYTES = 1 << 20


def scan(
    file: Annotated[str, typer.Argument(help='Texts, one a line: {"text", "id"}; - for standard input.')],
    out: Annotated[str, typer.Option(metavar="FILE", help="Rows of tokens and texts: .jsonl, or .parquet.")],
    model: Model = None,
    pack: Pack = None,
    track: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONCEPT",
            help="Tell of this concept alone, by its id, at every position; may be given again. Quicker: the others "
            "beyond the base are not scored.",
        ),
    ] = None,
    show: Annotated[
        str, typer.Option(metavar="K", help="Tell of the K strongest concepts, or of all that were scored.")
    ] = "8",
    aggregate: Annotated[
        str,
        typer.Option(
            help="How a text's positions become one number a concept: mean, max, or ema:0.9 (what counts is the end)."
        ),
    ] = "mean",
    rule: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RULE",
            help="CONCEPT > BOUND for POSITIONS -> mark: see phoropter watch --help; may be given again.",
        ),
    ] = None,
    exhaustive: Annotated[
        bool, typer.Option("--exhaustive", help="Score every lens at every token.")
    ] = False,
    hot_budget: HotBudget = "512MiB",
    warm_budget: WarmBudget = "2GiB",
    device: Device = None,
) -> None:
    """See which concepts are active in finished texts; nothing is generated.

    A row for every token and, behind them, one for every text, with what was found for each concept: the column "kind"
    says which. A line that holds no text has a row too, which says why. Interrupted, the same command goes on where it
    was; OUT appears when all is done.

    \b
    Examples:
      phoropter scan texts.jsonl --out found.jsonl
      phoropter scan texts.jsonl --out found.parquet --track animal.n.01 --aggregate max
      phoropter scan texts.jsonl --out found.jsonl --rule "animal.n.01 > 0.9 for 3 -> mark"
      cat texts.jsonl | phoropter scan - --out found.jsonl
    """
    from runtime.config import MonitorConfig, parse_bytes
    from runtime.packs import choose_pack
    from runtime.rules import Rule
    from runtime.scan.aggregate import Aggregation
    from runtime.scan.parquet import check_parquet
    from runtime.scan.scanner import Selection, scan_config

    suffix = Path(out).suffix
    if suffix not in (".jsonl", ".parquet"):
        raise ConfigError(f"--out {quoted(out)} ends in neither .jsonl nor .parquet; give one of these")
    if suffix == ".parquet":
        check_parquet()
    if show != "all" and not (show.isdecimal() and int(show)):
        raise ConfigError(f"show {quoted(show)} cannot be; give 1 or more, or all")
    selection = Selection(tuple(dict.fromkeys(track or [])), None if show == "all" else int(show))
    aggregation = Aggregation.parse(aggregate)
    config = scan_config(
        MonitorConfig(
            rules=tuple(map(Rule.parse, rule or [])),
            exhaustive=exhaustive,
            hot_budget_bytes=parse_bytes(hot_budget),
            warm_budget_bytes=parse_bytes(warm_budget),
            device=lens_device(device),
        ),
        selection,
    )
    where = choose_pack(pack, model)
    with _input(file) as texts:
        _scan(texts, out, where, model, config, device, selection, aggregation)


def _scan(
    texts: BinaryIO,
    out: str,
    where: str,
    model: str | None,
    config: "MonitorConfig",
    device: str | None,
    selection: "Selection",
    aggregation: "Aggregation",
) -> None:
    from runtime.host import quiet
    from runtime.scan.parquet import write_parquet
    from runtime.scan.unfinished import Unfinished

    with open_monitor(where, config, device) as monitor:
        for warning in monitor.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        host = open_host(monitor.pack, where, model, device)
        plan = _plan(texts, host, monitor.pack, config, selection, aggregation)
        with quiet(), Unfinished(out, plan) as unfinished, monitor.attach(host.model):
            try:
                said = _run(texts, monitor, host, unfinished, selection, aggregation)
            except KeyboardInterrupt:
                print("what is done is kept: type the same again to go on", file=sys.stderr)
                raise
            unfinished.finish(write_parquet if Path(out).suffix == ".parquet" else None)
    print(said)


def _run(
    texts: BinaryIO,
    monitor: "Monitor",
    host: "Host",
    unfinished: "Unfinished",
    selection: "Selection",
    aggregation: "Aggregation",
) -> str:
    """Scan what is left; returns what became of everything, in one line."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from runtime.scan.scanner import Counts, Scanner
    from runtime.scan.texts import windows

    scanner = Scanner(monitor, host, selection=selection, aggregation=aggregation)
    scanner.counts = Counts(**unfinished.done.counts)
    size_bytes = os.fstat(texts.fileno()).st_size
    before = scanner.counts.tokens
    if unfinished.done.input_bytes:
        print(f"going on after line {scanner.counts.lines:,}", file=sys.stderr)
    began_s = perf_counter()
    times = TimeElapsedColumn(), TimeRemainingColumn()
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), *times
    console = Console(stderr=True)
    bar = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
    start = unfinished.done.input_bytes
    with bar:
        task = bar.add_task("scanning", total=size_bytes, completed=start)
        for window in windows(texts, start_bytes=start, lines_before=scanner.counts.lines):
            rows = b"".join(scanner.scan(window.texts))
            unfinished.add(rows, input_bytes=window.end_bytes, counts=asdict(scanner.counts))
            tokens, spent_s = scanner.counts.tokens - before, perf_counter() - began_s
            pace = f"{scanner.counts.lines:,} lines, {tokens / spent_s:,.0f} tokens a second"
            bar.update(task, completed=window.end_bytes, description=pace)
    said = _said(scanner.counts)
    if tokens := scanner.counts.tokens - before:
        spent_s = perf_counter() - began_s
        share = monitor.stats().lens_ms / 1e3 / spent_s
        said += f"; {tokens / spent_s:,.0f} tokens a second, lenses {share:.0%} of the time"
    return said


def _said(counts: "Counts") -> str:
    parts = [f"{counts.lines:,} lines: {counts.ok:,} ok"]
    for count, what in (
        (counts.empty, "empty"),
        (counts.cut, "cut at the host's context"),
        (counts.bad_line, "no text"),
        (counts.not_finite, "positions not finite"),
        (counts.failed, "lenses failed"),
    ):
        if count:
            parts.append(f"{count:,} {what}")
    return f"{', '.join(parts)}; {counts.tokens:,} tokens read"


def _plan(
    texts: BinaryIO,
    host: "Host",
    pack: Any,
    config: "MonitorConfig",
    selection: "Selection",
    aggregation: "Aggregation",
) -> dict[str, object]:
    """What decides what the rows say: one who goes on has to have the same."""
    digest, size_bytes = hashlib.sha256(), 0
    texts.seek(0)
    while chunk := texts.read(_CHUNK_BYTES):
        digest.update(chunk)
        size_bytes += len(chunk)
    return {
        "input": digest.hexdigest(),
        "input_bytes": size_bytes,
        "pack": pack.identity,
        "host": f"{host.id} {host.model.dtype} {host.model.device.type}",
        "rule": [str(rule) for rule in config.rules],
        "exhaustive": config.exhaustive,
        "track": list(selection.track),
        "show": selection.show,
        "aggregate": str(aggregation),
    }


@contextmanager
def _input(file: str) -> Iterator[BinaryIO]:
    """The file of texts; what can be read once only is kept in a file meanwhile. Raises SourceError."""
    try:
        opened = sys.stdin.buffer if file == "-" else local_path(file).open("rb")
    except OSError as error:
        raise SourceError(
            f"cannot read {one_line(file)}: {one_line(error.strerror or error)}; give a file of JSON lines"
        ) from error
    with opened, TemporaryFile() as kept:
        if not S_ISREG(os.fstat(opened.fileno()).st_mode):
            while chunk := opened.read(_CHUNK_BYTES):
                kept.write(chunk)
            kept.flush()
        yield kept if kept.tell() or not opened.seekable() else opened
