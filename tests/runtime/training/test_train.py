"""`phoropter train` end to end on a tiny host: sources, kinds, choice of input, resumption, two processes, errors."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from lenses.pack import LensPack
from runtime.cli import main
from runtime.training import shards
from tests import hosts
from tests.warm import Warm

KINDS = {"animal": ("cat", "dog"), "thing": ("violin", "house")}
"""Level 0 to the words that tell its two children; all are in the tiny host's vocabulary."""

LIMIT_S = 120
"""Processes that take longer are stuck."""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hosts.save(hosts.gemma3(host_id="tiny"), tmp_path_factory.mktemp("host"))


@pytest.fixture(scope="module")
def concepts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("concepts") / "concepts.jsonl"
    nodes = [(top, None) for top in KINDS] + [(word, top) for top, words in KINDS.items() for word in words]
    lines = [
        {"id": id, "name": id, "parent": parent, "definition": f"a {id} in the house"} for id, parent in nodes
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    rng = np.random.default_rng(0)
    words = [word for both in KINDS.values() for word in both]
    with path.open("w") as file:
        for n in range(500):
            word, letters = words[n % 4], " ".join(rng.choice([*"abcdefgh"], size=3))
            file.write(json.dumps({"text": f"the {word} is {letters}", "concepts": [word]}) + "\n")
        for _ in range(100):
            letters = " ".join(rng.choice([*"abcdefgh"], size=4))
            pair = {"concept": "dog", "positive": f"a dog {letters}", "negative": f"a cat {letters}"}
            file.write(json.dumps(pair) + "\n")
    return path


def run(host: Path, concepts: Path, texts: Path | str, out: Path, *more: str) -> list[str]:
    given = {"model": host, "concepts": concepts, "texts": texts, "out": out, "device": "cpu"}
    return ["train", *(f"--{name}={value}" for name, value in given.items()), *more]


SMALL = ("--site=resid_post.1", "--pooling=ewm:0.7", "--widths=4-3", "--steps=60")


@pytest.mark.parametrize(
    ("kind", "more", "widths"),
    [
        ("linear", (), ()),
        ("compact", ("--rank=5", "--widths=4-3", "--steps=60", "--dtype=int8"), (5, 4, 3)),
    ],
)
def test_each_kind_is_trained_measured_and_watches(
    kind: str,
    more: tuple[str, ...],
    widths: tuple[int, ...],
    host: Path,
    concepts: Path,
    texts: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "packs" / kind
    where = ("--site=resid_post.1", "--pooling=ewm:0.7")
    assert main(run(host, concepts, texts, out, f"--kind={kind}", *where, *more, "--with-host")) == 0
    pack = LensPack.from_pretrained(out)
    pack.verify()
    assert (pack.config.lens.kind, pack.config.lens.widths) == (kind, widths)
    assert (pack.config.host.id, pack.config.site, pack.config.input.pooling) == ("tiny", *where_of(where))
    assert pack.heads.calibrated.sum() >= (6 if kind == "linear" else 2)
    measured = {c.id: c.metrics["auroc"] for c in pack.hierarchy if "auroc" in c.metrics}
    assert len(measured) == 6
    assert max(measured.values()) > (
        0.9 if kind == "linear" else 0.6
    )  # the words are in the texts; 60 steps are few
    assert [path.name for path in out.parent.iterdir()] == [kind], "no states are left beside the pack"
    events = out.with_suffix(".jsonl")
    assert main(["watch", "the dog is", f"--pack={out}", "--max-new-tokens=3", f"--jsonl={events}"]) == 0
    assert len(events.read_text().splitlines()) >= 5
    assert main(["doctor", f"--pack={out}"]) == 0, (
        "and it says of the known text what it said when it was made"
    )


def where_of(options: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(option.partition("=")[2] for option in options)


def test_the_best_input_is_chosen_and_the_comparison_is_in_the_pack(
    host: Path, concepts: Path, texts: Path, tmp_path: Path
) -> None:
    assert main(run(host, concepts, texts, tmp_path / "pack", "--kind=linear")) == 0
    pack = LensPack.from_pretrained(tmp_path / "pack")
    compared = pack.config.provenance["inputs_compared"]
    # Of three blocks, 40, 60 and 80 per cent of the way are two; each pooled in two ways.
    assert [(one["site"], one["pooling"]) for one in compared] == [
        (site, pooling) for site in ("resid_post.1", "resid_post.2") for pooling in ("token", "ewm:0.9")
    ]
    best = max(compared, key=lambda one: one["auroc"])
    assert (pack.config.site, pack.config.input.pooling) == (best["site"], best["pooling"])
    assert all(one["lenses"] == 6 for one in compared)


def test_a_host_writes_its_own_texts(host: Path, concepts: Path, tmp_path: Path) -> None:
    states = tmp_path / "states"
    assert main(run(host, concepts, "host", tmp_path / "pack", *SMALL, f"--states={states}")) == 0
    (written,) = states.glob("written-*.jsonl")
    assert len(written.read_text().splitlines()) == 6
    assert (
        LensPack.from_pretrained(tmp_path / "pack").config.provenance["texts"].startswith("written by tiny")
    )


def test_a_run_that_was_stopped_goes_on_and_gives_the_same_pack(
    host: Path, concepts: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 1 << 15)
    assert main(run(host, concepts, texts, tmp_path / "whole", *SMALL)) == 0
    write, written = shards.write_atomically, []

    def stop_later(path: Path, data: bytes) -> None:
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(path)
        write(path, data)

    out = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        patch.setattr(shards, "write_atomically", stop_later)
        assert main(run(host, concepts, texts, out, *SMALL)) == 130
    assert not out.exists()
    assert all(path.exists() for path in written)
    assert main(run(host, concepts, texts, out, *SMALL)) == 0
    identities = [LensPack.from_pretrained(tmp_path / name).identity for name in ("whole", "stopped")]
    assert identities[0] == identities[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stopped", "whole"]


def test_two_processes_give_the_pack_that_one_gives(
    host: Path, concepts: Path, texts: Path, tmp_path: Path
) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    simple = ("--kind=linear", "--site=resid_post.1", "--pooling=token")
    assert main(run(host, concepts, texts, alone, *simple)) == 0
    script = tmp_path / "phoropter.py"
    script.write_text("import sys; from runtime.cli import main; sys.exit(main(sys.argv[1:]))")
    # Forked, and of a warm torchrun: none of the three begins with seconds of imports.
    launch = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--run-path", "--start-method=fork"]
    with (tmp_path / "said").open("w+") as said, open(os.devnull) as nothing:
        launched = Warm(
            [*launch, str(script), *run(host, concepts, texts, together, *simple, "--processes=2")],
            streams=(nothing.fileno(), said.fileno(), said.fileno()),
            env=os.environ | {"OMP_NUM_THREADS": "1", "MASTER_PORT": "0"},
        )
        code = launched.wait(LIMIT_S)
        said.seek(0)
        assert code == 0, said.read()
    assert LensPack.from_pretrained(together).identity == LensPack.from_pretrained(alone).identity


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--kind=tree",), "give mlp, linear or compact"),
        (("--widths=8",), "give two such as 128-64"),
        (("--site=resid_post.7",), "resid_post"),
        (("--pooling=max",), "token, mean"),
        (("--processes=2",), "2 processes were asked for and this run has 1"),
        (("--model=random:gemma-3-tiny", "--with-host"), "has no files that could travel"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(
    more: tuple[str, ...],
    said: str,
    host: Path,
    concepts: Path,
    texts: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(run(host, concepts, texts, tmp_path / "pack", *more)) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert said in error
    assert list(tmp_path.iterdir()) == []
