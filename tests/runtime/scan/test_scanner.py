"""A scan says what a monitor says of each text alone, whatever is scanned beside it."""

import json
from typing import Any

import pytest
import torch

from lenses.errors import ConfigError
from lenses.pack import LensPack
from runtime.config import MonitorConfig
from runtime.events import Event
from runtime.host import Host
from runtime.monitor import Monitor
from runtime.rules import Rule
from runtime.scan import scanner
from runtime.scan.aggregate import Aggregation
from runtime.scan.scanner import Scanner, Selection, scan_config
from runtime.scan.texts import Text
from tests import hosts
from tests.packs import make_pack

DEEP = "c2-1-0-1"
WRITTEN = [
    "the dog sits in the house",
    "",
    "violin",
    "the cat plays the violin in the house it sits in " * 3,
    "it is a dog",
    " \n ",
    "a b c d e f g h i j " * 20,
]
TEXTS = [Text(line, text, f"t{line}") for line, text in enumerate(WRITTEN, 1)]
TEXTS.insert(3, Text(len(TEXTS) + 1, "", None, "not valid JSON"))
RULE = Rule.parse(f"{DEEP} > 0.4 for 2 -> mark")


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> LensPack:
    return make_pack(
        tmp_path_factory.mktemp("pack") / "p",
        branching=(4, 3, 3, 2),
        hidden_size=hosts.HIDDEN,
        blocks=hosts.BLOCKS,
        pooling="ema:0.6",
        site="resid_post.1",
        base_levels=(0,),
        load_threshold=0.5,
        top_k=3,
        seed=3,
    )


@pytest.fixture(scope="module")
def host() -> Host:
    return Host(hosts.gemma3(), hosts.tokenizer(), "tiny-host", None)


def scan(
    pack: LensPack,
    host: Host,
    texts: list[Text],
    selection: Selection | None = None,
    name: str = "mean",
    **told: Any,
) -> tuple[list[dict[str, Any]], Scanner]:
    selection = selection or Selection(show=None)
    with Monitor(pack, scan_config(MonitorConfig(**told), selection)) as monitor, monitor.attach(host.model):
        one = Scanner(monitor, host, selection=selection, aggregation=Aggregation.parse(name))
        rows = b"".join(one.scan(texts))
    return [json.loads(line) for line in rows.splitlines()], one


def watched(pack: LensPack, host: Host, text: str, **told: Any) -> list[Event]:
    """The slow, obvious way: one text in one forward."""
    ids = host.tokenizer(text)["input_ids"][:128]
    with Monitor(pack, **told) as monitor, monitor.attach(host.model), torch.inference_mode():
        host.model(input_ids=torch.tensor([ids]), use_cache=False)
        monitor.finish(0)
    return list(monitor.events)


@pytest.fixture(scope="module")
def rows(pack: LensPack, host: Host) -> list[dict[str, Any]]:
    return scan(pack, host, TEXTS, rules=(RULE,))[0]


def test_rows_are_what_a_monitor_says_of_each_text_alone(
    pack: LensPack, host: Host, rows: list[dict[str, Any]]
) -> None:
    for text in TEXTS:
        tokens = [row for row in rows if row["line"] == text.line and row["kind"] == "token"]
        if not text.text.strip():
            assert not tokens
            continue
        events = watched(pack, host, text.text, rules=(RULE,))
        assert [(r["position"], r["token"], r["state"]) for r in tokens] == [
            (e.position, e.token, e.state) for e in events
        ]
        assert "".join(row["text"] for row in tokens).split() == text.text.split()[:127]
        for row, event in zip(tokens, events, strict=True):
            of = {score.id: score.probability for score in event.ranked()}
            found = {concept["id"]: concept["probability"] for concept in row["concepts"]}
            assert found == pytest.approx(of, abs=1e-4)
            assert [m["rule"] for m in row.get("rules", [])] == [str(m.rule) for m in event.met]
            assert (row["expected"], row["failed"]) == (event.coverage.expected, 0)


def test_a_text_alone_gives_the_rows_that_it_has_beside_others(
    pack: LensPack, host: Host, rows: list[dict[str, Any]]
) -> None:
    for text in TEXTS:
        alone, _ = scan(pack, host, [text], rules=(RULE,))
        beside = [row for row in rows if row["line"] == text.line]
        assert len(alone) == len(beside)
        for a, b in zip(alone, beside, strict=True):
            assert {k: v for k, v in a.items() if k not in ("concepts", "rules")} == {
                k: v for k, v in b.items() if k not in ("concepts", "rules")
            }
            assert {c["id"]: c["probability"] for c in a["concepts"]} == pytest.approx(
                {c["id"]: c["probability"] for c in b["concepts"]}, abs=1e-4
            )


def test_rows_come_in_the_order_of_the_texts_and_each_text_says_what_became_of_it(
    rows: list[dict[str, Any]],
) -> None:
    lines = [row["line"] for row in rows]
    assert list(dict.fromkeys(lines)) == [text.line for text in TEXTS]
    ends = {row["line"]: row for row in rows if row["kind"] == "sequence"}
    assert all(rows[max(at for at, n in enumerate(lines) if n == line)] is end for line, end in ends.items())
    states = [ends[text.line]["state"] for text in TEXTS]
    assert states == ["ok", "empty", "ok", "bad_line", "ok", "ok", "empty", "cut"]
    assert ends[8]["problem"] == "not valid JSON"
    cut = ends[7]
    assert (cut["tokens"], cut["read"], cut["scored"]) == (201, 128, 127)
    for end in ends.values():
        of = [row for row in rows if row["line"] == end["line"] and row["kind"] == "token"]
        assert end["read"] == len(of)
        met = [row["position"] for row in of if "rules" in row]
        told = [{"rule": str(RULE), "positions": len(met), "first": met[0]}] if met else []
        assert end["rules"] == told
    assert any(end["rules"] for end in ends.values())


@pytest.mark.parametrize("name", ["mean", "max", "ema:0.8"])
def test_a_text_is_aggregated_over_its_tokens(pack: LensPack, host: Host, name: str) -> None:
    rows, _ = scan(pack, host, TEXTS[:1], name=name)
    *tokens, end = rows
    assert end["aggregate"] == name
    for concept in end["concepts"]:
        p = [c["probability"] for row in tokens for c in row["concepts"] if c["id"] == concept["id"]]
        ema = p[0]
        for value in p[1:]:
            ema = 0.8 * ema + 0.2 * value
        expected = {"mean": sum(p) / len(p), "max": max(p), "ema:0.8": ema}[name]
        assert concept["probability"] == pytest.approx(expected, abs=2e-6)
        assert concept["positions"] == len(p)


def test_tracked_concepts_are_scored_at_every_position_and_alone(pack: LensPack, host: Host) -> None:
    texts = TEXTS[:3]
    everything, _ = scan(pack, host, texts, exhaustive=True)
    rows, _ = scan(pack, host, texts, Selection((DEEP, "c0")))
    assert [row["kind"] for row in rows] == [row["kind"] for row in everything]
    for row, full in zip(rows, everything, strict=True):
        of = {concept["id"]: concept["probability"] for concept in full["concepts"]}
        assert [c["id"] for c in row["concepts"]] == ([DEEP, "c0"] if of else [])
        assert {c["id"]: c["probability"] for c in row["concepts"]} == pytest.approx(
            {id: of[id] for id in (DEEP, "c0") if of}, abs=2e-6
        )
        if row["kind"] == "token" and of:
            assert row["expected"] == 4, "the walk is left out"


def test_only_the_strongest_are_shown(pack: LensPack, host: Host, rows: list[dict[str, Any]]) -> None:
    few, _ = scan(pack, host, TEXTS, Selection(show=2), rules=(RULE,))
    assert [row | {"concepts": row["concepts"][:2]} for row in rows] == few


def test_everything_is_counted(pack: LensPack, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    _, one = scan(pack, host, TEXTS)
    counts = one.counts
    assert (counts.lines, counts.ok, counts.empty, counts.cut, counts.bad_line) == (8, 4, 2, 1, 1)
    assert counts.tokens == 7 + 2 + 34 + 5 + 128
    monkeypatch.setattr(scanner, "BATCH_TOKENS", 1)
    assert scan(pack, host, TEXTS)[1].counts == counts, "a text longer than a batch has one of its own"


def test_rows_that_are_not_finite_are_told_and_counted(pack: LensPack) -> None:
    model = hosts.gemma3()
    with torch.no_grad():
        model.model.embed_tokens.weight[hosts.tokenizer()("violin")["input_ids"][1]] = torch.nan
    host = Host(model, hosts.tokenizer(), "tiny-host", None)
    rows, one = scan(pack, host, TEXTS[:3])
    states = [row["state"] for row in rows if row["kind"] == "token" and row["text"].strip() == "violin"]
    assert states == ["non_finite"]
    assert one.counts.not_finite == 1
    (end,) = [row for row in rows if row["kind"] == "sequence" and row["line"] == 3]
    assert (end["state"], end["scored"], end["not_finite"], end["concepts"]) == ("ok", 0, 1, [])


def test_a_rule_that_stops_is_refused() -> None:
    with pytest.raises(ConfigError, match="generates nothing"):
        scan_config(MonitorConfig(rules=(Rule.parse("a > 0.5 -> stop"),)), Selection())
