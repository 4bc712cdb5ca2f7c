"""A pack of a hub is opened like any other: fetched once, pinned, offline; not getting it is one line."""

import logging
import os
import shutil
import threading
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from lenses import LensPack
from lenses.errors import ConfigError, PackFormatError, PackIntegrityError, PackNotFound
from lenses.hub import fetch
from tests.hub_server import TOKEN, LocalHub
from tests.packs import make_pack

BLOB = r"GET .*(/cdn/|/resolve/.*(json|jsonl|md)$)"


@pytest.fixture
def commit(hub: LocalHub, tmp_path: Path) -> str:
    """A pack on the hub, as owner/tiny."""
    host = tmp_path / "host"
    host.mkdir()
    (host / "config.json").write_text("{}")
    return hub.add("owner/tiny", make_pack(tmp_path / "made", host_dir=host, max_shard_bytes=2000).path)


def snapshot(commit: str) -> Path:
    return Path(constants.HF_HUB_CACHE, "models--owner--tiny", "snapshots", commit)


def test_a_hub_id_is_fetched_and_remembered(hub, commit, tmp_path):
    pack = LensPack.from_pretrained("owner/tiny")
    pack.verify()
    assert pack.identity == LensPack.from_pretrained(tmp_path / "made").identity
    assert pack.path == snapshot(commit)
    assert pack.hub_source == f"owner/tiny@{commit}"
    assert pack.name == f"owner/tiny@{commit[:7]}"
    assert pack.hub_source in repr(pack)
    assert (pack.path / "README.md").read_text().startswith("---")


def test_a_pack_that_is_cached_is_not_fetched_again(hub, commit):
    LensPack.from_pretrained("owner/tiny")
    hub.asked.clear()
    LensPack.from_pretrained("owner/tiny")
    assert [asked.method for asked in hub.asked] == ["HEAD"]  # where main is
    hub.asked.clear()
    LensPack.from_pretrained(f"owner/tiny@{commit}")
    LensPack.from_pretrained("owner/tiny", revision=commit)
    assert hub.asked == []


def test_a_pinned_commit_is_what_is_opened(hub, commit, tmp_path):
    newer = hub.add("owner/tiny", make_pack(tmp_path / "newer", seed=1).path)
    assert LensPack.from_pretrained("owner/tiny").hub_source == f"owner/tiny@{newer}"
    pinned = LensPack.from_pretrained("owner/tiny", revision=commit)
    assert pinned.hub_source == f"owner/tiny@{commit}"
    assert pinned.identity == LensPack.from_pretrained(tmp_path / "made").identity
    assert LensPack.from_pretrained(pinned.hub_source).identity == pinned.identity
    assert (snapshot(commit).parents[1] / "refs" / "main").read_text() == newer


def test_a_hub_that_answers_with_another_commit_is_refused(hub, commit, one_line):
    hub.fail(
        "HEAD .*config.json", status=200, headers={"X-Repo-Commit": "b" * 40, "ETag": '"' + "c" * 40 + '"'}
    )
    with pytest.raises(PackIntegrityError) as caught:
        LensPack.from_pretrained("owner/tiny", revision=commit)
    one_line(caught, "commit " + "b" * 40, commit, "HF_ENDPOINT")


def test_a_cached_pack_is_saved_as_plain_files(hub, commit, tmp_path):
    pack = LensPack.from_pretrained("owner/tiny")
    pack.save_pretrained(tmp_path / "copy")
    assert not any(path.is_symlink() for path in (tmp_path / "copy").rglob("*"))
    assert LensPack.from_pretrained(tmp_path / "copy").identity == pack.identity


def test_only_the_files_of_the_pack_are_fetched(hub, commit, tmp_path):
    (tmp_path / "made" / "notes.bin").write_bytes(b"other")
    (tmp_path / "made" / "README.md").unlink()
    other = hub.add("owner/tiny", tmp_path / "made")
    LensPack.from_pretrained("owner/tiny")
    assert hub.count("GET .*notes") == 0
    assert not (snapshot(other) / "README.md").exists()


def test_huggingface_hub_finds_what_was_fetched_and_the_other_way_round(hub, commit, monkeypatch):
    LensPack.from_pretrained("owner/tiny")
    assert huggingface_hub.snapshot_download("owner/tiny", local_files_only=True) == str(snapshot(commit))
    cached = huggingface_hub.scan_cache_dir()
    assert [repo.repo_id for repo in cached.repos] == ["owner/tiny"]
    assert not cached.warnings
    shutil.rmtree(constants.HF_HUB_CACHE)
    huggingface_hub.snapshot_download("owner/tiny")
    hub.asked.clear()
    LensPack.from_pretrained("owner/tiny").verify()
    assert hub.count("GET") == 0


def test_a_snapshot_in_part_is_no_pack_until_it_is_whole(hub, commit, monkeypatch, one_line):
    huggingface_hub.snapshot_download("owner/tiny", allow_patterns=["*.json", "*.jsonl", "heads.safetensors"])
    with monkeypatch.context() as patched:
        patched.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(PackNotFound) as caught:
            LensPack.from_pretrained("owner/tiny")
        one_line(caught, "all of it is not in the hub's cache", "HF_HUB_OFFLINE is set")
    hub.asked.clear()
    LensPack.from_pretrained("owner/tiny").verify()
    assert hub.count("GET .*(json|heads)") == 0


def test_offline_what_is_cached_is_opened_and_nothing_is_asked(hub, commit, monkeypatch, one_line):
    LensPack.from_pretrained("owner/tiny")
    hub.asked.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert LensPack.from_pretrained("owner/tiny").hub_source == f"owner/tiny@{commit}"
    assert LensPack.from_pretrained("owner/tiny", revision=commit).path == snapshot(commit)
    for source, part in (("owner/other", "'owner/other'"), ("owner/tiny@v2", "at 'v2'")):
        with pytest.raises(PackNotFound) as caught:
            LensPack.from_pretrained(source)
        one_line(caught, part, "not in the hub's cache", "HF_HUB_OFFLINE is set")
    assert hub.asked == []


def test_where_the_hub_is_down_what_is_cached_is_opened_with_a_warning(hub, commit, waits, caplog):
    LensPack.from_pretrained("owner/tiny")
    hub.asked.clear()
    hub.fail(".", status=503)
    with caplog.at_level(logging.WARNING, "lenses"):
        assert LensPack.from_pretrained("owner/tiny").path == snapshot(commit)
    assert len(hub.asked) == 1
    assert waits == []
    assert "HTTP 503" in caplog.text
    assert commit in caplog.text


def refusal(source: str, **options) -> pytest.ExceptionInfo[PackNotFound]:
    with pytest.raises(PackNotFound) as caught:
        LensPack.from_pretrained(source, **options)
    return caught


def test_what_is_missing_private_or_gated_says_so_in_one_line(hub, commit, tmp_path, one_line, monkeypatch):
    hub.add("owner/private", tmp_path / "made", private=True)
    hub.add("owner/gated", tmp_path / "made", gated=True)
    hub.add("owner/model", tmp_path / "host")
    (tmp_path / "host" / "config.json").unlink()
    (tmp_path / "host" / "weights.bin").write_bytes(b"")
    hub.add("owner/other", tmp_path / "host")
    one_line(
        refusal("owner/nothing"),
        "'owner/nothing'",
        "no such directory here",
        "does not have it",
        "hf auth login",
    )
    one_line(refusal("owner/private"), "or it is private", "hf auth login")
    one_line(
        refusal("owner/gated"),
        "it is gated",
        f"accept its terms at {hub.endpoint}/owner/gated",
        "hf auth login",
    )
    one_line(refusal("owner/tiny@v2"), "no revision 'v2'")
    one_line(refusal("owner/other"), "no lens pack", "config.json")
    with pytest.raises(PackFormatError) as caught:
        LensPack.from_pretrained("owner/model")
    one_line(caught, "'owner/model'", "config.json", "no lens pack")
    one_line(refusal("owner/tiny.git"), "no hub id either")
    assert all(hub.count(f"{name}/") == 1 for name in ("nothing", "private", "gated", "other"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    for name in ("private", "gated"):
        assert LensPack.from_pretrained(f"owner/{name}").name.startswith(f"owner/{name}@")
    assert all(asked.token is None for asked in hub.asked if asked.path.startswith("/cdn/"))


def test_a_revision_is_given_once_and_cannot_lead_out_of_the_cache(hub, commit, one_line):
    for source, revision in (("owner/tiny@v1", "v2"), ("owner/tiny", "../../x"), ("owner/tiny", "a//b")):
        with pytest.raises(ConfigError) as caught:
            LensPack.from_pretrained(source, revision=revision)
        one_line(caught, f"'{revision}'")
    assert hub.asked == []


def test_a_directory_comes_before_a_hub(hub, tmp_path, monkeypatch):
    make_pack(tmp_path / "owner" / "tiny")
    monkeypatch.chdir(tmp_path)
    pack = LensPack.from_pretrained("owner/tiny")
    assert pack.path == Path("owner/tiny")
    assert pack.hub_source is None
    assert pack.name == "tiny"
    assert hub.asked == []


def test_a_link_out_of_the_cache_is_refused(hub, commit, tmp_path, one_line):
    config = LensPack.from_pretrained("owner/tiny").path / "config.json"
    shutil.copy(config, tmp_path / "outside")
    config.unlink()
    config.symlink_to(tmp_path / "outside")
    with pytest.raises(PackFormatError) as caught:
        LensPack.from_pretrained("owner/tiny")
    one_line(caught, "config.json", "a link that leads out of the pack")


@pytest.mark.parametrize(
    "linked", ["", "hub", "hub/models--owner--tiny", "hub/models--owner--tiny/snapshots"]
)
def test_a_cache_may_be_a_link_to_another_disk(hub, commit, tmp_path, linked):
    place = Path(constants.HF_HOME, linked)
    (tmp_path / "disk").mkdir()
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(tmp_path / "disk")
    LensPack.from_pretrained("owner/tiny").verify()
    hub.asked.clear()
    LensPack.from_pretrained("owner/tiny", revision=commit).verify()
    assert hub.asked == []


def test_two_that_fetch_at_once_fetch_it_once(hub, commit):
    opened: list[LensPack] = []
    threads = [
        threading.Thread(target=lambda: opened.append(LensPack.from_pretrained("owner/tiny"))) for _ in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [pack.hub_source for pack in opened] == [f"owner/tiny@{commit}"] * 2
    assert hub.count("GET .*/cdn/") == len(list(snapshot(commit).glob("*.safetensors")))


def test_a_thorough_fetch_mends_what_is_damaged(hub, commit):
    pack = LensPack.from_pretrained("owner/tiny")
    for name in ("config.json", "heads.safetensors"):
        blob = Path(os.path.realpath(pack.path / name))
        blob.write_bytes(b"x" * blob.stat().st_size)
    with pytest.raises(PackFormatError):
        LensPack.from_pretrained("owner/tiny")
    hub.asked.clear()
    fetch("owner/tiny", thorough=True)
    LensPack.from_pretrained("owner/tiny").verify()
    assert hub.count("GET .*resolve") == 2
