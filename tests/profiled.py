"""A tiny host and a pack for it, which travels with it: what programs that measure are tried on."""

from pathlib import Path
from typing import Any

from lenses.pack import LensPack
from runtime.host import Host, load_host
from tests import hosts
from tests.packs import make_pack


def tiny(directory: Path, **changes: Any) -> tuple[Host, LensPack]:
    """The host and the pack, written to `directory`; `changes` as for `make_pack`."""
    host_dir = hosts.save(hosts.gemma3(host_id="tiny"), directory / "host")
    host = load_host(host_dir, device="cpu")
    config = host.model.config
    settings: dict[str, Any] = {
        "branching": (3, 3, 2, 2),
        "host": "tiny",
        "hidden_size": config.hidden_size,
        "blocks": config.num_hidden_layers,
        "site": "resid_post.1",
        "base_levels": (0,),
        "top_k": 2,
        "host_dir": host_dir,
    }
    return host, make_pack(directory / "tiny-pack", **(settings | changes))
