"""`phoropter serve` as it is typed."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from runtime.cli import main
from tests.runtime.serve.conftest import expect

ROOT = Path(__file__).parents[3]
RUN = "import sys; from runtime.cli import main; sys.exit(main())"


def test_it_serves_the_travelling_pack_until_it_is_told_to_end(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("sesame\n")
    with subprocess.Popen(
        [sys.executable, "-c", RUN, "serve", "--port", "0", "--token-file", str(tmp_path / "token")],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith(
                "serving phoropter/wordnet-mini-host · lenses wordnet-mini · http://127.0.0.1:"
            )
            with httpx.Client(base_url=line.split()[-1], timeout=60) as http:
                assert http.get("/ready").status_code == 401
                http.headers["Authorization"] = "Bearer sesame"
                expect(lambda: "not tried yet" not in http.get("/ready").text, 60)
                assert http.get("/ready").json()["status"] == "ready", http.get("/ready").text
                body = {
                    "prompt": "The dog",
                    "max_tokens": 6,
                    "temperature": 0,
                    "lenses": {"track": ["dog.n.01"]},
                }
                choice = http.post("/v1/completions", json=body).json()["choices"][0]
                assert choice["text"].startswith(" is a person")
                assert choice["lenses"]["content"][0]["track"]["dog.n.01"] > 0.9
                chat = {"messages": [{"role": "user", "content": "The dog"}], "max_tokens": 3}
                assert http.post("/v1/chat/completions", json=chat).status_code == 200
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
            assert process.stderr is not None
            said = process.stderr.read()
            assert "The dog" not in said
            assert "Traceback" not in said
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--host", "0.0.0.0"], "is not the loopback"),
        (["--host", "0.0.0.0", "--token-file", "nowhere"], "token file 'nowhere' cannot be read"),
        (["--token-file", "empty"], "holds nothing; write one token into it"),
        (["--token-file", "words"], "holds several words"),
        (["--port", "66000"], "port 66000 cannot be; give 0 to 65535"),
        (["--host", "203.0.113.7", "--token-file", "good"], "cannot be had"),
        (["--rate", "0"], "rate per minute is 0; give more than 0"),
        (["--max-body", "much"], "is not understood"),
        (["--pack", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_served_is_said_in_one_line(
    words: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in (("empty", " \n"), ("words", "open sesame"), ("good", "sesame")):
        Path(name).write_text(text)
    port = [] if "--port" in words else ["--port", "0"]
    assert main(["serve", *words, *port]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert says in said
    assert len(said.splitlines()) == 1


def test_a_port_that_is_taken_shows_before_anything_is_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["serve", "--port", str(port)]) == 2
    assert f"127.0.0.1 port {port} cannot be had" in capsys.readouterr().err


def test_a_missing_extra_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["serve"]) == 2
    assert "pip install 'phoropter[serve]'" in capsys.readouterr().err
