"""The models of a catalogue out of what was typed: packs, each with the host that it is for.

A model is called as the host that its pack is for, and where that is taken already, `HOST@PACK`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path

from lenses.errors import ConfigError
from lenses.pack import LensPack
from lenses.text import quoted
from runtime.host import Host
from runtime.packs import choose_pack, read_config
from runtime.serve.catalogue import Model
from runtime.serve.scheduler import Scheduler

OpenHost = Callable[[LensPack, str, str | None], Host]
"""The host of a pack that came from there: the one that was asked for, else the pack's own."""
MakeEngine = Callable[[Host, LensPack], Scheduler]


def find_models(
    model: str | None,
    pack: str | None,
    pinned: Sequence[str],
    others: Sequence[str],
    open_host: OpenHost,
    make_engine: MakeEngine,
) -> list[Model]:
    """The first one, of `model` and `pack`, then those that are pinned, then all others.

    Raises PackNotFound, PackMismatch, PackFormatError, and ConfigError for a pack that is given twice.
    """
    asked = [(choose_pack(pack, model), model, False)]
    asked += [(choose_pack(one, None), None, at < len(pinned)) for at, one in enumerate([*pinned, *others])]
    found: dict[str, Model] = {}
    for where, host, is_pinned in asked:
        one = _model(where, host, open_host, make_engine, found, is_pinned=is_pinned)
        found[one.name] = one
    return list(found.values())


def _model(
    where: str,
    host: str | None,
    open_host: OpenHost,
    make_engine: MakeEngine,
    taken: dict[str, Model],
    *,
    is_pinned: bool,
) -> Model:
    if any(other.pack == where for other in taken.values()):
        raise ConfigError(f"the pack {quoted(where)} is given twice; give it once")
    config = read_config(Path(where)) if Path(where).is_dir() else LensPack.from_pretrained(where).config
    name = config.host.id
    if name in taken:
        name = f"{name}@{Path(where).name}"

    key = host or config.host.id
    if host is None and config.host_files:  # hosts that travel with packs are the same where their files are
        files = "".join(config.sha256[file] for file in config.host_files)
        key = f"{key} {sha256(files.encode()).hexdigest()[:12]}"
    elif host is None and config.host.revision:
        key = f"{key}@{config.host.revision}"
    return Model(
        name=name,
        host=key,
        pack=where,
        open_pack=partial(LensPack.from_pretrained, where),
        open_host=lambda pack: open_host(pack, where, host),
        make_engine=make_engine,
        is_pinned=is_pinned,
    )
