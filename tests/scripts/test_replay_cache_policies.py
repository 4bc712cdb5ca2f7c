"""Recording and replaying end to end on a tiny dictionary, a tiny host and a tiny pack: what is counted and written."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import replay_cache_policies
from caching import sessions
from caching.orders import EVERYWHERE, ORDERS
from caching.page import markdown
from replay_cache_policies import MUST_SHOW, main, must_show
from rich.progress import Progress

from lenses.importers.wordnet import read_wordnet
from lenses.pack import LensPack
from lenses.state import input_states
from runtime.generate import encode
from runtime.hook import Rows, Tap
from runtime.host import load_host
from tests import hosts
from tests.packs import make_pack
from tests.wordnet_dict import Entry, write

POSITIONS = 8
"""Of a kind: of two sessions, each with five."""
PAGE = "\n\n".join(["the dog sits in the house it is a cat", "short"] * 10)


@pytest.fixture(scope="module", autouse=True)
def _small_numbers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A tiny dictionary's texts are of few tokens, and a tiny host goes on for ever."""
    root = tmp_path_factory.mktemp("root")
    (root / "PAGE.md").write_text(PAGE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sessions, "PROMPT_TOKENS", 3)
        patch.setattr(sessions, "NEW_TOKENS", 5)
        patch.setattr(sessions, "UNRELATED", 2)
        patch.setattr(replay_cache_policies, "ITERATIONS", 10)
        patch.setattr(replay_cache_policies, "ROOT", root)
        patch.setattr(replay_cache_policies, "PAGES", ("PAGE.md",))
        patch.setattr(replay_cache_policies, "NARROW", (2, 0.5))
        # Every family has three lenses of 18: the smallest budget must hold one.
        patch.setattr(replay_cache_policies, "BUDGETS", (0.1, 0.25, 0.5, 1.0))
        yield


@pytest.fixture(scope="module")
def wordnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    entries = [Entry("top", ["top"], "the dog sits in a house")]
    entries += [
        Entry(
            f"k{n}",
            [f"k{n}"],
            f"the {hosts.WORDS[n % 26]} sits in {hosts.WORDS[n % 7]} house it plays",
            ["top"],
        )
        for n in range(400)
    ]
    return write(tmp_path_factory.mktemp("dict"), entries)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> LensPack:
    directory = tmp_path_factory.mktemp("packs")
    host = hosts.save(hosts.gemma3(host_id="tiny"), directory / "host")
    return make_pack(
        directory / "tiny",
        branching=(3, 3, 2, 2),
        hidden_size=hosts.HIDDEN,
        blocks=hosts.BLOCKS,
        host="tiny",
        site="resid_post.1",
        pooling="ewm:0.7",
        base_levels=(0,),
        top_k=20,
        load_threshold=0.1,
        host_dir=host,
    )


@pytest.fixture(scope="module")
def report(
    wordnet: Path, pack: LensPack, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("reports") / "tiny"
    arguments = [f"--pack={pack.path}", f"--wordnet={wordnet}", f"--out={out}", f"--positions={POSITIONS}"]
    assert main(arguments) == 0
    return out, json.loads(out.with_suffix(".json").read_text())


def test_every_kind_of_text_is_there_and_states_are_as_served(
    wordnet: Path, pack: LensPack, tmp_path: Path
) -> None:
    (tmp_path / "page.md").write_text(PAGE)
    assert pack.host_dir is not None
    host = load_host(pack.host_dir, device="cpu")
    with Progress(disable=True) as progress:
        found = sessions.record(
            host, pack, read_wordnet(wordnet), [tmp_path / "page.md"], POSITIONS, progress
        )
    positions = dict.fromkeys(sessions.KINDS, 0)
    for session in found:
        assert session.prompt == 3
        positions[session.kind] += len(session.states_PD) - session.prompt
    assert all(count >= POSITIONS for count in positions.values())
    # What the host made of a page, one token at a time.
    rows = Rows()
    inputs = encode(host.model, host.tokenizer, PAGE.split("\n\n")[0])
    with Tap(host.model, pack.config.site, rows):
        cache = None
        for token in inputs["input_ids"][0]:
            cache = host.model(
                input_ids=token[None, None], past_key_values=cache, use_cache=True
            ).past_key_values
    prose = next(session for session in found if session.kind == "prose")
    np.testing.assert_allclose(
        prose.states_PD, input_states(rows.take_BTD()[0, 1:], pack.config.input), rtol=1e-4, atol=1e-5
    )


def test_the_replay_is_what_engine_and_cache_count(report: tuple[Path, dict[str, Any]]) -> None:
    for setting in report[1]["settings"]:
        assert setting["check"]["equal"]
        for one in ("engine", "cache"):
            assert setting["check"][one]["counted"]["generation_requests"] > 0


def test_every_order_is_at_its_budgets_and_none_exceeds_the_bound(
    report: tuple[Path, dict[str, Any]],
) -> None:
    for setting in report[1]["settings"]:
        assert [at["share"] for at in setting["budgets"]] == [0.1, 0.25, 0.5, 1.0]
        for at in setting["budgets"] + setting["by_kind"]:
            for one in at["orders"].values():
                assert 0 <= one["generation_hit_rate"] <= at["bound"] + 1e-3
                assert one["peak_bytes"] <= at["budget_bytes"]
        for at in setting["budgets"]:
            assert set(at["orders"]) == set(ORDERS if at["share"] == MUST_SHOW else EVERYWHERE)
        whole = setting["budgets"][-1]["orders"].values()
        assert len({one["generation_hit_rate"] for one in whole}) == 1  # what is read is never evicted
        assert {kind["kind"] for kind in setting["by_kind"]} == set(sessions.KINDS)


def test_what_is_found_anywhere_in_memory_grows_with_the_warm_tier(
    report: tuple[Path, dict[str, Any]],
) -> None:
    for setting in report[1]["settings"]:
        none, *more = setting["warm"]
        assert none["warm"] == 0
        for one in setting["warm"]:
            assert one["hot"] + one["warm"] + one["cold"] == pytest.approx(1, abs=1e-3)
        assert more[-1]["cold"] <= none["cold"]


def test_the_same_question_gets_the_same_answer_and_the_page_is_made_of_the_json(
    wordnet: Path, pack: LensPack, report: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    out, found = report
    arguments = [f"--pack={pack.path}", f"--wordnet={wordnet}", f"--positions={POSITIONS}"]
    assert main([*arguments, f"--out={tmp_path / 'again'}"]) == 0
    again = json.loads((tmp_path / "again.json").read_text())
    assert again.keys() == found.keys()
    for part in again.keys() - {"run"}:
        assert again[part] == found[part], part
    assert again["run"]["configuration_sha256"] == found["run"]["configuration_sha256"]
    assert must_show(found) == found["must_show"]
    page = out.with_suffix(".md").read_text()
    drawn = sorted(path.name for path in (out.parent / "pictures").iterdir())
    assert drawn == ["tiny-narrow.svg", "tiny-wide.svg"]
    assert markdown(found, [f"pictures/{name}" for name in drawn]) == page
    assert all(f"(pictures/{name})" in page for name in drawn)
    assert page.count("| 25% |") >= 2


def test_what_is_missing_is_one_line(
    wordnet: Path,
    pack: LensPack,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    homeless = make_pack(tmp_path / "homeless").path
    out = f"--out={tmp_path / 'x'}"
    assert main([f"--pack={homeless}", f"--wordnet={wordnet}", out]) == 2
    assert main([f"--pack={pack.path}", f"--wordnet={wordnet}", out, "--positions=100000"]) == 2
    monkeypatch.setattr(replay_cache_policies, "BUDGETS", (0.01,))
    assert main([f"--pack={pack.path}", f"--wordnet={wordnet}", out, f"--positions={POSITIONS}"]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "has no host inside" in errors[0]
    assert "ask for fewer" in errors[1]
    assert "the largest family" in errors[2]
