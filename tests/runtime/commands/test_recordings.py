"""`phoropter record`, `replay`, `diff` and `watch --record` as they are typed."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime import packs
from runtime.cli import main
from runtime.recording.recording import Recording
from tests import hosts
from tests.packs import make_pack
from tests.watched import named_nodes

Said = tuple[int, str, str]
Type = Callable[..., Said]
HOST = "tiny/host"
TINY = {"hidden_size": hosts.HIDDEN, "blocks": hosts.BLOCKS, "host": HOST}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a pack that has its host, another for the same rows, and one for another site."""
    here = tmp_path_factory.mktemp("work")
    host = hosts.save(hosts.gemma3(host_id=HOST, max_position_embeddings=4096), here / "host")
    lens_packs = here / "lens_packs"
    make_pack(lens_packs / packs.DEFAULT_PACK, nodes=named_nodes(), host_dir=host, null_texts=400, **TINY)  # type: ignore[arg-type]
    make_pack(lens_packs / "other", branching=(3, 2), seed=4, **TINY)  # type: ignore[arg-type]
    make_pack(lens_packs / "elsewhere", branching=(3, 2), site="resid_post.1", **TINY)  # type: ignore[arg-type]
    return here


@pytest.fixture
def run(shelf: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Type:
    """Type a command in the working directory: exit code, standard output, standard error."""
    monkeypatch.chdir(shelf)
    monkeypatch.setattr(packs, "__file__", str(shelf / "elsewhere" / "runtime" / "packs.py"))

    def type_in(*words: str | Path) -> Said:
        capsys.readouterr()
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return type_in


def record(run: Type, path: Path, *words: str) -> Path:
    code, said, errors = run("record", *(words or ("the violin is",)), "--max-new-tokens", "5", "--out", path)
    assert (code, said) == (0, "")
    assert errors.startswith(f"recorded {path}: ")
    return path


def events_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_watched_run_is_replayed_as_it_was_shown(run: Type, tmp_path: Path) -> None:
    flags = [
        "--show",
        "3",
        "--track",
        "animal",
        "--alarm-budget",
        "100",
        "--rule",
        "animal > 0.01 for 2 -> mark",
    ]
    typed = ["watch", "the violin is", "--max-new-tokens", "5", *flags, "--record", tmp_path / "runs"]
    code, watched, errors = run(*typed, "--jsonl", tmp_path / "watched", "--html", tmp_path / "watched.html")
    (file,) = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"\d{8}-\d{6}-the-violin-is\.safetensors", file.name)
    assert (code, errors.splitlines()[-1]) == (0, f"recorded {file}: 1 sequence, 9 tokens, {_size(file)}")
    views = ["--jsonl", tmp_path / "replayed", "--html", tmp_path / "replayed.html"]
    code, replayed, errors = run("replay", file, *flags[:6], *views)
    assert (code, errors) == (0, "")
    assert replayed.splitlines()[:-1] == watched.splitlines()[:-1]
    facts = [line.splitlines()[-1] for line in (watched, replayed)]
    timed = re.compile(r"[\d.]+ ms a token \(host [\d.]+, lenses [\d.]+\)")
    assert timed.sub("", facts[0]) == timed.sub("", facts[1])
    assert timed.search(facts[1])
    assert events_of(tmp_path / "replayed") == events_of(tmp_path / "watched"), "the run, too, is as it was"
    page = (tmp_path / "replayed.html").read_text()
    assert "temperature 0.7, seed 0" in page
    assert "recorded" in page
    assert run(*typed)[0] == 0
    assert len(list((tmp_path / "runs").iterdir())) == 2


def _size(file: Path) -> str:
    from runtime.session import format_bytes

    return format_bytes(file.stat().st_size)


def test_another_pack_scores_the_rows_as_it_does_live(run: Type, tmp_path: Path) -> None:
    file = record(run, tmp_path / "run")
    typed = ["--jsonl", tmp_path / "replayed", "--out", tmp_path / "again"]
    code, said, errors = run("replay", file, "--pack", "other", *typed)
    assert (code, errors) == (0, f"recorded {tmp_path / 'again'}: 1 sequence, 9 tokens\n")
    assert re.search(r"\(host [0-2]\.\d, lenses ", said), "no host takes time, but a busy machine may"
    live = ["--pack", "other", "--model", "host", "--max-new-tokens", "5", "--jsonl", tmp_path / "live"]
    assert run("watch", "the violin is", *live)[0] == 0
    content = [
        [
            {name: value for name, value in event.items() if name != "run"}
            for event in events_of(tmp_path / of)
        ]
        for of in ("replayed", "live")
    ]
    assert content[0] == content[1]
    assert Recording.load(tmp_path / "again").about.pack.name == "other"
    code, _, errors = run("replay", file, "--pack", "elsewhere")
    assert code == 2
    assert errors == (
        "error: the pack elsewhere is for site resid_post.1, the rows of the recording are of site resid_post.2; give "
        "a pack for these, or record the run again\n"
    )


def test_settings_have_the_rows_scored_again(run: Type, tmp_path: Path) -> None:
    file = record(run, tmp_path / "run")
    for flags, scored in (
        ([], None),
        (["--exhaustive"], 21),
        (["--base-levels", "0", "--max-level", "0"], 3),
        (["--load-threshold", "1", "--base-levels", "0"], 3),
    ):
        run("replay", file, "--jsonl", tmp_path / "o", *flags)
        found = {event["scored"] for event in events_of(tmp_path / "o") if event["state"] == "ok"}
        assert scored is None or found == {scored}
    rule = [
        "--rule",
        "animal > 0.0 for 2 -> mark",
        "--device",
        "cpu",
        "--hot-budget",
        "1MiB",
        "--warm-budget",
        "0",
    ]
    assert "met: animal > 0.0 for 2 -> mark" in run("replay", file, *rule)[1]
    code, _, errors = run("replay", file, "--hot-budget", "1")
    assert code == 2
    assert "budget" in errors
    code, _, errors = run("replay", file, "--rule", "animal > 0.5 -> stop")
    assert (code, errors.endswith("generates nothing that could be stopped; give it mark\n")) == (2, True)


def test_several_prompts_are_one_batch(run: Type, tmp_path: Path) -> None:
    file = record(run, tmp_path / "run", "the violin is", "dog")
    recording = Recording.load(file)
    assert [sequence.prompt for sequence in recording.sequences] == [4, 2]
    code, said, errors = run("replay", file, "--sequence", "1", "--jsonl", tmp_path / "all")
    assert (code, errors) == (0, "this is sequence 1 of 2; see --sequence\n")
    assert [line.split()[1] for line in said.splitlines()[:-1]] == ["read"] + ["wrote"] * 5
    assert {event["sequence"] for event in events_of(tmp_path / "all")} == {0, 1}
    code, _, errors = run("replay", file, "--sequence", "2")
    assert (code, errors) == (2, f"error: sequence 2 is not in {file}: {recording}, counted from 0\n")


def test_diff_says_where_runs_part_and_its_exit_code_whether(run: Type, tmp_path: Path) -> None:
    one = record(run, tmp_path / "one")
    again = record(run, tmp_path / "again")
    code, said, errors = run("diff", one, again)
    assert (code, said, errors) == (0, "equal: 1 sequence, 9 tokens, the same contents at 8 positions\n", "")
    run("replay", one, "--exhaustive", "--out", tmp_path / "all")
    code, said, errors = run("diff", one, tmp_path / "all", "--show", "1", "--positions", "2")
    lines = said.splitlines()
    assert (code, errors) == (1, "")
    assert "config.exhaustive\tFalse\tTrue" in lines
    assert "tokens are the same" in lines
    assert re.search(r"^contents part at position \d; \d of 8 positions differ", said, re.M)
    assert re.search(r"^\d\t'\S+'\tcoverage, scores\t\S.*\tnot scored\t[01]\.\d{4}\t$", said, re.M)
    assert re.search(r"^\t\tand \d+ positions? more\t", said, re.M)

    other = record(run, tmp_path / "other", "the violin is", "--seed", "8")
    code, said, _ = run("diff", one, other, "--json")
    found = json.loads(said)
    assert (code, found["equal"]) == (1, False)
    ((at,),) = [found["tokens"]]
    tokens = [Recording.load(path).sequences[0].tokens for path in (one, other)]
    assert tokens[0][: at["position"]] == tokens[1][: at["position"]]
    assert [at["a"], at["b"]] == [of[at["position"]] for of in tokens]
    code, said, _ = run("diff", one, other)
    assert re.search(rf"^tokens part at position {at['position']}: '\S+' and '\S+'$", said, re.M)

    code, said, errors = run("diff", one, tmp_path / "none")
    assert (code, said) == (2, "")
    assert errors.startswith(f"error: cannot read {tmp_path / 'none'}: there is no such file; ")


def test_the_pack_that_is_wanted_is_named(run: Type, shelf: Path, tmp_path: Path) -> None:
    file = record(run, tmp_path / "run")
    identity = Recording.load(file).about.pack.identity
    moved = tmp_path / "moved"
    shutil.move(shelf / "lens_packs" / packs.DEFAULT_PACK, moved)
    try:
        code, _, errors = run("replay", file)
        assert (code, errors) == (
            2,
            f"error: the pack wordnet-mini of identity {identity[:12]}, which scored the run, is not in lens_packs; "
            "give it with --pack PATH, or another for resid_post.2 of tiny/host\n",
        )
        assert run("replay", file, "--pack", moved)[0] == 0
    finally:
        shutil.move(moved, shelf / "lens_packs" / packs.DEFAULT_PACK)


def test_what_cannot_be_is_said_in_one_line(run: Type, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    for typed, found in (
        (["replay", tmp_path / "text"], "no safetensors file"),
        (["replay", tmp_path / "text", "--speed", "-1"], "speed -1.0 cannot be"),
        (["record", "", "--out", tmp_path / "o"], "the prompt is empty"),
        (["record", "dog", "--out", tmp_path / "no" / "o"], "cannot write"),
        (["watch", "dog", "--record", tmp_path / "text"], "it is a file; give a directory"),
    ):
        code, said, errors = run(*typed)
        assert (code, said) == (2, "")
        assert errors.startswith("error: ")
        assert found in errors
        assert len(errors.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


def test_a_run_that_is_interrupted_says_so_when_it_is_replayed(
    run: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from runtime.display import PlainView

    add = PlainView.add

    def interrupted(view: PlainView, event: Any) -> None:
        add(view, event)
        if event.position == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(PlainView, "add", interrupted)
        code, _, errors = run("watch", "the violin is", "--record", tmp_path)
    (file,) = tmp_path.iterdir()
    assert code == 130
    assert re.search(rf"recorded {re.escape(str(file))}: .*, up to its end by Ctrl-C\n", errors)
    code, said, errors = run("replay", file)
    assert (code, errors) == (0, "the run ended before it was over, by Ctrl-C\n")
    assert len(said.splitlines()) >= 6


def test_help(run: Type) -> None:
    for command in ("record", "replay", "diff"):
        code, said, _ = run(command, "--help")
        assert code == 0
        assert f"phoropter {command}" in said.partition("Examples")[2]
