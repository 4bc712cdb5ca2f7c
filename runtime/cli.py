"""The command `phoropter`: reads options, calls the library, prints; the only file that knows exit codes.

0: done · 1: whoever read our output has gone; of `pack diff`, the packs differ · 2: `error: ...`, one line on standard
error that says what to do · 130: Ctrl-C. What is slow to import is imported where it is needed: `--help` does not wait
for torch.
"""

import errno
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lenses.errors import ConfigError, PhoropterError
from lenses.text import one_line
from runtime.commands import pack_making, pack_sharing, packs
from runtime.commands.scan import scan
from runtime.commands.train import train

if TYPE_CHECKING:
    from lenses.pack import LensPack
    from runtime.alarms import Alarms
    from runtime.config import MonitorConfig
    from runtime.display import LiveView, PlainView
    from runtime.host import Host
    from runtime.monitor import Monitor
    from runtime.session import Session
    from runtime.trend import Trend

DEFAULT_PROMPT = "The dog"

_UsageError = typer.BadParameter.__base__
"""What typer raises for arguments that it cannot take; it has no public name of its own."""

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="See which concepts are active inside a language model while it writes.",
)
pack_app = typer.Typer(
    help="Look at lens packs, and make them out of others: import, convert, subset, compare."
)
pack_making.register(pack_app)
app.add_typer(pack_app, name="pack")
packs.register(pack_app)
pack_sharing.register(pack_app)
app.command()(train)


app.command()(scan)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"phoropter {installed_version('phoropter')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def watch(
    prompt: Annotated[str, typer.Argument(help="What the model goes on from.")] = DEFAULT_PROMPT,
    model: Annotated[
        str | None, typer.Option(help="Host: a directory or a hub id. Default: the one that the pack is for.")
    ] = None,
    pack: Annotated[
        str | None,
        typer.Option(
            help="Lens pack: a directory, a name of `pack list`, or a hub id. Default: wordnet-mini."
        ),
    ] = None,
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
    hot_budget: Annotated[str, typer.Option(help="Memory for lenses ready to score.")] = "512MiB",
    warm_budget: Annotated[str, typer.Option(help="Memory for lenses kept beside them.")] = "2GiB",
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
    device: Annotated[
        str | None,
        typer.Option(
            help="cpu, cuda, cuda:1 and so on, or auto. Default: the best for the host, cpu for lenses."
        ),
    ] = None,
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

    _check("max new tokens", max_new_tokens, 1)
    _check("temperature", temperature, 0)
    _check("seed", seed, 0, 2**63 - 1)
    _check("show", show, 1)
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
        device="cpu" if device in (None, "auto") else device,
    )
    sampling = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
    where = choose_pack(pack, model)
    generation = {"max_new_tokens": max_new_tokens, "seed": seed, **sampling}
    with ExitStack() as stack:
        with _announced(f"loading {one_line(model or where)} ..."):
            monitor = stack.enter_context(_open_monitor(where, config, device))
            tracked = [Trend(monitor.pack.hierarchy, id) for id in track or []]
            trends = list(
                {trend.concept.id: trend for trend in tracked}.values()
            )  # one may have two spellings
            alarms = None if alarm_budget is None else Alarms(monitor.pack, alarm_budget)
            host = _load_host(monitor.pack, where, model, device)
        from runtime.host import quiet  # not above: what is wrong so far is said without waiting for torch

        for warning in monitor.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        stack.enter_context(quiet())
        _watch(monitor, host, prompt, show, trends, alarms, jsonl, html, generation)


@app.command()
def doctor(
    model: Annotated[
        str | None, typer.Option(help="Host: a directory or a hub id. Default: the one that the pack is for.")
    ] = None,
    pack: Annotated[
        str | None,
        typer.Option(
            help="Lens pack: a directory, a name of `pack list`, or a hub id. Default: wordnet-mini."
        ),
    ] = None,
    hot_budget: Annotated[str, typer.Option(help="Memory for lenses ready to score.")] = "512MiB",
    warm_budget: Annotated[str, typer.Option(help="Memory for lenses kept beside them.")] = "2GiB",
    device: Annotated[
        str | None,
        typer.Option(
            help="cpu, cuda, cuda:1 and so on, or auto. Default: the best for the host, cpu for lenses."
        ),
    ] = None,
) -> None:
    """Look whether watching works here: this machine, the model, the pack, and the three together.

    A line for each check: ok, warning or problem, what was found, and what to do. Exit code 2 if there is any problem.
    A model is never downloaded for this.

    \b
    Examples:
      phoropter doctor
      phoropter doctor --model google/gemma-3-4b-pt --pack PATH
      phoropter doctor --hot-budget 64MiB --warm-budget 0
    """
    from rich.console import Console

    from runtime.config import MonitorConfig, parse_bytes
    from runtime.display import print_findings
    from runtime.environment import Finding, examine_machine

    config = MonitorConfig(
        hot_budget_bytes=parse_bytes(hot_budget),
        warm_budget_bytes=parse_bytes(warm_budget),
        device="cpu" if device in (None, "auto") else device,
    )
    with _announced("looking at everything ..."):
        findings = list(examine_machine(Console(force_terminal=sys.stdout.isatty())))
        if any(finding.status == "problem" for finding in findings):
            findings.append(
                Finding("pack, host", "warning", "not looked at", "mend the above, then type this again")
            )
        else:
            from runtime.doctor import examine

            findings += examine(model=model, pack=pack, config=config, device=device)
    print_findings(findings)
    if any(finding.status == "problem" for finding in findings):
        raise typer.Exit(2)


@pack_app.command("list")
def list_packs() -> None:
    """List the lens packs that are here: in lens_packs/, and beside the installed package.

    \b
    Example:
      phoropter pack list
    """
    from runtime.display import print_table
    from runtime.packs import list_rows

    rows = list_rows()
    if not rows:
        print("no lens packs in lens_packs/; scripts/train_lenses.py trains one")
        return
    print_table(["pack", "host", "site", "concepts", "base levels", "size"], rows)


@pack_app.command("verify")
def verify_pack(
    pack: Annotated[str, typer.Argument(help="A directory, a name of `pack list`, or a hub id.")],
) -> None:
    """Check every byte of a lens pack against its hashes; exit code 2 and the first damage if there is any.

    \b
    Example:
      phoropter pack verify lens_packs/wordnet-mini
    """
    from lenses.pack import LensPack
    from runtime.packs import resolve_pack

    opened = LensPack.from_pretrained(resolve_pack(pack))
    opened.verify()
    config = opened.config
    print(
        f"ok: {one_line(opened.path)}: {config.concepts} lenses in {config.families} families, "
        f"{len(config.sha256)} files, all as they were written"
    )


def _open_monitor(where: str, config: "MonitorConfig", device: str | None) -> "Monitor":
    """Open the pack and make the monitor: damage and small budgets show before gigabytes of a host are read."""
    from lenses.pack import LensPack
    from runtime.host import check_device
    from runtime.monitor import Monitor

    pack = LensPack.from_pretrained(where)
    check_device(device)
    return Monitor(pack, config)


def _load_host(pack: "LensPack", where: str, model: str | None, device: str | None) -> "Host":
    """Load the host that was asked for, by default the one that the pack was made for."""
    from runtime.host import load_host
    from runtime.packs import host_of

    name, revision = host_of(pack, where, model)
    return load_host(name, revision=revision, device=device)


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


@contextmanager
def _announced(what: str) -> "Iterator[None]":
    """Say on a terminal what is going on, and wipe it when that is over."""
    if not sys.stdout.isatty():
        yield
        return
    print(what[: os.get_terminal_size(sys.stdout.fileno()).columns - 1], end="", flush=True)
    try:
        yield
    finally:
        print(f"\r{' ' * len(what)}\r", end="", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code. Errors of our own are printed, bugs are not caught."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a token may have no spelling in the terminal's encoding
            stream.reconfigure(errors="backslashreplace")
    logging.getLogger("stamina").setLevel(
        logging.ERROR
    )  # each attempt again is news to programs, not to people
    try:
        code = app(arguments, prog_name="phoropter", standalone_mode=False)
        sys.stdout.flush()
    except PhoropterError as error:
        return _fail(str(error))
    except _UsageError as error:  # type: ignore[misc]
        said = " ".join(error.format_message().split()).rstrip(".")
        return _fail(f"{said}; phoropter --help shows how")
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Python flushes standard output once more at exit; give it somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code if isinstance(code, int) else 0


def _check(name: str, value: float, least: int, most: int | None = None) -> None:
    """Raises ConfigError unless least <= value <= most; what is not a number is not in between either."""
    if not value >= least or (most is not None and value > most):
        raise ConfigError(
            f"{name} {value} cannot be; give {least} {'or more' if most is None else f'to {most}'}"
        )


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2
