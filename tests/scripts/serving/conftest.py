"""A tiny pack with its host on disk, for programs that run a server of their own."""

from collections.abc import Iterator

import pytest

from tests.profiled import tiny


@pytest.fixture(scope="session")
def served_pack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(
            "OMP_NUM_THREADS", "1"
        )  # of servers: threads that wait for each other are slow on a busy machine
        yield str(tiny(tmp_path_factory.mktemp("served"))[1].path)
