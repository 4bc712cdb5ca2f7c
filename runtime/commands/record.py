"""`phoropter record`: let a model write, and keep what lenses see as one file."""

import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lenses.errors import WriteError
from lenses.text import one_line
from runtime.commands.options import (
    BaseLevels,
    Device,
    Exhaustive,
    HotBudget,
    LoadThreshold,
    MaxLevel,
    MaxNewTokens,
    Model,
    Pack,
    PromptEvents,
    Rules,
    Seed,
    Temperature,
    TopK,
    WarmBudget,
    announced,
    lens_device,
    open_host,
    open_monitor,
    sampling,
)

if TYPE_CHECKING:
    from runtime.host import Host
    from runtime.monitor import Monitor

_SLUG = 24


def record(
    prompts: Annotated[
        list[str],
        typer.Argument(metavar="PROMPT...", help="What the model goes on from; several are one batch."),
    ],
    out: Annotated[str, typer.Option(metavar="FILE", help="The recording: a safetensors file.")],
    model: Model = None,
    pack: Pack = None,
    max_new_tokens: MaxNewTokens = 40,
    temperature: Temperature = 0.7,
    seed: Seed = 0,
    base_levels: BaseLevels = None,
    top_k: TopK = None,
    load_threshold: LoadThreshold = None,
    max_level: MaxLevel = None,
    exhaustive: Exhaustive = False,
    prompt_events: PromptEvents = "full",
    rule: Rules = None,
    hot_budget: HotBudget = "512MiB",
    warm_budget: WarmBudget = "2GiB",
    device: Device = None,
) -> None:
    """Let a model write, and keep the run as one file: tokens, scores, and the rows that were scored.

    phoropter replay shows it again, without the model, and has other lenses score the rows; phoropter diff compares
    two. A run that is stopped by Ctrl-C or an error is kept up to there.

    \b
    Examples:
      phoropter record "The dog" --out dog.safetensors
      phoropter record "The dog" "A rose is" --out both.safetensors --max-new-tokens 24
      phoropter record "The dog" --out all.safetensors --exhaustive --seed 3
    """
    from runtime.config import MonitorConfig, parse_bytes, parse_levels
    from runtime.packs import choose_pack
    from runtime.rules import Rule

    generation = sampling(max_new_tokens, temperature, seed)
    config = MonitorConfig(
        base_levels=None if base_levels is None else parse_levels(base_levels),
        top_k=top_k,
        load_threshold=load_threshold,
        max_level=max_level,
        exhaustive=exhaustive,
        prompt_events=prompt_events,  # type: ignore[arg-type]  # MonitorConfig says what it may be
        rules=tuple(map(Rule.parse, rule or [])),
        hot_budget_bytes=parse_bytes(hot_budget),
        warm_budget_bytes=parse_bytes(warm_budget),
        device=lens_device(device),
    )
    where = choose_pack(pack, model)
    with ExitStack() as stack:
        with announced(f"loading {one_line(model or where)} ..."):
            monitor = stack.enter_context(open_monitor(where, config, device))
            host = open_host(monitor.pack, where, model, device)
        for warning in monitor.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        _record(monitor, host, prompts, Path(out), generation)


def _record(
    monitor: "Monitor", host: "Host", prompts: list[str], out: Path, generation: dict[str, Any]
) -> None:
    from runtime.generate import encode_all, seeded
    from runtime.host import quiet

    told = dict(generation)
    seed = told.pop("seed")
    inputs = encode_all(host.model, host.tokenizer, prompts, told["max_new_tokens"])
    with recorded(monitor, host, out), quiet(), seeded(host.model, seed), monitor.attach(host.model):
        host.model.generate(**inputs, **told)


def run_path(directory: str, prompt: str) -> Path:
    """Where to record a new run in a directory, which is made; raises WriteError."""
    from lenses.files import local_path, write_errors
    from runtime.recording.recording import SUFFIX

    shelf = local_path(directory)
    if shelf.exists() and not shelf.is_dir():
        raise WriteError(f"cannot record in {one_line(directory)}: it is a file; give a directory")
    with write_errors(shelf):
        shelf.mkdir(parents=True, exist_ok=True)
    slug = re.sub(r"[^a-z0-9]+", "-", prompt.lower())[:_SLUG].strip("-") or "run"
    name = f"{datetime.now().astimezone():%Y%m%d-%H%M%S}-{slug}"
    again = next(n for n in range(1, 10**6) if not (shelf / _numbered(name, n)).with_suffix(SUFFIX).exists())
    return (shelf / _numbered(name, again)).with_suffix(SUFFIX)


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}-{number}"


@contextmanager
def recorded(monitor: "Monitor", host: "Host", path: Path) -> Iterator[None]:
    """Record what the monitor sees while this lasts, and say on standard error where that is."""
    from runtime.recording.recorder import Recorder
    from runtime.session import format_bytes

    recorder = Recorder(monitor, host.model, host.tokenizer, path)
    try:
        with recorder:
            yield
    finally:
        if (made := recorder.made) is not None:
            until = f", up to its end by {made.about.ended}" if made.about.ended else ""
            size = format_bytes(recorder.path.stat().st_size)
            print(f"recorded {one_line(recorder.path)}: {made}, {size}{until}", file=sys.stderr)
