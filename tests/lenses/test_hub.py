"""A pack of a hub is opened like any other, and not getting it is one line. Nothing here uses a network."""

import importlib
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import errors

from lenses import LensPack
from lenses.errors import PackFormatError, PackNotFound, WriteError
from tests.packs import make_pack

# The HTTP client that the hub's stands on: httpx, or httpx2 since its version 2.
httpx = importlib.import_module(errors.HfHubHTTPError.__bases__[0].__module__.partition(".")[0])
RESPONSE = httpx.Response(403, request=httpx.Request("GET", "https://hub.example/x"))


@pytest.fixture
def cached(tmp_path: Path) -> Path:
    """A snapshot as the hub's cache keeps it: links to blobs, which may be links to a shared store."""
    made = make_pack(tmp_path / "made")
    cache = tmp_path / "cache"
    snapshot = cache / "models--owner--tiny" / "snapshots" / "0a1b2c"
    blobs = cache / "models--owner--tiny" / "blobs"
    for folder in (snapshot, blobs, cache / "shared"):
        folder.mkdir(parents=True)
    for number, path in enumerate(sorted(made.path.iterdir())):
        if number == 0:
            shutil.copy(path, cache / "shared" / "x")
            (blobs / f"b{number}").symlink_to(cache / "shared" / "x")
        else:
            shutil.copy(path, blobs / f"b{number}")
        (snapshot / path.name).symlink_to(Path("../../blobs", f"b{number}"))
    return snapshot


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch):
    """Makes the hub answer with a directory, or raise; returns the list of what it was asked."""

    def answer(result: Path | BaseException) -> list[tuple[str, str | None]]:
        asked = []

        def snapshot_download(repo_id: str, *, revision: str | None, allow_patterns: list[str]) -> str:
            asked.append((repo_id, revision))
            if isinstance(result, BaseException):
                raise result
            return str(result)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
        return asked

    return answer


def test_a_hub_id_is_fetched_and_checked_through_the_links_of_the_cache(hub, cached):
    asked = hub(cached)
    pack = LensPack.from_pretrained("owner/tiny", revision="0a1b2c")
    pack.verify()
    assert asked == [("owner/tiny", "0a1b2c")]
    assert pack.path == cached


def test_a_cached_pack_is_saved_as_plain_files(hub, cached, tmp_path):
    hub(cached)
    pack = LensPack.from_pretrained("owner/tiny")
    pack.save_pretrained(tmp_path / "copy")
    assert not any(path.is_symlink() for path in (tmp_path / "copy").iterdir())
    assert LensPack.from_pretrained(tmp_path / "copy").identity == pack.identity


def test_a_link_out_of_the_cache_is_refused(hub, cached, tmp_path, one_line):
    shutil.copy(cached / "config.json", tmp_path / "outside")
    (cached / "config.json").unlink()
    (cached / "config.json").symlink_to(tmp_path / "outside")
    hub(cached)
    with pytest.raises(PackFormatError) as caught:
        LensPack.from_pretrained("owner/tiny")
    one_line(caught, "config.json", "a link that leads out of the pack")


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (errors.GatedRepoError("a\nb", response=RESPONSE), "gated; accept its terms"),
        (errors.RepositoryNotFoundError("a\nb", response=RESPONSE), "the hub does not have it"),
        (errors.RevisionNotFoundError("a\nb", response=RESPONSE), "no revision 'v2'"),
        (errors.LocalEntryNotFoundError("a\nb"), "nothing is cached"),
        (errors.OfflineModeIsEnabled("a\nb"), "nothing is cached"),
        (errors.HFValidationError("a\nb"), "no hub id either"),
        (errors.HfHubHTTPError("a\nb", response=RESPONSE), "failed (a\\nb); try again"),
        (httpx.ProxyError("a\nb"), "failed (a\\nb); try again"),
        (OSError(28, "No space left on device"), "No space left"),
    ],
)
def test_every_way_of_not_getting_a_pack_is_one_line(hub, one_line, error, part):
    hub(error)
    with pytest.raises(PackNotFound) as caught:
        LensPack.from_pretrained("owner/tiny", revision="v2")
    one_line(caught, "'owner/tiny'", "no such directory here", part)


def test_a_repository_that_is_no_pack_is_one_line(hub, tmp_path, one_line):
    hub(tmp_path)
    with pytest.raises(PackNotFound) as caught:
        LensPack.from_pretrained("owner/tiny")
    one_line(caught, "'owner/tiny'", "no lens pack", "config.json")


def test_a_directory_comes_before_a_hub(hub, tmp_path, monkeypatch):
    asked = hub(OSError("must not be asked"))
    make_pack(tmp_path / "owner" / "tiny")
    monkeypatch.chdir(tmp_path)
    assert LensPack.from_pretrained("owner/tiny").path == Path("owner/tiny")
    assert asked == []


class FakeApi:
    """Remembers what is uploaded."""

    uploaded: dict[str, list[str]]

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> None:
        if repo_id.startswith("forbidden"):
            raise errors.HfHubHTTPError("403\nForbidden", response=RESPONSE)

    def upload_folder(self, *, repo_id: str, folder_path: Path, allow_patterns: list[str]):
        FakeApi.uploaded = {repo_id: sorted(allow_patterns)}
        return SimpleNamespace(commit_url="https://hub.example/owner/tiny/commit/1")


def test_a_pack_is_pushed_with_its_files_and_no_others(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeApi)
    pack = make_pack(tmp_path / "p")
    files = sorted(os.listdir(pack.path))
    (pack.path / "notes.txt").write_text("mine")
    assert pack.push_to_hub("owner/tiny") == "https://hub.example/owner/tiny/commit/1"
    assert FakeApi.uploaded == {"owner/tiny": files}


def test_a_push_that_fails_is_one_line(tmp_path, monkeypatch, one_line):
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeApi)
    pack = make_pack(tmp_path / "p")
    with pytest.raises(WriteError) as caught:
        pack.push_to_hub("forbidden/tiny")
    one_line(caught, "'forbidden/tiny'", "403\\nForbidden", "hf auth login")
