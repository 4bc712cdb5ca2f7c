"""The pack and the host that a program measures, as its command line asks for them.

Shares one set of options among programs; knows nothing about what is measured.
"""

import argparse

from lenses.pack import LensPack
from runtime.host import Host, load_host
from runtime.packs import choose_pack, host_of
from runtime.random_host import RandomHost, is_random


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that `open_pack` and `open_host` read."""
    parser.add_argument(
        "--pack", default=None, help="a pack's directory or name (default: the travelling one)"
    )
    parser.add_argument(
        "--model",
        default=None,
        help="a directory, hub id or shape such as random:gemma-3-4b (default: the pack's)",
    )
    parser.add_argument("--blocks", type=int, default=None, help="shorten a random host to so many blocks")
    parser.add_argument(
        "--device", default="cpu", help="where the host runs and lenses are scored (default cpu)"
    )


def open_pack(arguments: argparse.Namespace) -> tuple[LensPack, str]:
    """The pack, and where it was found; raises PackError."""
    where = choose_pack(arguments.pack, _model(arguments.model, arguments.blocks))
    return LensPack.from_pretrained(where), where


def open_host(arguments: argparse.Namespace, pack: LensPack, where: str) -> Host:
    """The host to watch with the pack; raises HostError, and PackMismatch where the pack is not for it."""
    asked = _model(arguments.model, arguments.blocks)
    if asked is None and arguments.blocks is not None:
        asked = _model(pack.config.host.id, arguments.blocks)
    name, revision = host_of(pack, where, asked)
    return load_host(name, revision=revision, device=arguments.device)


def describe(pack: LensPack) -> str:
    """A pack in a line."""
    lens = pack.config.lens
    kind = lens.describe(pack.config.host.hidden_size)
    return f"{pack.path.name} ({pack.identity[:12]}): {len(pack.hierarchy)} {kind}, first layers {lens.dtype}"


def _model(name: str | None, blocks: int | None) -> str | None:
    """The host's one spelling; HostError where blocks are asked of a host that is not of random weights."""
    if name is None or not (is_random(name) or blocks is not None):
        return name
    return RandomHost.parse(name, blocks=blocks).id
