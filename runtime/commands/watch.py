"""`phoropter watch`: let a model write, and show what lenses see."""

import sys
from contextlib import ExitStack, nullcontext
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
    check,
    lens_device,
    open_host,
    open_monitor,
    sampling,
)
from runtime.commands.record import recorded, run_path
from runtime.commands.showing import AlarmBudget, Html, Jsonl, Show, Track, show_run, trends

if TYPE_CHECKING:
    from runtime.alarms import Alarms
    from runtime.host import Host
    from runtime.monitor import Monitor
    from runtime.trend import Trend

DEFAULT_PROMPT = "The dog"


def watch(
    prompt: Annotated[str, typer.Argument(help="What the model goes on from.")] = DEFAULT_PROMPT,
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
    no_prewarm: Annotated[
        bool, typer.Option("--no-prewarm", help="Do not read ahead what the prompt will want.")
    ] = False,
    missing: Annotated[
        str,
        typer.Option(
            help="What to do where lenses are not in memory: strict waits for them; deferred goes on, shows the word "
            "without them, and once more when they came (in --jsonl with run.revision 1)."
        ),
    ] = "strict",
    read_every: Annotated[
        int,
        typer.Option(
            metavar="K",
            help="Score K generated tokens at a time: scores come in bursts, up to K - 1 tokens late, "
            "and so does whatever reacts to them.",
        ),
    ] = 1,
    hot_budget: HotBudget = "512MiB",
    warm_budget: WarmBudget = "2GiB",
    show: Show = 8,
    track: Track = None,
    rule: Rules = None,
    device: Device = None,
    alarm_budget: AlarmBudget = None,
    jsonl: Jsonl = None,
    html: Html = None,
    record: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Also record the run as a file in DIR, for phoropter replay and phoropter diff.",
        ),
    ] = None,
) -> None:
    """Let a model write, and see the concepts that are active inside it beside every word.

    On a terminal this is a live view; elsewhere, a line a token.

    \b
    Examples:
      phoropter watch
      phoropter watch "The dog" --max-new-tokens 24 --temperature 0
      phoropter watch "The dog" --track animal.n.01 --track artifact.n.01
      phoropter watch "The dog" --alarm-budget 5
      phoropter watch "The dog" --rule "animal.n.01 > 0.9 for 3 -> mark"
      phoropter watch "The dog" --jsonl out.jsonl | head
      phoropter watch "The dog" --html out.html
      phoropter watch "The dog" --record runs
    """
    from runtime.alarms import Alarms
    from runtime.config import MonitorConfig, parse_bytes, parse_levels
    from runtime.packs import choose_pack
    from runtime.rules import Rule

    generation = sampling(max_new_tokens, temperature, seed)
    check("show", show, 1)
    config = MonitorConfig(
        base_levels=None if base_levels is None else parse_levels(base_levels),
        top_k=top_k,
        load_threshold=load_threshold,
        max_level=max_level,
        exhaustive=exhaustive,
        prompt_events=prompt_events,  # type: ignore[arg-type]  # MonitorConfig says what it may be
        prewarm=not no_prewarm,
        missing=missing,  # type: ignore[arg-type]  # as above
        read_every=read_every,
        rules=tuple(map(Rule.parse, rule or [])),
        hot_budget_bytes=parse_bytes(hot_budget),
        warm_budget_bytes=parse_bytes(warm_budget),
        device=lens_device(device),
    )
    recording = None if record is None else run_path(record, prompt)
    where = choose_pack(pack, model)
    with ExitStack() as stack:
        with announced(f"loading {one_line(model or where)} ..."):
            monitor = stack.enter_context(open_monitor(where, config, device))
            tracked = trends(monitor.pack.hierarchy, track)
            alarms = None if alarm_budget is None else Alarms(monitor.pack, alarm_budget)
            host = open_host(monitor.pack, where, model, device)
        from runtime.host import quiet  # not above: what is wrong so far is said without waiting for torch

        for warning in monitor.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        stack.enter_context(quiet())
        _watch(monitor, host, prompt, show, tracked, alarms, jsonl, html, recording, generation)


def _watch(
    monitor: "Monitor",
    host: "Host",
    prompt: str,
    show: int,
    trends: "list[Trend]",
    alarms: "Alarms | None",
    jsonl: str | None,
    html: str | None,
    recording: Path | None,
    generation: dict[str, Any],
) -> None:
    """Generate, show and write."""
    from runtime.generate import encode
    from runtime.session import Session
    from runtime.transcript import Transcript

    limit = generation["max_new_tokens"]
    ids = encode(host.model, host.tokenizer, prompt, limit)["input_ids"][0].tolist()
    title = f"{host.id} · lenses {monitor.pack.name}"
    transcript, rules = Transcript(host.tokenizer, ids), monitor.config.rules
    session = Session(transcript, monitor.stats, title, limit, show, trends, rules=rules, alarms=alarms)
    sampled = f"temperature {generation.get('temperature', 0):g}, seed {generation['seed']}"
    facts = [("phoropter", installed_version("phoropter")), ("sampling", sampled)]
    events = monitor.stream(host.model, host.tokenizer, prompt, **generation)
    with nullcontext() if recording is None else recorded(monitor, host, recording):
        show_run(monitor, session, events, jsonl=jsonl, html=html, facts=facts)
