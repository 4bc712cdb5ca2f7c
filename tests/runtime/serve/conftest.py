"""One server for all tests of its HTTP side: a real one, on a free port of the loopback."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Thread
from time import monotonic, sleep
from typing import Any

import httpx
import openai
import pytest

from lenses.pack import LensPack
from runtime.host import Host
from runtime.serve.app import make_app
from runtime.serve.catalogue import Catalogue, Model
from runtime.serve.config import ServeConfig
from runtime.serve.limits import Limits
from runtime.serve.scheduler import Scheduler
from runtime.serve.server import Server, bind
from runtime.serve.service import Service
from tests import hosts
from tests.packs import make_pack
from tests.watched import named_nodes

EXPECT_S = 20.0
"""How long a test waits for what must come."""


@dataclass(frozen=True, slots=True)
class Served:
    """A server that runs, and ways to ask it."""

    url: str
    service: Service
    """Of the first model."""
    catalogue: Catalogue
    server: Server
    http: httpx.Client
    client: openai.OpenAI
    failures: list[BaseException]


@contextmanager
def serving(
    pack: LensPack,
    *,
    host: Host | None = None,
    config: ServeConfig | None = None,
    limits: Limits | None = None,
    token: str | None = None,
    grace_s: float = 0.5,
    others: Sequence[Model] = (),
    memory_bytes: int = 1 << 40,
    **settings: Any,
) -> Iterator[Served]:
    """Serve a pack with a tiny host, and other models."""
    host = host or Host(hosts.gemma3(), hosts.tokenizer(), "tiny/host", None)
    models = [model(pack, host, config), *others]
    catalogue = Catalogue(models, memory_bytes, limits or Limits(), **settings)
    server = Server(make_app(catalogue, token=token), catalogue, bind("127.0.0.1", 0), grace_s=grace_s)
    failures: list[BaseException] = []

    def run() -> None:
        try:
            server.run()
        except BaseException as error:
            failures.append(error)

    thread = Thread(target=run)
    thread.start()
    expect(lambda: server.is_started or bool(failures))
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        with (
            httpx.Client(base_url=server.url, timeout=EXPECT_S, headers=headers) as http,
            openai.OpenAI(
                base_url=f"{server.url}/v1", api_key=token or "none", max_retries=0, timeout=EXPECT_S
            ) as client,
        ):
            yield Served(server.url, catalogue.first, catalogue, server, http, client, failures)
    finally:
        server.stop()
        thread.join()
        catalogue.close()


def model(
    pack: LensPack,
    host: Host,
    config: ServeConfig | None = None,
    *,
    name: str | None = None,
    pin: bool = False,
) -> Model:
    """A model of parts that are there already."""
    config = config or ServeConfig(max_sequences=8, max_context=100)
    return Model(
        name or host.id,
        host.id,
        pack.identity,
        lambda: pack,
        lambda _: host,
        lambda host, pack: Scheduler(host, pack, config),
        is_pinned=pin,
    )


def expect(holds: Callable[[], bool], within_s: float = EXPECT_S) -> None:
    """Wait until this holds."""
    until_s = monotonic() + within_s
    while not holds():
        assert monotonic() < until_s, "it did not come to hold"
        sleep(0.005)


@pytest.fixture(scope="session")
def pack(tmp_path_factory: pytest.TempPathFactory) -> LensPack:
    return make_pack(
        tmp_path_factory.mktemp("serve") / "p",
        nodes=named_nodes(),
        hidden_size=hosts.HIDDEN,
        blocks=hosts.BLOCKS,
        null_texts=400,
    )


@pytest.fixture(scope="session")
def served(pack: LensPack) -> Iterator[Served]:
    with serving(pack) as one:
        yield one
