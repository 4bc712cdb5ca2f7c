"""Training a pack end to end on a tiny dictionary and a tiny host: labels, split, calibration, what is written."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from data.synsets import labels, part_of
from train_lenses import main

from lenses.concept import Hierarchy
from lenses.importers.wordnet import read_wordnet
from lenses.pack import LensPack
from runtime.doctor import check_known
from runtime.host import load_host
from runtime.known import KnownScores
from tests import hosts
from tests.packs import make_pack
from tests.wordnet_dict import Entry, write

KINDS = {"beast": ("cat", "dog"), "tool": ("violin", "house")}
"""Level 0 to the words that tell its two children; all are in the tiny host's vocabulary."""


@pytest.fixture(scope="module")
def wordnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    entries = []
    for top, words in KINDS.items():
        entries.append(Entry(top, [top], f"a b c {top}"))
        for word in words:
            entries.append(Entry(word, [word], f"a {word} is in it", [top]))
            entries += [
                Entry(
                    f"{word}-{n}", [f"{word} x{n}"], f"the {word} sits in {chr(97 + n % 26)} {word}", [word]
                )
                for n in range(60)
            ]
    # One with two parents: a text of it is a text of both.
    entries.append(Entry("toy", ["toy"], "a dog violin", ["dog", "violin"]))
    return write(tmp_path_factory.mktemp("dict"), entries)


@pytest.fixture(scope="module")
def concepts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("concepts") / "concepts.jsonl"
    nodes: list[tuple[str, str | None]] = [(top, None) for top in KINDS]
    nodes += [(word, top) for top, words in KINDS.items() for word in words]
    lines = [
        json.dumps({"id": f"{node}.n.01", "name": node, "parent": above and f"{above}.n.01"})
        for node, above in nodes
    ]
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hosts.save(hosts.gemma3(host_id="tiny"), tmp_path_factory.mktemp("host"))


def arguments(wordnet: Path, concepts: Path, host: Path, out: Path) -> list[str]:
    given = {"wordnet": wordnet, "concepts": concepts, "host": host, "out": out}
    settings = {
        "site": "resid_post.1",
        "pooling": "ema:0.7",
        "widths": "4-3",
        "steps": 60,
        "tellings": 1,
    }
    return [*(f"--{name}={value}" for name, value in (given | settings).items()), "--null"]


def test_a_pack_is_trained_calibrated_measured_and_written(
    wordnet: Path, concepts: Path, host: Path, tmp_path: Path
) -> None:
    out = tmp_path / "pack"
    assert main(arguments(wordnet, concepts, host, out)) == 0
    pack = LensPack.from_pretrained(out)
    pack.verify()
    assert pack.config.host.id == "tiny"
    assert (pack.config.site, pack.config.input.pooling) == ("resid_post.1", "ema:0.7")
    assert pack.host_dir is not None
    assert pack.heads.calibrated.all()
    measured = [c.metrics for c in pack.hierarchy if "auroc" in c.metrics]
    assert measured
    assert max(m["auroc"] for m in measured) > 0.7  # the words are in the texts
    assert all(m["positives"] >= 10 for m in measured)
    assert all({"auroc_low", "tpr_at_1fpr", "brier_skill", "auroc_sampled"} <= m.keys() for m in measured)
    known = KnownScores.of(pack)
    assert known is not None
    assert len(known.logits) == len(pack.hierarchy), "all of them where there are few"
    assert check_known(pack, load_host(host).model, hosts.tokenizer()).status == "ok"
    again = tmp_path / "again"
    assert main(arguments(wordnet, concepts, host, again)) == 0
    assert LensPack.from_pretrained(again).identity == pack.identity


def test_compact_lenses_are_trained_and_distilled(
    wordnet: Path, concepts: Path, host: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compact, distilled = tmp_path / "compact", tmp_path / "distilled"
    assert main([*arguments(wordnet, concepts, host, compact), "--rank=5"]) == 0
    pack = LensPack.from_pretrained(compact)
    assert (pack.config.lens.kind, pack.config.lens.widths) == ("compact", (5, 4, 3))
    taught = [*arguments(wordnet, concepts, host, distilled), "--rank=5", f"--teacher={compact}"]
    assert main(taught) == 0
    assert LensPack.from_pretrained(distilled).config.provenance["teacher"] == pack.identity
    other = make_pack(tmp_path / "other")
    assert main([*arguments(wordnet, concepts, host, tmp_path / "x"), f"--teacher={other.path}"]) == 2
    assert "has other concepts" in capsys.readouterr().err


def test_labels_go_up_through_every_parent_and_never_make_a_descendant_a_negative(
    wordnet: Path, concepts: Path
) -> None:
    nodes = [json.loads(line) for line in concepts.read_text().splitlines()]
    hierarchy = Hierarchy.build((n["id"], n["name"], n["parent"]) for n in nodes)
    read = read_wordnet(wordnet)
    synsets = list(read.values())
    positive = labels(read, synsets, hierarchy)
    of = {synset.id: row for synset, row in zip(synsets, positive, strict=True)}

    def concepts_of(synset_id: str) -> set[str]:
        return {hierarchy.concepts[n].id for n in np.flatnonzero(of[synset_id])}

    assert concepts_of("toy.n.01") == {"dog.n.01", "beast.n.01", "violin.n.01", "tool.n.01"}
    assert concepts_of("dog.n.01") == {"dog.n.01", "beast.n.01"}
    for n, concept in enumerate(hierarchy):
        if concept.parent is not None:
            assert (positive[:, n] <= positive[:, hierarchy.index(concept.parent)]).all()


def test_the_parts_are_fixed_and_share_no_synset(wordnet: Path) -> None:
    parts = [part_of(synset) for synset in read_wordnet(wordnet).values()]
    assert set(parts) == {"train", "validation", "held-out"}
    assert parts == [part_of(synset) for synset in read_wordnet(wordnet).values()]
    assert 0.02 < parts.count("held-out") / len(parts) < 0.25


def test_what_is_missing_is_one_line_before_anything_is_trained(
    concepts: Path, host: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(tmp_path / "nowhere", concepts, host, tmp_path / "pack")) == 2
    error = capsys.readouterr().err
    assert "wordnet-base" in error
    assert not (tmp_path / "pack").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "diary.txt").write_text("mine")
    assert main(arguments(tmp_path / "nowhere", concepts, host, tmp_path / "full")) == 2
    assert "diary.txt" in capsys.readouterr().err


@pytest.fixture(autouse=True)
def _restore_rng() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        yield
