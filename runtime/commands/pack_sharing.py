"""`phoropter pack fetch` and `pack push`: packs from a model hub, and to one."""

from typing import Annotated

import typer

from lenses.text import one_line


def register(app: typer.Typer) -> None:
    """Add the commands to `phoropter pack`."""
    app.command("fetch")(fetch_pack)
    app.command("push")(push_pack)


def fetch_pack(
    pack: Annotated[str, typer.Argument(help="A hub id: owner/name, or owner/name@revision.")],
) -> None:
    """Fetch a lens pack from the hub into its cache, and check every byte of it, of what is cached too.

    A pack is there whole or not at all; a fetch that was cut off goes on where it was. After it, the pack opens
    without a network (HF_HUB_OFFLINE=1). The name that is printed, with its commit, always opens the same bytes.

    \b
    Examples:
      phoropter pack fetch owner/name
      phoropter pack fetch owner/name@v2
    """
    from lenses.hub import fetch
    from lenses.pack import LensPack

    found = fetch(pack, thorough=True)
    assert found.source is not None
    opened = LensPack.from_pretrained(found.source)
    opened.verify()
    print(f"ok: {opened.config.concepts} lenses for {one_line(opened.config.host.id)}, every byte checked")
    print(f"watch with it: phoropter watch --pack {found.source}")


def push_pack(
    pack: Annotated[str, typer.Argument(help="A directory, a name of `pack list`, or a hub id.")],
    repository: Annotated[str, typer.Argument(help="Where to, as owner/name; it is made if needed.")],
    private: Annotated[
        bool, typer.Option("--private", help="Where the repository is made: for its owner alone.")
    ] = False,
) -> None:
    """Check a lens pack and push it to the hub, as one commit. Log in first: hf auth login.

    \b
    Example:
      phoropter pack push lens_packs/mine owner/mine --private
    """
    from lenses.pack import LensPack
    from runtime.packs import resolve_pack

    address = LensPack.from_pretrained(resolve_pack(pack)).push_to_hub(repository, private=private)
    print(f"pushed: {address}")
    print(f"fetch it: phoropter pack fetch {repository}@{address.rpartition('/')[2]}")
