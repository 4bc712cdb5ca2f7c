"""`phoropter scan` as it is typed."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from runtime import packs
from runtime.cli import main
from runtime.scan import scanner, texts
from tests import hosts
from tests.packs import make_pack
from tests.watched import named_nodes

HOST = "tiny/host"
Said = tuple[int, str, str]
Type = Callable[..., Said]
LINES = [
    *('{"text": "the dog sits", "id": 1}', '{"text": "the violin is in the house", "id": "b"}', "{"),
    *('{"text": ""}', '{"text": "a cat"}', '{"text": "it plays the violin"}', '{"text": "dog dog dog"}'),
]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("work")
    host = hosts.save(hosts.gemma3(host_id=HOST), here / "host")
    make_pack(
        here / "lens_packs" / packs.DEFAULT_PACK,
        nodes=named_nodes(),
        hidden_size=hosts.HIDDEN,
        blocks=hosts.BLOCKS,
        host=HOST,
        host_dir=host,
    )
    (here / "texts.jsonl").write_text("\n".join(LINES) + "\n")
    return here


@pytest.fixture
def run(shelf: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Type:
    monkeypatch.chdir(shelf)
    monkeypatch.setattr(packs, "__file__", str(shelf / "elsewhere" / "runtime" / "packs.py"))
    monkeypatch.setattr(texts, "WINDOW_LINES", 2)

    def type_in(*words: str | Path) -> Said:
        capsys.readouterr()
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return type_in


def test_a_scan_writes_rows_and_says_what_became_of_every_line(run: Type, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    code, said, errors = run("scan", "texts.jsonl", "--out", out, "--rule", "animal > 0.0 for 3 -> mark")
    assert code == 0, errors
    assert said.startswith("7 lines: 5 ok, 1 empty, 1 no text; ")
    assert "tokens a second, lenses" in said
    assert errors == "" or errors.startswith("warning: the rule 'animal > 0.0 for 3 -> mark'")
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    ends = [row for row in rows if row["kind"] == "sequence"]
    assert [(row["line"], row["id"], row["state"]) for row in ends] == [
        *((1, 1, "ok"), (2, "b", "ok"), (3, None, "bad_line"), (4, None, "empty")),
        *((5, None, "ok"), (6, None, "ok"), (7, None, "ok")),
    ]
    assert [row["rules"][0]["first"] for row in ends if row["rules"]] == [3, 3, 3, 3]
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_interrupted_it_goes_on_and_the_file_is_the_same(
    run: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    whole, out = tmp_path / f"whole{suffix}", tmp_path / f"out{suffix}"
    assert run("scan", "texts.jsonl", "--out", whole)[0] == 0
    forward = scanner.Scanner._forward
    calls: list[int] = []

    def interrupted(self: scanner.Scanner, *told: object) -> None:
        calls.append(1)
        if len(calls) in (2, 3):
            raise KeyboardInterrupt
        forward(self, *told)  # type: ignore[arg-type]

    monkeypatch.setattr(scanner.Scanner, "_forward", interrupted)
    for _ in range(2):
        code, _, errors = run("scan", "texts.jsonl", "--out", out)
        assert code == 130
        assert not out.exists()
    assert "going on after line 4" in errors
    assert "type the same again to go on" in errors
    code, said, _ = run("scan", "texts.jsonl", "--out", out)
    assert (code, said.split(";")[0]) == (0, "7 lines: 5 ok, 1 empty, 1 no text")
    assert out.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [out.name, whole.name]
    code, _, errors = run("scan", "texts.jsonl", "--out", out, "--show", "3")
    assert code == 0, "what is whole is made anew"


def test_parquet_holds_the_same_rows(run: Type, tmp_path: Path) -> None:
    from pyarrow import parquet

    lines, columns = tmp_path / "out.jsonl", tmp_path / "out.parquet"
    told = ("--track", "animal.large.old", "--aggregate", "max", "--rule", "animal > 0.0 -> mark")
    assert run("scan", "texts.jsonl", "--out", lines, *told)[0] == 0
    assert run("scan", "texts.jsonl", "--out", columns, *told)[0] == 0
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    table = parquet.read_table(columns).to_pylist()
    assert len(table) == len(rows)
    for found, row in zip(table, rows, strict=True):
        row["id"] = None if row["id"] is None else str(row["id"])
        assert set(row) <= set(found)
        assert {k: found[k] for k in row if k not in ("concepts", "rules")} == {
            k: v for k, v in row.items() if k not in ("concepts", "rules")
        }
        for name in ("concepts", "rules"):
            for a, b in zip(found[name] or [], row.get(name, []), strict=True):
                assert {k: v for k, v in a.items() if v is not None} == pytest.approx(b, abs=1e-6)


def test_standard_input(run: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shelf: Path) -> None:
    assert run("scan", "texts.jsonl", "--out", tmp_path / "file.jsonl")[0] == 0
    with (shelf / "texts.jsonl").open("rb") as file:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=file))
        assert run("scan", "-", "--out", tmp_path / "in.jsonl")[0] == 0
    assert (tmp_path / "in.jsonl").read_bytes() == (tmp_path / "file.jsonl").read_bytes()


def test_without_pyarrow_it_is_said_before_anything_is_scanned(
    run: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    code, _, errors = run("scan", "no such file", "--out", tmp_path / "out.parquet")
    assert code == 2
    assert "pip install 'phoropter[parquet]'" in errors


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["texts.jsonl", "--out", "out.csv"], "neither .jsonl nor .parquet"),
        (["texts.jsonl", "--out", "out.jsonl", "--show", "0"], "give 1 or more, or all"),
        (["texts.jsonl", "--out", "out.jsonl", "--aggregate", "median"], "mean, max, or ema"),
        (["texts.jsonl", "--out", "out.jsonl", "--track", "animl"], "did you mean animal"),
        (["texts.jsonl", "--out", "out.jsonl", "--rule", "animal > 0.5 -> stop"], "generates nothing"),
        (["texts.jsonl", "--out", "out.jsonl", "--rule", "animal 0.5"], "has no arrow; expected CONCEPT"),
        (["missing.jsonl", "--out", "out.jsonl"], "cannot read missing.jsonl: No such file"),
    ],
)
def test_what_cannot_be_is_one_line(run: Type, words: list[str], found: str) -> None:
    code, said, errors = run("scan", *words)
    assert (code, said) == (2, "")
    assert found in errors
    assert errors.count("\n") == 1
    assert not Path("out.jsonl").exists()
    assert not Path(".out.jsonl.scan").exists()


def test_watch_takes_rules(run: Type, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    told = ("--max-new-tokens", "12", "--temperature", "0", "--jsonl", out)
    rule = "animal > 0.0 for 5 -> stop"
    code, said, errors = run("watch", "the violin is", *told, "--rule", rule)
    assert code == 0, errors
    assert f"stopped by: {rule}, 5 in a row" in said
    events = [json.loads(line) for line in out.read_text().splitlines()]
    assert [event["position"] for event in events] == [0, 1, 2, 3, 4, 5]
    assert events[-1]["rules"][0]["stops"] is True
    code, _, errors = run("watch", *told, "--rule", "animal > 0.5 -> call")
    assert code == 2
    assert "in Python: Rule.parse" in errors
