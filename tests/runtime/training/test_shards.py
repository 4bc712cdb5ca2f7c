"""States on disk: gone on with after a stop, shared among processes, the same as in memory."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rich.progress import Progress

from lenses.config import InputConfig
from lenses.errors import SourceError
from runtime.host import Host, load_host
from runtime.training import shards as shards_module
from runtime.training import states as states_module
from runtime.training.shards import StateShards
from runtime.training.states import States, stream
from runtime.training.workers import Workers
from tests import hosts

TEXTS = ["the dog sits", "it is", "the cat sits in the house", "a b c d", "violin", "a dog", "a house is it"]
INPUTS = [("resid_post.1", InputConfig(norm="layer")), ("resid_post.2", InputConfig(pooling="ewm:0.5"))]


class Together:
    """accelerate's state, of a process whose neighbours come at once."""

    def wait_for_everyone(self) -> None:
        """Nobody to wait for."""


def worker(count: int = 1, index: int = 0) -> Workers:
    return Workers(count, index, Together())


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    return load_host(hosts.save(hosts.gemma3(), tmp_path_factory.mktemp("host") / "host"), device="cpu")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several batches, several shards."""
    monkeypatch.setattr(states_module, "BATCH_TOKENS", 12)
    monkeypatch.setattr(shards_module, "SHARD_BYTES", 1024)


@pytest.fixture
def progress() -> Iterator[Progress]:
    with Progress(disable=True) as found:
        yield found


def shards(parent: Path, host: Host, **changes: object) -> StateShards:
    given = {"texts": TEXTS, "inputs": INPUTS, "positions": 2, "seed": 5} | changes
    return StateShards(parent, host, **given)  # type: ignore[arg-type]


def same(found: States, expected: States) -> None:
    for name in ("states_SD", "text_S", "last_S", "at_S"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_what_is_on_disk_is_what_a_stream_gives(tmp_path: Path, host: Host, progress: Progress) -> None:
    stored = shards(tmp_path, host)
    stored.collect(worker(), progress, "states")
    assert len(list(stored.directory.iterdir())) > 2
    batches = list(stream(host, TEXTS, inputs=INPUTS, positions=2, seed=5, progress=progress, title="states"))
    for input, pieces in zip(INPUTS, zip(*batches, strict=True), strict=True):
        same(stored.load(input), States.joined(pieces))


def test_a_stop_loses_what_was_not_there_and_nothing_else(
    tmp_path: Path, host: Host, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = shards(tmp_path / "whole", host)
    whole.collect(worker(), progress, "states")
    stopped = shards(tmp_path / "stopped", host)
    write = shards_module.write_atomically

    def third_time_out(path: Path, data: bytes) -> None:
        if len(list(path.parent.glob("shard*"))) == 2:
            raise KeyboardInterrupt
        write(path, data)

    monkeypatch.setattr(shards_module, "write_atomically", third_time_out)
    with pytest.raises(KeyboardInterrupt):
        stopped.collect(worker(), progress, "states")
    monkeypatch.setattr(shards_module, "write_atomically", write)
    (stopped.directory / ".shard.tmp-999999999-00000000").write_bytes(b"half")
    forwards: list[int] = []
    hook = host.model.register_forward_pre_hook(lambda *_: forwards.append(1))
    again = shards(tmp_path / "stopped", host)
    again.collect(worker(), progress, "states")
    hook.remove()
    assert len(forwards) == sum(map(len, again._shards[2:]))
    assert sorted(p.name for p in again.directory.iterdir()) == sorted(
        p.name for p in whole.directory.iterdir()
    )
    for input in INPUTS:
        same(again.load(input), whole.load(input))


def test_two_processes_write_what_one_does_each_its_share(
    tmp_path: Path, host: Host, progress: Progress
) -> None:
    alone, together = shards(tmp_path / "one", host), shards(tmp_path / "two", host)
    alone.collect(worker(), progress, "states")
    together.collect(worker(2, 1), progress, "states")
    files = sorted(p.name for p in alone.directory.iterdir())
    assert sorted(p.name for p in together.directory.iterdir()) == files[1::2]
    together.collect(worker(2, 0), progress, "states")
    for name in files:
        assert (together.directory / name).read_bytes() == (alone.directory / name).read_bytes()


def test_other_texts_inputs_or_seeds_are_kept_elsewhere(tmp_path: Path, host: Host) -> None:
    changes = [{}, {"texts": TEXTS[:-1]}, {"inputs": INPUTS[:1]}, {"positions": 3}, {"seed": 6}]
    found = [shards(tmp_path, host, **change).directory for change in changes]
    assert len(set(found)) == len(found)
    assert shards(tmp_path, host).directory == found[0]


def test_a_damaged_shard_is_named(tmp_path: Path, host: Host, progress: Progress) -> None:
    stored = shards(tmp_path, host)
    stored.collect(worker(), progress, "states")
    victim = min(stored.directory.iterdir())
    victim.write_bytes(victim.read_bytes()[:-3])
    with pytest.raises(SourceError, match=f"{victim.name}.*remove it"):
        stored.load(INPUTS[0])
