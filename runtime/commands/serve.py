"""`phoropter serve`: a model over HTTP, and what lenses see in it."""

import logging
import sys
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from lenses.errors import ConfigError, ExtraMissing
from lenses.files import local_path
from lenses.text import one_line, quoted
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
)

if TYPE_CHECKING:
    from lenses.pack import LensPack
    from runtime.host import Host

CONTEXT = 2048
"""Tokens of a sequence where nobody says, if the host has as many."""
FAR_RATE = 600.0
"""Requests a minute of one address where nobody says and others than this machine may ask."""


def serve(
    model: Model = None,
    pack: Pack = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at; other than the loopback, it takes a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one, and says which.")] = 8000,
    token_file: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Clients must bear the token in FILE, on all routes but /health."),
    ] = None,
    max_sequences: Annotated[
        int, typer.Option(help="Generations and sessions that are in memory side by side.")
    ] = 32,
    max_context: Annotated[
        int | None,
        typer.Option(help=f"Tokens of a sequence. Default: {CONTEXT}, or all that the host has."),
    ] = None,
    kv_memory: Annotated[str, typer.Option(help="Memory for keys and values of all of them.")] = "4GiB",
    max_waiting: Annotated[
        int, typer.Option(help="Requests that may wait to begin; more are refused.")
    ] = 256,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens that one request may ask for.")] = 1024,
    max_prompt_tokens: Annotated[
        int | None, typer.Option(help="Tokens of one prompt. Default: what the context holds.")
    ] = None,
    max_body: Annotated[str, typer.Option(help="Bytes of one request.")] = "16MiB",
    max_sessions: Annotated[int, typer.Option(help="Sessions that may be open.")] = 256,
    session_lease: Annotated[
        float, typer.Option(help="Seconds without a turn after which a session is over.")
    ] = 600.0,
    session_memory: Annotated[str, typer.Option(help="Memory for sessions that sleep.")] = "1GiB",
    rate: Annotated[
        float | None,
        typer.Option(
            metavar="N",
            help=f"Requests a minute of one address. Default: {FAR_RATE:g}, and any number on the loopback.",
        ),
    ] = None,
    stall: Annotated[
        float, typer.Option(help="Seconds without a step after which /health says 503, while there is work.")
    ] = 30.0,
    log_prompts: Annotated[
        bool, typer.Option("--log-prompts", help="Write prompts to the log, which are never there otherwise.")
    ] = False,
    exhaustive: Annotated[
        bool, typer.Option("--exhaustive", help="Score every lens at every token that somebody watches.")
    ] = False,
    hot_budget: HotBudget = "512MiB",
    warm_budget: WarmBudget = "2GiB",
    also: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PACK",
            help="Serve this pack with its own host too, loaded when a request names it; may be given again.",
        ),
    ] = None,
    pin: Annotated[
        list[str] | None,
        typer.Option(metavar="PACK", help="As --also, loaded at the start and kept; may be given again."),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            help="For hosts, packs and engines at their largest; what nobody uses gives way. Default: 9/10 of the "
            "machine's."
        ),
    ] = None,
    device: Device = None,
) -> None:
    """Serve a model with OpenAI's API, and tell clients who ask for it what lenses see.

    Ends at Ctrl-C or SIGTERM, when what is generated is finished or ten seconds have passed.

    \b
    Examples:
      phoropter serve
      phoropter serve --model google/gemma-3-4b-pt --pack PATH --port 0
      phoropter serve --host 0.0.0.0 --token-file token.txt
      phoropter serve --also lens_packs/OTHER --memory 12GiB
      curl localhost:8000/v1/completions -H 'content-type: application/json' \\
        -d '{"prompt": "The dog", "lenses": {"show": 3}}'
    """
    from runtime.config import MonitorConfig, parse_bytes

    check("port", port, 0, 65535)
    _check_extra()
    from runtime.serve.config import ServeConfig
    from runtime.serve.limits import Limits
    from runtime.serve.server import Server, bind, is_loopback

    token = None if token_file is None else read_token(token_file)
    is_far = not is_loopback(host)
    if is_far and token is None:
        raise ConfigError(
            f"host {quoted(host)} is not the loopback, so whoever reaches it could ask; give --token-file FILE with a "
            "token in it, or leave --host out"
        )
    limits = Limits(
        body_bytes=parse_bytes(max_body),
        prompt_tokens=1 << 20 if max_prompt_tokens is None else max_prompt_tokens,
        new_tokens=max_new_tokens,
        rate_per_minute=FAR_RATE if rate is None and is_far else rate,
        stall_s=stall,
    )
    monitor = MonitorConfig(
        exhaustive=exhaustive,
        hot_budget_bytes=parse_bytes(hot_budget),
        warm_budget_bytes=parse_bytes(warm_budget),
        device=lens_device(device),
    )
    # What can be wrong so far, and whether the port is free, shows before gigabytes of a host are read.
    with ExitStack() as stack:
        bound = stack.enter_context(bind(host, port))
        from runtime.host import check_device, quiet
        from runtime.serve.app import make_app
        from runtime.serve.catalogue import Catalogue
        from runtime.serve.models import find_models
        from runtime.serve.scheduler import Scheduler

        check_device(device)

        def make_engine(loaded: "Host", opened: "LensPack") -> Scheduler:
            config = ServeConfig(
                max_sequences=max_sequences,
                max_context=_context(loaded) if max_context is None else max_context,
                kv_bytes=parse_bytes(kv_memory),
                max_waiting=max_waiting,
                max_sessions=max_sessions,
                session_lease_s=session_lease,
                session_bytes=parse_bytes(session_memory),
            )
            return Scheduler(loaded, opened, config, monitor)

        models = find_models(
            model, pack, pin or [], also or [], partial(open_host, device=device), make_engine
        )
        with announced(f"loading {one_line(models[0].name)} ..."), quiet():
            catalogue = Catalogue(models, _memory(memory), limits, log_prompts=log_prompts)
        stack.callback(catalogue.close)
        stack.enter_context(quiet())
        server = Server(make_app(catalogue, token=token), catalogue, bound)
        _log_to_stderr()
        first = catalogue.first
        print(f"serving {one_line(first.name)} · lenses {first.pack.name} · {server.url}", flush=True)
        server.run()


def read_token(path: str) -> str:
    """The token in a file; raises ConfigError where there is none."""
    where = f"token file {quoted(path)}"
    try:
        token = local_path(path).read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not ASCII"
        raise ConfigError(f"{where} cannot be read ({why}); give a file with one token in it") from error
    if not token or any(character.isspace() for character in token):
        found = "several words" if token else "nothing"
        raise ConfigError(f"{where} holds {found}; write one token into it, such as: openssl rand -hex 32")
    return token


def _check_extra() -> None:
    """Raises ExtraMissing where what only a server needs is not installed."""
    try:
        import fastapi  # noqa: F401
        import httptools  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ExtraMissing(
            f"serving needs {error.name}, which is not installed; type: pip install 'phoropter[serve]'"
        ) from error


def _memory(said: str | None) -> int:
    """Bytes for all that is in memory; nine tenths of the machine's where nobody says."""
    from runtime.config import parse_bytes
    from runtime.environment import memory_bytes

    return memory_bytes() * 9 // 10 if said is None else parse_bytes(said)


def _context(host: "Host") -> int:
    from runtime.blocks import text_config

    most = getattr(text_config(host.model), "max_position_embeddings", None)
    return CONTEXT if most is None else min(CONTEXT, most)


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log = logging.getLogger("phoropter.serve")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
