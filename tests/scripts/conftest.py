"""A tiny dictionary, and a pack with its tiny host, for programs that judge packs; servers that start at once."""

import os
from pathlib import Path
from typing import IO

import pytest
from serving import servers

from tests import hosts
from tests.packs import make_pack
from tests.warm import Warm
from tests.wordnet_dict import Entry, write

KINDS = {"beast": ("cat", "dog"), "tool": ("violin", "house")}
"""Level 0 to the words that tell its two children; all are in the tiny host's vocabulary."""


@pytest.fixture(scope="session")
def judged_wordnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    entries = [Entry("rare", ["rare"], "a thing unlike all others")]
    for top, words in KINDS.items():
        entries.append(Entry(top, [top], f"a b c {top}"))
        for word in words:
            entries.append(Entry(word, [word], f"a {word} is in it", [top]))
            entries += [
                # Every second text does without its concept's word.
                Entry(
                    f"{word}-{n}",
                    [f"x{n} q"],
                    f"the {word if n % 2 else 'g h'} sits in {chr(97 + n % 26)}",
                    [word],
                )
                for n in range(220)
            ]
    return write(tmp_path_factory.mktemp("dict"), entries)


@pytest.fixture(scope="session")
def judged_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("packs")
    host = hosts.save(hosts.gemma3(host_id="tiny"), directory / "host")
    nodes: list[tuple[str, str, str | None]] = [(f"{top}.n.01", top, None) for top in (*KINDS, "rare")]
    nodes += [(f"{word}.n.01", word, f"{top}.n.01") for top, words in KINDS.items() for word in words]
    made = make_pack(
        directory / "tiny",
        nodes=nodes,
        hidden_size=hosts.HIDDEN,
        blocks=hosts.BLOCKS,
        host="tiny",
        site="resid_post.1",
        pooling="ema:0.7",
        base_levels=(0,),
        host_dir=host,
    )
    return made.path


@pytest.fixture
def warm_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers that a program runs are forks of a warm process. A real one is started where `serve` itself is tested."""

    def start(command: list[str], said: IO[bytes], environment: dict[str, str]) -> Warm:
        with open(os.devnull, "rb") as nothing:
            streams = (nothing.fileno(), said.fileno(), said.fileno())
            return Warm(command, streams=streams, env=environment)

    monkeypatch.setattr(servers, "start", start)
