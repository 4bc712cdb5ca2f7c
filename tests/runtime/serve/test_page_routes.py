"""A server's page: what comes without a token holds nothing; what the page asks for is what other views show."""

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest

from lenses.pack import LensPack
from runtime.generate import encode
from runtime.monitor import Monitor
from runtime.page.contents import page_contents
from runtime.recording.recorder import Recorder
from runtime.transcript import Transcript
from tests import hosts
from tests.runtime.serve.conftest import Served, serving


def test_the_page_runs_what_is_in_it_and_asks_its_server_alone(served: Served) -> None:
    answer = served.http.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    page = answer.text
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    for kind in ("style", "script"):
        (inside,) = re.findall(rf"<{kind}>(.*?)</{kind}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}';" in policy[1]
    assert policy[1].startswith("default-src 'none';")
    assert "connect-src 'self'" in policy[1]
    assert "unsafe" not in policy[1]
    assert not re.search(r"https?:|url\(|@import|<(img|link|iframe)\b", page)


def test_with_a_token_the_page_comes_to_everybody_and_what_it_shows_does_not(pack: LensPack) -> None:
    with serving(pack, token="open sesame") as guarded:
        anybody = {"Authorization": ""}
        page = guarded.http.get("/", headers=anybody)
        assert page.status_code == 200
        assert pack.identity not in page.text
        assert pack.hierarchy.concepts[0].id not in page.text
        for path in ("/page/start", "/page/words", "/page/recording", "/page"):
            assert guarded.http.get(path, headers=anybody).status_code == 401
        assert guarded.http.get("/page/start").status_code == 200


def test_lenses_are_told_in_the_order_of_vectors_with_what_makes_probabilities(
    served: Served, pack: LensPack
) -> None:
    told = served.http.get("/page/start").json()
    assert told["concepts"]["id"] == [concept.id for concept in pack.hierarchy.concepts]
    assert told["concepts"]["slope"] == pytest.approx(pack.heads.platt_slope.tolist(), rel=1e-6)
    assert told["concepts"]["offset"] == pytest.approx(pack.heads.platt_offset.tolist(), rel=1e-6)
    assert told["of"] == len(pack.hierarchy)
    assert told["server"]["has_chat"] is True
    assert str(pack.path.parent) not in str(told)


def test_words_of_a_prompt_are_those_of_every_view(served: Served) -> None:
    text = "the violin is\nthe dog"
    told = served.http.post("/page/words", json={"prompt": text}).json()
    words = Transcript(hosts.tokenizer(), told["tokens"]).words
    assert told["words"] == [word.text for word in words]
    assert told["marks"]["0"] == "<bos>"
    chat = served.http.post("/page/words", json={"messages": [{"role": "user", "content": "the dog"}]}).json()
    same = served.http.post(
        "/v1/tokenize", json={"messages": [{"role": "user", "content": "the dog"}]}
    ).json()
    assert chat["tokens"] == same["tokens"]
    for wrong in ({"prompt": ""}, {"prompt": "dog " * 200}, {}):
        assert served.http.post("/page/words", json=wrong).status_code == 400


def test_entries_say_where_families_came_from_where_that_is_asked_for(served: Served) -> None:
    for asked in (False, True):
        answer = served.client.completions.create(
            model=served.service.name,
            prompt="the violin",
            max_tokens=3,
            extra_body={"lenses": {"run": asked}},
        )
        (choice,) = answer.choices
        assert choice.model_extra is not None
        runs = [entry.get("run") for entry in choice.model_extra["lenses"]["content"]]
        assert all((run is not None) is asked for run in runs)
        if asked:
            assert all(run["hot"] + run["warm"] + run["cold"] > 0 for run in runs)


def test_a_recording_comes_back_as_the_contents_of_its_page(
    served: Served, pack: LensPack, tmp_path: Path
) -> None:
    path = tmp_path / "run.safetensors"
    model, tokenizer = hosts.gemma3(), hosts.tokenizer()
    with Monitor(pack) as monitor:
        with Recorder(monitor, model, tokenizer, path), monitor.attach(model):
            model.generate(**encode(model, tokenizer, "the violin is", 6), max_new_tokens=6, do_sample=False)
        transcript = Transcript.of(tokenizer, monitor.events)
        expected = page_contents(monitor, transcript, title="", pace=None, facts=(), tracks=(), alarms=None)
    expected = json.loads(json.dumps(expected))  # keys that are numbers are texts there
    raw = path.read_bytes()
    told = served.http.post("/page/recording", content=raw).json()
    for name in ("words", "prompt", "event_of", "concepts", "colours"):
        assert told[name] == json.loads(json.dumps(expected[name]))
    for here, there in zip(told["events"], expected["events"], strict=True):
        assert here["p"] == there["p"]
        assert here["top"] == there["top"]
    for wrong in (raw[:-9], b"", b"PK"):
        refused = served.http.post("/page/recording", content=wrong)
        assert refused.status_code == 400
        assert str(tmp_path.parent) not in refused.text
        assert "/tmp" not in refused.json()["error"]["message"]
