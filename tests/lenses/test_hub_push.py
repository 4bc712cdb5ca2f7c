"""A pack is pushed to a hub as one commit and comes back the same; a push that fails is one line."""

import os
import shutil

import pytest
from huggingface_hub import constants

from lenses import LensPack
from lenses.errors import PackIntegrityError, WriteError
from lenses.transfer import ATTEMPTS
from tests.hub_server import TOKEN, LocalHub
from tests.packs import make_pack

pytestmark = [
    pytest.mark.usefixtures("waits"),
    # huggingface_hub uploads large files with an argument that its own client has deprecated.
    pytest.mark.filterwarnings("ignore:Use 'content=<...>'"),
]


@pytest.fixture
def writer(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> LocalHub:
    """A hub that the test may write to."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return hub


def test_a_pack_that_is_pushed_comes_back_the_same(writer, tmp_path):
    pack = make_pack(tmp_path / "p", max_shard_bytes=1000)
    (pack.path / "notes.txt").write_text("mine")
    address = pack.push_to_hub("owner/tiny")
    commit = address.rpartition("/")[2]
    assert address == f"{writer.endpoint}/owner/tiny/commit/{commit}"
    assert sorted(writer.repositories["owner/tiny"].commits[commit]) == sorted(
        set(os.listdir(pack.path)) - {"notes.txt"}
    )
    fetched = LensPack.from_pretrained("owner/tiny")
    fetched.verify()
    assert fetched.identity == pack.identity
    assert fetched.hub_source == f"owner/tiny@{commit}"
    assert not writer.repositories["owner/tiny"].private


def test_a_push_is_one_commit_and_takes_away_lenses_of_the_pack_before(writer, tmp_path):
    make_pack(tmp_path / "many", max_shard_bytes=1000).push_to_hub("owner/tiny")
    repository = writer.repositories["owner/tiny"]
    before = repository.resolve("main")
    repository.commits[before][".gitattributes"] = b"kept"
    pack = make_pack(tmp_path / "one", seed=1)
    pack.push_to_hub("owner/tiny", private=True)
    assert len(repository.commits) == 2
    assert sorted(repository.commits[repository.resolve("main")]) == [
        ".gitattributes",
        *sorted(os.listdir(pack.path)),
    ]


def test_a_pack_that_is_there_already_makes_no_commit(writer, tmp_path):
    pack = make_pack(tmp_path / "p")
    assert pack.push_to_hub("owner/tiny") == pack.push_to_hub("owner/tiny")
    assert len(writer.repositories["owner/tiny"].commits) == 1


def test_a_private_push_is_private_and_a_fetched_pack_may_be_pushed(writer, tmp_path, monkeypatch):
    make_pack(tmp_path / "p").push_to_hub("owner/tiny")
    fetched = LensPack.from_pretrained("owner/tiny")
    fetched.push_to_hub("other/copy", private=True)
    assert writer.repositories["other/copy"].private
    shutil.rmtree(constants.HF_HUB_CACHE)
    assert LensPack.from_pretrained("other/copy").identity == fetched.identity


def test_a_push_that_may_pass_is_tried_again(writer, tmp_path, waits):
    writer.fail("POST .*/create", status=503, times=1)
    writer.fail("POST .*/commit/", status=503, times=2)
    make_pack(tmp_path / "p").push_to_hub("owner/tiny")
    assert len(waits) == 3
    assert len(writer.repositories["owner/tiny"].commits) == 1


def test_a_push_that_fails_is_one_line_and_leaves_nothing(hub, tmp_path, one_line, monkeypatch, waits):
    pack = make_pack(tmp_path / "p")
    with pytest.raises(WriteError) as caught:
        pack.push_to_hub("owner/tiny")  # nobody is logged in
    one_line(caught, "cannot push", "'owner/tiny'", "HTTP 401", "hf auth login")
    assert hub.count("POST .*/create") == 1
    with pytest.raises(WriteError) as caught:
        pack.push_to_hub("owner/two words")
    one_line(caught, "'owner/two words'", "give a name such as owner/name")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.fail("POST .*/commit/", status=500)
    with pytest.raises(WriteError) as caught:
        pack.push_to_hub("owner/tiny")
    one_line(caught, "HTTP 500", f"after {ATTEMPTS} attempts", "nothing of it is seen")
    assert hub.repositories["owner/tiny"].commits == {}
    hub.fail("PUT /lfs", status=403)
    hub.stored.clear()
    with pytest.raises(WriteError) as caught:
        pack.push_to_hub("owner/tiny")
    one_line(caught, "HTTP 403")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WriteError) as caught:
        pack.push_to_hub("owner/tiny")
    one_line(caught, "offline")


def test_a_damaged_pack_is_not_pushed(writer, tmp_path):
    pack = make_pack(tmp_path / "p")
    (pack.path / "concepts.jsonl").write_bytes(b"x")
    with pytest.raises(PackIntegrityError):
        pack.push_to_hub("owner/tiny")
    assert writer.asked == []
