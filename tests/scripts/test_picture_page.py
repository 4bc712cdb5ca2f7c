"""The picture is of a real run's page, small, and what the user can mend is one line."""

import json
import re
import struct
from pathlib import Path

import picture_page
import pytest
from chromium import find_chromium

from lenses.errors import ExtraMissing
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


def typed(pack: Path, *words: str) -> list[str]:
    run = ["--pack", str(pack), "--prompt", "the violin is", "--max-new-tokens", "4", "--track", "animal"]
    return [*run, *words]


def test_a_picture_is_a_small_png_of_the_size_and_scheme_asked_for(pack: Path, tmp_path: Path) -> None:
    pytest.importorskip("playwright")
    try:
        find_chromium()
    except ExtraMissing as missing:
        pytest.skip(str(missing))
    pictures = []
    for scheme in ("light", "dark"):
        out = tmp_path / f"{scheme}.png"
        size = ["--width", "700", "--height", "500"]
        assert picture_page.main(typed(pack, "--scheme", scheme, *size, "--out", str(out))) == 0
        pictures.append(out.read_bytes())
    for png in pictures:
        assert png[:8] == b"\x89PNG\r\n\x1a\n"
        assert struct.unpack(">II", png[16:24]) == (700, 500)
        assert len(png) < 200_000
    assert pictures[0] != pictures[1]


def test_the_page_in_the_picture_is_the_one_that_watch_writes(pack: Path, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    arguments = picture_page.parse(typed(pack, "--prompt=--help"))
    assert picture_page.write_page(arguments, file) == 0
    page = file.read_text()  # a prompt is no option, whatever it looks like
    assert f"seed {arguments.seed}" in page
    told = json.loads(re.search(r'id="data">(.*?)</script>', page)[1])  # type: ignore[index]
    assert [told["concepts"]["id"][track] for track in told["tracks"]] == ["animal"]


def test_what_the_user_can_mend_is_one_line(
    pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("playwright")

    def said(*words: str) -> str:
        assert picture_page.main([*words, "--out", str(tmp_path / "p.png")]) == 2
        return capsys.readouterr().err

    with monkeypatch.context() as without:
        without.setenv("CHROMIUM", "/nowhere/chrome")
        assert re.fullmatch(r"error: no Chromium [^\n]*apt-get install chromium[^\n]*\n", said(*typed(pack)))
        without.setenv("CHROMIUM", "/bin/false")
        assert re.fullmatch(r"error: /bin/false does not start[^\n]*\n", said(*typed(pack)))
    assert re.fullmatch(r"error: [^\n]*nowhere[^\n]*\n", said("--pack", "nowhere"))
    assert re.fullmatch(
        r"error: [^\n]*did you mean animal[^\n]*\n", said("--pack", str(pack), "--track", "animol")
    )
    try:
        find_chromium()
    except ExtraMissing as missing:
        pytest.skip(str(missing))
    assert re.fullmatch(r"error: --word 99[^\n]*0 to 7[^\n]*\n", said(*typed(pack, "--word", "99")))
    assert list(tmp_path.iterdir()) == [], "nothing half-written"
