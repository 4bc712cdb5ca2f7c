"""The picture of a server's page is of a real run, small, and what the user can mend is one line."""

import struct
from pathlib import Path

import picture_live
import pytest
from chromium import find_chromium

from lenses.errors import ExtraMissing
from tests import hosts
from tests.packs import make_pack
from tests.watched import named_nodes

pytestmark = pytest.mark.usefixtures("warm_servers")


def test_a_picture_is_a_small_png_of_what_a_server_writes(tmp_path: Path) -> None:
    pytest.importorskip("playwright")
    try:
        find_chromium()
    except ExtraMissing as missing:
        pytest.skip(str(missing))
    host = hosts.save(hosts.gemma3(host_id="tiny/host"), tmp_path / "host")
    sizes = {"hidden_size": hosts.HIDDEN, "blocks": hosts.BLOCKS}
    pack = make_pack(tmp_path / "tiny", nodes=named_nodes(), host="tiny/host", host_dir=host, **sizes).path
    out = tmp_path / "live.png"
    words = [
        "--pack",
        str(pack),
        "--prompt",
        "the violin is",
        "--width",
        "700",
        "--height",
        "500",
        "--out",
        str(out),
    ]
    assert picture_live.main(words) == 0
    png = out.read_bytes()
    assert struct.unpack(">II", png[16:24]) == (700, 500)
    assert len(png) < 200_000


def test_a_server_that_does_not_start_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert picture_live.main(["--pack", str(tmp_path / "none")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: the server ended before it was ready: error: ")
    assert "none" in error
    assert len(error.splitlines()) == 1
