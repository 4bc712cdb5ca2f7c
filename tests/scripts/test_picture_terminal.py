"""The picture is of a real run, small, the same each time, and asks for nothing when it is looked at."""

import re
from pathlib import Path
from xml.etree import ElementTree

import picture_terminal
import pytest

from tests import hosts
from tests.packs import make_pack
from tests.watched import named_nodes


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny pack with its host inside."""
    here = tmp_path_factory.mktemp("picture")
    host = hosts.save(hosts.gemma3(host_id="tiny/host"), here / "host")
    sizes = {"hidden_size": hosts.HIDDEN, "blocks": hosts.BLOCKS}
    return make_pack(here / "tiny", nodes=named_nodes(), host="tiny/host", host_dir=host, **sizes).path


def picture(pack: Path, out: Path, *words: str) -> str:
    typed = ["--pack", str(pack), "--prompt", "the violin is", "--max-new-tokens", "8", "--out", str(out)]
    assert picture_terminal.main([*typed, *words]) == 0
    return out.read_text()


def test_a_picture_refers_to_nothing_outside_and_is_small(pack: Path, tmp_path: Path) -> None:
    svg = picture(pack, tmp_path / "new" / "p.svg", "--track", "animal", "--track", "animal.large.old")
    ElementTree.fromstring(svg)
    assert len(svg.encode()) < 60_000
    for request in ("url(http", "@font-face", "@import", "href", "<image", "<script"):
        assert request not in svg
    text = re.sub(r"<[^>]*>", "", svg).replace("&#160;", " ")
    for shown in (
        "phoropter watch",
        "--track animal",
        "tracked",
        "not scored",
        "active before",
        "8/8 tokens",
    ):
        assert shown in text


def test_the_command_in_the_picture_is_the_one_to_type() -> None:
    arguments = picture_terminal.parse(["--prompt", "the dog's", "--seed", "4", "--track", "a.n.01"])
    assert picture_terminal.command(arguments) == (
        """phoropter watch 'the dog'"'"'s' --seed 4 --track a.n.01"""
    )


def test_what_the_user_can_mend_is_one_line(
    pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for words, said in (
        (["--pack", "nowhere"], "nowhere"),
        (["--pack", str(pack), "--track", "animol"], "did you mean animal"),
        (
            ["--pack", str(pack), "--prompt", "the", "--max-new-tokens", "2", "--out", f"{tmp_path}/file/p"],
            "--out",
        ),
    ):
        assert picture_terminal.main(words) == 2
        assert re.fullmatch(rf"error: [^\n]*{said}[^\n]*\n", capsys.readouterr().err)
