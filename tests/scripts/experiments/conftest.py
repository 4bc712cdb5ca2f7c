"""A tiny host and a pack for it on disk, and a floor that reads little."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from experiments.recording import Recording, record
from experiments.subject import Subject
from measuring import floor
from measuring.disk import evict
from profiling.runs import Task

from lenses.pack import LensPack
from runtime.host import load_host
from tests import hosts
from tests.packs import make_pack


@pytest.fixture(scope="session", autouse=True)
def _small_floor() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(floor, "READ_BYTES", 2**20)
        yield


@dataclass(frozen=True)
class Tiny:
    """Where things are."""

    host: Path
    pack: Path
    work: Path

    @property
    def options(self) -> list[str]:
        """As the programs take them."""
        return [f"--pack={self.pack}", f"--host={self.host}", f"--work={self.work}"]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    root = tmp_path_factory.mktemp("experiments")
    model = hosts.gemma3(host_id="tiny")
    host = hosts.save(model, root / "host")
    pack = make_pack(
        root / "pack",
        host="tiny",
        branching=(3, 3, 2, 2),
        hidden_size=hosts.HIDDEN,
        blocks=hosts.BLOCKS,
        site="resid_post.1",
        widths=(16, 8),
        base_levels=(0, 1),
        load_threshold=0.4,
    )
    if any(evict(path).left for path in pack.path.glob("*.safetensors")):
        pytest.skip("this directory lives in memory: nothing can be read cold")
    return Tiny(host, pack.path, root / "work")


@pytest.fixture(scope="session")
def subject(tiny: Tiny) -> Subject:
    return Subject(load_host(tiny.host), LensPack.from_pretrained(tiny.pack))


@pytest.fixture(scope="session")
def recording(subject: Subject) -> Recording:
    return record(subject.host, subject.pack.config.site, Task("the dog sits in the house", 9))
