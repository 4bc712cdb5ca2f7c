"""What goes wrong while fetching is tried again where it may pass and else refused; a pack is never seen in part."""

import os
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import close_session

from lenses import LensPack
from lenses.errors import PackIntegrityError, PackNotFound, PhoropterError, WriteError
from lenses.hub import fetch
from lenses.transfer import ATTEMPTS
from tests.hub_server import LocalHub
from tests.packs import make_pack

pytestmark = pytest.mark.usefixtures("waits")

LENSES = "GET /cdn/"
"""The large files: the heads and the lenses."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> LensPack:
    return make_pack(tmp_path_factory.mktemp("packs") / "made")


@pytest.fixture
def commit(hub: LocalHub, made: LensPack) -> str:
    return hub.add("owner/tiny", made.path)


def leftovers() -> list[str]:
    """What in the cache is neither a blob, nor leads to one, nor says where main is."""
    found = []
    for path in Path(constants.HF_HUB_CACHE).rglob("*"):
        odd = any(part.endswith(".incomplete") or ".tmp" in part for part in path.parts)
        if odd or (path.is_symlink() and not path.exists()):
            found.append(str(path))
    return found


@contextmanager
def offline(monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patched:
        patched.setattr(constants, "HF_HUB_OFFLINE", True)
        yield


def assert_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    with offline(monkeypatch), pytest.raises(PackNotFound):
        fetch("owner/tiny")
    assert not list(Path(constants.HF_HUB_CACHE).glob("models--owner--tiny/snapshots/*"))


def assert_whole(made: LensPack) -> None:
    pack = LensPack.from_pretrained("owner/tiny")
    pack.verify()
    assert pack.identity == made.identity
    assert leftovers() == []


def refusal(kind: type[PhoropterError]) -> pytest.ExceptionInfo[PhoropterError]:
    with pytest.raises(kind) as caught:
        fetch("owner/tiny")
    return caught


@pytest.mark.parametrize("then", ["reset", "close"])
def test_a_connection_that_breaks_is_gone_on_from(hub, commit, made, waits, then):
    hub.fail(LENSES, after_bytes=500, then=then, times=3)
    assert_whole(made)
    ranges = [int(asked.range[6:-1]) for asked in hub.asked if asked.range and asked.path.startswith("/cdn/")]
    assert len(waits) == len(ranges) == 3
    assert ranges == [500, 1000, 1500]
    assert hub.count(LENSES) == 2 + 3


def test_a_connection_that_stalls_is_tried_again(hub, commit, made, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.1)
    hub.fail(LENSES, after_bytes=1000, then="stall", times=1)
    assert_whole(made)
    assert hub.count(LENSES) == 3


@pytest.mark.parametrize("match", ["HEAD .*config.json", "GET .*config.json", "HEAD .*heads", "GET /cdn/"])
def test_an_error_of_the_server_is_tried_again_with_growing_waits(hub, commit, made, waits, match):
    hub.fail(match, status=500, times=ATTEMPTS - 1)
    assert_whole(made)
    assert len(waits) == ATTEMPTS - 1
    assert all(wait >= 0.5 * 2**n for n, wait in enumerate(waits))
    assert len(set(waits)) == len(waits)  # jitter


@pytest.mark.parametrize(("match", "part"), [("HEAD .*config.json", "HTTP 500"), (LENSES, "HTTP 500")])
def test_what_does_not_pass_is_counted(hub, commit, made, monkeypatch, one_line, match, part):
    fault = hub.fail(match, status=500)
    one_line(
        refusal(PackNotFound), "the hub cannot be reached", part, f"after {ATTEMPTS} attempts", "try again"
    )
    assert hub.count(match) == ATTEMPTS
    assert_absent(monkeypatch)
    hub.faults.remove(fault)
    assert_whole(made)


@pytest.mark.parametrize(
    "headers", [{"Retry-After": "7"}, {"RateLimit": '"api";r=0;t=7'}], ids=["Retry-After", "RateLimit"]
)
def test_a_hub_that_asks_to_wait_is_waited_for(hub, commit, made, waits, headers):
    hub.fail("GET .*jsonl", status=429, headers=headers, times=2)
    assert_whole(made)
    assert len(waits) == 2
    assert all(7 <= wait <= 8 for wait in waits)


def test_a_hub_that_asks_to_wait_for_an_hour_is_not(hub, commit, waits, one_line):
    hub.fail("GET .*jsonl", status=429, headers={"Retry-After": "3600"})
    one_line(refusal(PackNotFound), "HTTP 429", "after 1 attempt", "asks to wait 3600 s")
    assert waits == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 410])
def test_no_other_answer_is_asked_for_twice(hub, commit, made, monkeypatch, one_line, status):
    fault = hub.fail(LENSES, status=status)
    one_line(refusal(PackNotFound), f"the hub refuses it (HTTP {status}")
    assert hub.count(LENSES) == 1
    assert_absent(monkeypatch)
    hub.faults.remove(fault)
    assert_whole(made)


@pytest.mark.parametrize("match", [LENSES, "GET .*config.json", "GET .*concepts.jsonl", "GET .*README.md"])
def test_wrong_bytes_are_refused_at_once_and_not_kept(hub, commit, made, monkeypatch, one_line, match):
    fault = hub.fail(match, after_bytes=100, then="wrong")
    one_line(refusal(PackIntegrityError), "'owner/tiny'", commit[:12], "has the hash", "are not kept")
    assert hub.count(match) == 1
    assert_absent(monkeypatch)
    assert leftovers() == []
    hub.faults.remove(fault)
    assert_whole(made)


@pytest.mark.parametrize("name", ["lenses-00001-of-00001.safetensors", "families.json"])
def test_a_file_that_is_not_the_one_of_the_configuration_is_refused(hub, made, tmp_path, one_line, name):
    copy = shutil.copytree(made.path, tmp_path / "copy")
    data = (copy / name).read_bytes()
    (copy / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    hub.add("owner/tiny", copy)
    one_line(refusal(PackIntegrityError), name, "are not those that were written")
    assert hub.count(LENSES) == 0  # a large file's hash is known before its bytes come
    (copy / name).unlink()
    hub.add("owner/tiny", copy)
    one_line(refusal(PackIntegrityError), f"{name} is missing on the hub")


def test_a_beginning_that_is_not_the_file_s_is_thrown_away(hub, commit, made):
    folder = Path(constants.HF_HUB_CACHE, "models--owner--tiny", "blobs")
    folder.mkdir(parents=True)
    (folder / f"{made.config.sha256['heads.safetensors']}.incomplete").write_bytes(b"x" * 100)
    longer = made.config.sha256["lenses-00001-of-00001.safetensors"]
    (folder / f"{longer}.incomplete").write_bytes(b"x" * 100_000)
    (folder / ("a" * 40 + ".incomplete")).write_bytes(b"of another commit")
    assert_whole(made)


def test_a_hub_that_is_not_there_is_one_line(hub, commit, one_line, waits, monkeypatch):
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{revision}/{filename}"
    )
    one_line(refusal(PackNotFound), "the hub cannot be reached (Connect", f"after {ATTEMPTS} attempts")
    assert len(waits) == ATTEMPTS - 1


def test_what_is_no_hub_is_one_line(hub, commit, one_line):
    hub.fail("HEAD", status=200)
    one_line(refusal(PackNotFound), "what was asked is no hub", hub.endpoint, "HF_ENDPOINT")


def test_stopped_at_any_request_a_pack_is_absent_and_then_whole(hub, commit, made, monkeypatch):
    fetch("owner/tiny")
    requests = len(hub.asked)
    assert requests > 10
    for done in range(0, requests, 2):
        shutil.rmtree(constants.HF_HUB_CACHE)
        hub.faults[:] = []
        passing = hub.fail(".", times=done)
        hub.fail(".", status=403)
        with pytest.raises(PackNotFound):
            fetch("owner/tiny")
        assert passing.times == 0
        assert_absent(monkeypatch)
        hub.faults[:] = []
        assert_whole(made)


FETCH = "import sys; from lenses.hub import fetch; fetch(sys.argv[1])"


@pytest.mark.parametrize("match", ["GET .*config.json", LENSES])
def test_killed_while_bytes_come_the_next_start_goes_on(hub, commit, made, monkeypatch, match):
    stall = hub.fail(match, after_bytes=1000, then="stall", times=1)
    environment = os.environ | {"HF_ENDPOINT": hub.endpoint, "HF_HOME": constants.HF_HOME}
    child = subprocess.Popen([sys.executable, "-c", FETCH, "owner/tiny"], env=environment)
    try:
        assert hub.stalled.wait(60)
        partial = Path(constants.HF_HUB_CACHE, "models--owner--tiny", "blobs")
        while not any(path.stat().st_size for path in partial.glob("*.incomplete")):
            assert child.poll() is None
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert stall.times == 0
    assert_absent(monkeypatch)
    hub.asked.clear()
    assert_whole(made)
    assert any(asked.range for asked in hub.asked)


def test_a_cache_that_cannot_be_written_is_one_line(hub, commit, tmp_path, monkeypatch, one_line):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    one_line(refusal(WriteError), "'owner/tiny'", "cannot write", "choose another place")


def test_a_disk_with_too_little_room_is_known_before_the_lenses_come(hub, commit, monkeypatch, one_line):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**12, 10**12, 100))
    one_line(refusal(WriteError), "cannot write", "GB are free", "set HF_HOME to another place")
    assert hub.count(LENSES) == 0


def test_a_disk_that_runs_full_is_one_line_and_the_pack_absent(hub, commit, made, monkeypatch, one_line):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (3000, hard)
    )  # no file may be longer, as on a disk that is full
    try:
        caught = refusal(WriteError)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    one_line(caught, "'owner/tiny'", "cannot write", "free some space")
    assert_absent(monkeypatch)
    close_session()
    assert_whole(made)
