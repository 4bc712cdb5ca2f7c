"""One tiny host and pack for all tests of the profiler's parts."""

import pytest

from lenses.pack import LensPack
from runtime.host import Host
from tests.profiled import tiny


@pytest.fixture(scope="module")
def tiny_host_and_pack(tmp_path_factory: pytest.TempPathFactory) -> tuple[Host, LensPack]:
    return tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def host(tiny_host_and_pack: tuple[Host, LensPack]) -> Host:
    return tiny_host_and_pack[0]


@pytest.fixture
def pack(tiny_host_and_pack: tuple[Host, LensPack]) -> LensPack:
    return tiny_host_and_pack[1]
