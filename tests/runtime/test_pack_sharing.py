"""`phoropter pack fetch` and `pack push`, against a hub on this machine."""

from pathlib import Path

import pytest
from huggingface_hub import constants

from runtime.cli import main
from tests.hub_server import TOKEN, LocalHub
from tests.packs import make_pack


@pytest.mark.filterwarnings("ignore:Use 'content=<...>'")  # huggingface_hub's, of its own client
def test_a_pack_is_pushed_fetched_and_shown_with_its_commit(
    hub: LocalHub, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    pack = make_pack(tmp_path / "p")
    assert main(["pack", "push", str(pack.path), "owner/tiny", "--private"]) == 0
    (commit,) = hub.repositories["owner/tiny"].commits
    said = capsys.readouterr().out
    assert f"pushed: {hub.endpoint}/owner/tiny/commit/{commit}\n" in said
    assert said.endswith(f"phoropter pack fetch owner/tiny@{commit}\n")
    assert main(["pack", "fetch", "owner/tiny"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("ok: 21 lenses for tiny-host, every byte checked\n")
    assert said.endswith(f"--pack owner/tiny@{commit}\n")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert main(["pack", "show", f"owner/tiny@{commit}"]) == 0
    said = capsys.readouterr().out
    assert f"owner/tiny@{commit[:7]}" in said
    assert commit in said
    assert pack.identity in said


def test_what_is_on_no_hub_is_one_line(hub: LocalHub, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pack", "fetch", "owner/nothing"]) == 2
    assert capsys.readouterr().err.startswith("error: lens pack 'owner/nothing'")
    assert main(["pack", "fetch", "./somewhere"]) == 2
    assert "give owner/name" in capsys.readouterr().err
