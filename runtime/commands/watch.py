"""`phoropter watch`: let a model write, and show what lenses see."""

import errno
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lenses.text import one_line
from runtime.commands.options import (
    Device,
    HotBudget,
    Model,
    Pack,
    WarmBudget,
    announced,
    check,
    lens_device,
    open_host,
    open_monitor,
)

if TYPE_CHECKING:
    from runtime.alarms import Alarms
    from runtime.display import LiveView, PlainView
    from runtime.host import Host
    from runtime.monitor import Monitor
    from runtime.session import Session
    from runtime.trend import Trend

DEFAULT_PROMPT = "The dog"


def watch(
    prompt: Annotated[str, typer.Argument(help="What the model goes on from.")] = DEFAULT_PROMPT,
    model: Model = None,
    pack: Pack = None,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens to generate at the most.")] = 40,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token each time.")] = 0.7,
    seed: Annotated[int, typer.Option(help="Makes sampling repeatable.")] = 0,
    base_levels: Annotated[
        str | None,
        typer.Option(help="Levels scored at every token: 0 or 0,1 and so on. Default: the pack's."),
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(help="Width of expansion: families opened a level at the most. Default: the pack's."),
    ] = None,
    load_threshold: Annotated[
        float | None,
        typer.Option(help="Probability from which a concept's children are scored. Default: the pack's."),
    ] = None,
    max_level: Annotated[int | None, typer.Option(help="Deepest level to score. Default: all.")] = None,
    exhaustive: Annotated[
        bool, typer.Option("--exhaustive", help="Score every lens at every token.")
    ] = False,
    prompt_events: Annotated[
        str, typer.Option(help="Prompt tokens that get events: full, base (base levels alone) or off.")
    ] = "full",
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
    show: Annotated[int, typer.Option(help="How many concepts are shown.")] = 8,
    track: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONCEPT",
            help="Show this concept always, by its id, with a trend line; may be given again. "
            "It does not change what is scored.",
        ),
    ] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RULE",
            help="CONCEPT > BOUND for POSITIONS -> mark, or stop to end there: where the concept's probability is "
            "above (or <, below) the bound for so many positions in a row; may be given again.",
        ),
    ] = None,
    device: Device = None,
    alarm_budget: Annotated[
        float | None,
        typer.Option(
            metavar="N",
            help="Mark alarms: concepts above thresholds such that over all lenses at most N alarms per 1,000 tokens "
            "are expected on texts that are of none of them. Lenses graded F or unmeasured never alarm.",
        ),
    ] = None,
    jsonl: Annotated[
        str | None, typer.Option(metavar="FILE", help="Also write every event to FILE, one a line.")
    ] = None,
    html: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Also write the run to FILE, as one page for a browser."),
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
    """
    from runtime.alarms import Alarms
    from runtime.config import MonitorConfig, parse_bytes, parse_levels
    from runtime.packs import choose_pack
    from runtime.rules import Rule
    from runtime.trend import Trend

    check("max new tokens", max_new_tokens, 1)
    check("temperature", temperature, 0)
    check("seed", seed, 0, 2**63 - 1)
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
    sampling = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
    where = choose_pack(pack, model)
    generation = {"max_new_tokens": max_new_tokens, "seed": seed, **sampling}
    with ExitStack() as stack:
        with announced(f"loading {one_line(model or where)} ..."):
            monitor = stack.enter_context(open_monitor(where, config, device))
            tracked = [Trend(monitor.pack.hierarchy, id) for id in track or []]
            trends = list(
                {trend.concept.id: trend for trend in tracked}.values()
            )  # one may have two spellings
            alarms = None if alarm_budget is None else Alarms(monitor.pack, alarm_budget)
            host = open_host(monitor.pack, where, model, device)
        from runtime.host import quiet  # not above: what is wrong so far is said without waiting for torch

        for warning in monitor.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        stack.enter_context(quiet())
        _watch(monitor, host, prompt, show, trends, alarms, jsonl, html, generation)


def _watch(
    monitor: "Monitor",
    host: "Host",
    prompt: str,
    show: int,
    trends: "list[Trend]",
    alarms: "Alarms | None",
    jsonl: str | None,
    html: str | None,
    generation: dict[str, Any],
) -> None:
    """Generate, show and write; leaves a whole file and a whole terminal behind whatever happens."""
    from runtime.generate import encode
    from runtime.session import Session
    from runtime.sink import JsonLines
    from runtime.transcript import Transcript

    limit = generation["max_new_tokens"]
    ids = encode(host.model, host.tokenizer, prompt, limit)["input_ids"][0].tolist()
    reader_gone = False
    with ExitStack() as stack:
        title = f"{host.id} · lenses {monitor.pack.name}"
        transcript, rules = Transcript(host.tokenizer, ids), monitor.config.rules
        session = Session(transcript, monitor.stats, title, limit, show, trends, rules=rules, alarms=alarms)
        monitor.subscribe(session.pace)
        if jsonl is not None:
            monitor.subscribe(stack.enter_context(JsonLines(jsonl, show=show, alarms=alarms)))
        if html is not None:
            stack.enter_context(_page_at_the_end(html, monitor, session, generation))
        # Closed before the file is: the host's thread writes to it until it has ended.
        events = monitor.stream(host.model, host.tokenizer, prompt, **generation)
        stack.enter_context(closing(events))
        try:
            with _view(session) as view:
                for event in events:
                    view.add(event)
        except BrokenPipeError:
            reader_gone = True  # no reason to lose the file
    if reader_gone:
        raise BrokenPipeError(errno.EPIPE, "the reader of the output has gone")


@contextmanager
def _page_at_the_end(
    path: str, monitor: "Monitor", session: "Session", generation: dict[str, Any]
) -> "Iterator[None]":
    """Write the page of the run when it is over, after Ctrl-C too; whether it can be written shows before."""
    from lenses.files import AtomicFile
    from runtime.page import format_page

    sampled = f"temperature {generation.get('temperature', 0):g}, seed {generation['seed']}"
    facts = [("phoropter", installed_version("phoropter")), ("sampling", sampled)]

    def page() -> str:
        return format_page(
            monitor,
            session.transcript,
            title=session.title,
            pace=session.pace,
            facts=facts,
            tracks=[trend.concept.id for trend in session.trends],
            alarms=session.alarms,
        )

    with AtomicFile(path) as file:
        try:
            yield
        except KeyboardInterrupt:
            file.write(page())
            raise
        file.write(page())


def _view(session: "Session") -> "LiveView | PlainView":
    from rich.console import Console

    from runtime.display import LiveView, PlainView

    console = Console(force_terminal=sys.stdout.isatty())
    draws = console.encoding.startswith("utf")  # frames and trend lines are not in ASCII
    if console.is_terminal and not console.is_dumb_terminal and draws:
        return LiveView(session, console)
    return PlainView(session, sys.stdout)
