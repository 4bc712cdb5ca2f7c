"""What several commands share: options, and how a monitor and its host are opened by them."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lenses.errors import ConfigError

if TYPE_CHECKING:
    from lenses.pack import LensPack
    from runtime.config import MonitorConfig
    from runtime.host import Host
    from runtime.monitor import Monitor

Model = Annotated[
    str | None, typer.Option(help="Host: a directory or a hub id. Default: the one that the pack is for.")
]
Pack = Annotated[
    str | None,
    typer.Option(help="Lens pack: a directory, a name of `pack list`, or a hub id. Default: wordnet-mini."),
]
HotBudget = Annotated[str, typer.Option(help="Memory for lenses ready to score.")]
WarmBudget = Annotated[str, typer.Option(help="Memory for lenses kept beside them.")]
Device = Annotated[
    str | None,
    typer.Option(
        help="cpu, cuda, cuda:1 and so on, or auto. Default: the best for the host, cpu for lenses."
    ),
]


MaxNewTokens = Annotated[int, typer.Option(help="Tokens to generate at the most.")]
Temperature = Annotated[float, typer.Option(help="0 takes the likeliest token each time.")]
Seed = Annotated[int, typer.Option(help="Makes sampling repeatable.")]
BaseLevels = Annotated[
    str | None,
    typer.Option(help="Levels scored at every token: 0 or 0,1 and so on. Default: the pack's."),
]
TopK = Annotated[
    int | None,
    typer.Option(help="Width of expansion: families opened a level at the most. Default: the pack's."),
]
LoadThreshold = Annotated[
    float | None,
    typer.Option(help="Probability from which a concept's children are scored. Default: the pack's."),
]
MaxLevel = Annotated[int | None, typer.Option(help="Deepest level to score. Default: all.")]
Exhaustive = Annotated[bool, typer.Option("--exhaustive", help="Score every lens at every token.")]
PromptEvents = Annotated[
    str, typer.Option(help="Prompt tokens that get events: full, base (base levels alone) or off.")
]
Rules = Annotated[
    list[str] | None,
    typer.Option(
        metavar="RULE",
        help="CONCEPT > BOUND for POSITIONS -> mark, or stop to end there: where the concept's probability is "
        "above (or <, below) the bound for so many positions in a row; may be given again.",
    ),
]


def sampling(max_new_tokens: int, temperature: float, seed: int) -> dict[str, Any]:
    """What `Monitor.stream` is to be told of generating; raises ConfigError."""
    check("max new tokens", max_new_tokens, 1)
    check("temperature", temperature, 0)
    check("seed", seed, 0, 2**63 - 1)
    how = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
    return {"max_new_tokens": max_new_tokens, "seed": seed, **how}


def lens_device(device: str | None) -> str:
    """Where lenses are scored, of what the user gave."""
    return "cpu" if device in (None, "auto") else device


def open_monitor(where: str, config: "MonitorConfig", device: str | None) -> "Monitor":
    """Open the pack and make the monitor: damage and small budgets show before gigabytes of a host are read."""
    from lenses.pack import LensPack
    from runtime.host import check_device
    from runtime.monitor import Monitor

    pack = LensPack.from_pretrained(where)
    check_device(device)
    return Monitor(pack, config)


def open_host(pack: "LensPack", where: str, model: str | None, device: str | None) -> "Host":
    """Load the host that was asked for, by default the one that the pack was made for."""
    from runtime.host import load_host
    from runtime.packs import host_of

    name, revision = host_of(pack, where, model)
    return load_host(name, revision=revision, device=device)


@contextmanager
def announced(what: str) -> "Iterator[None]":
    """Say on a terminal what is going on, and wipe it when that is over."""
    if not sys.stdout.isatty():
        yield
        return
    print(what[: os.get_terminal_size(sys.stdout.fileno()).columns - 1], end="", flush=True)
    try:
        yield
    finally:
        print(f"\r{' ' * len(what)}\r", end="", flush=True)


def check(name: str, value: float, least: int, most: int | None = None) -> None:
    """Raises ConfigError unless least <= value <= most; what is not a number is not in between either."""
    if not value >= least or (most is not None and value > most):
        raise ConfigError(
            f"{name} {value} cannot be; give {least} {'or more' if most is None else f'to {most}'}"
        )
