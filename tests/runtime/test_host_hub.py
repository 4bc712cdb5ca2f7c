"""A host by its hub id, asked of a real server: loaded and cached, and one line where it cannot be had."""

import logging
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from lenses.errors import HostError
from runtime.host import load_host, on_disk
from tests import hosts
from tests.hub_server import TOKEN, LocalHub

pytestmark = pytest.mark.usefixtures("waits")


@pytest.fixture
def commit(hub: LocalHub, tmp_path: Path) -> str:
    """A model on the hub, as owner/model."""
    return hub.add("owner/model", hosts.save(hosts.gemma3(), tmp_path / "model"))


def refused(name: str, revision: str | None = None) -> str:
    with pytest.raises(HostError) as refusal:
        load_host(name, revision=revision)
    message = str(refusal.value)
    assert "\n" not in message
    assert f"'{name}'" in message
    return message


def test_a_host_is_loaded_from_the_hub_and_then_from_its_cache(
    hub: LocalHub, commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = load_host("owner/model", revision=commit)
    assert host.path == Path(constants.HF_HUB_CACHE, "models--owner--model", "snapshots", commit)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.asked.clear()
    assert load_host("owner/model", revision=commit).path == host.path
    assert hub.asked == []


def test_gated_private_and_missing_are_one_line(
    hub: LocalHub, commit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("owner/gated", tmp_path / "model", gated=True)
    hub.add("owner/private", tmp_path / "model", private=True)
    gated = refused("owner/gated")
    assert "is gated: accept its licence at" in gated
    assert "/owner/gated, then type: hf auth login" in gated
    assert "unless it is private" in refused("owner/private")
    assert "neither a directory here nor on the hub" in refused("owner/nothing")
    assert "has no revision 'v9'" in refused("owner/model", "v9")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert load_host("owner/gated").path is not None


def test_offline_is_one_line_and_so_is_a_host_that_is_cached_in_part(
    hub: LocalHub, commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    huggingface_hub.snapshot_download("owner/model", allow_patterns=["config.json"])
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.asked.clear()
    assert "HF_HUB_OFFLINE is set" in refused("owner/other")
    assert "HF_HUB_OFFLINE is set" in refused("owner/model")
    assert on_disk("owner/model") is None
    assert hub.asked == []


@pytest.mark.parametrize(
    ("match", "status", "advice"),
    [
        ("GET .*revision", 500, "try again"),
        ("GET .*revision", 429, "try again"),
        ("GET .*tree", 403, "hf auth login"),
    ],
)
def test_a_hub_that_is_in_trouble_is_said_to_be(
    hub: LocalHub, commit: str, match: str, status: int, advice: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    hub.fail(match, status=status)
    message = refused("owner/model")
    assert f"HTTP {status}" in message
    assert advice in message


def test_a_host_is_on_disk_though_its_repository_holds_more(
    hub: LocalHub, commit: str, tmp_path: Path
) -> None:
    (tmp_path / "model" / "pytorch_model.bin").write_bytes(b"the same weights, pickled")
    newer = hub.add("owner/model", tmp_path / "model")
    path = load_host("owner/model").path
    assert path is not None
    assert path.name == newer
    assert not (path / "pytorch_model.bin").exists()
    assert on_disk("owner/model") == path
