"""Choosing end to end on a tiny dictionary and a tiny host: what is compared, what is read, what a stop costs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import choose_lenses
import pytest
import torch
from choose_lenses import calibrates, main
from choosing import inputs as ridge_inputs
from choosing import variants as lens_variants
from data.synsets import part_of
from pages.choices_report import markdown

from lenses.importers.wordnet import Synset, read_wordnet
from lenses.importers.wordnet_texts import Texts
from lenses.training import TrainingConfig
from tests import hosts
from tests.wordnet_dict import Entry, write

KINDS = {"beast": ("cat", "dog"), "tool": ("violin", "house")}
"""Level 0 to the words that tell its two children; all are in the tiny host's vocabulary."""
LETTERS = ("p", "q")
"""Each word has two kinds, told by a letter."""

Report = dict[str, Any]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options that name a dictionary, concepts and a host."""
    directory = tmp_path_factory.mktemp("sources")
    entries: list[Entry] = []
    nodes: list[tuple[str, str | None]] = []
    for top, words in KINDS.items():
        entries.append(Entry(top, [top], f"a b c {top}"))
        nodes.append((top, None))
        for word in words:
            entries.append(Entry(word, [word], f"a {word} is in it", [top]))
            nodes.append((word, top))
            for letter in LETTERS:
                kind = f"{letter}{word}"
                entries.append(Entry(kind, [kind], f"the {word} {letter} is in it", [word]))
                nodes.append((kind, word))
                entries += [
                    Entry(
                        f"{kind}-{n}", [f"x{n} {kind}"], f"the {word} {letter} in {chr(97 + n % 26)}", [kind]
                    )
                    for n in range(130)
                ]
    concepts = directory / "concepts.jsonl"
    concepts.write_text(
        "".join(
            json.dumps({"id": f"{node}.n.01", "name": node, "parent": above and f"{above}.n.01"}) + "\n"
            for node, above in nodes
        )
    )
    given = {
        "wordnet": write(directory / "dict", entries),
        "concepts": concepts,
        "host": hosts.save(hosts.gemma3(host_id="tiny"), directory / "host"),
        "site": "resid_post.1",
        "pooling": "ema:0.7",
        "tellings": 1,
        "steps": 6,
        "share": 0.5,
    }
    return [f"--{name}={value}" for name, value in given.items()]


@pytest.fixture(scope="module", autouse=True)
def _small_numbers() -> Iterator[None]:
    """A tiny host needs no thousands of positions, and four variants show what is done with twelve."""
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
        patch.setattr(lens_variants, "WALKED", 15)
        patch.setattr(lens_variants, "VALUES", {"widths": ((4, 3), (16, 8)), "dropout": (0.0, 0.1)})
        patch.setattr(choose_lenses, "POOLINGS", ("token", "ema:0.8"))
        yield


@pytest.fixture(scope="module")
def finished(sources: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """The directory of a run that nothing stopped, and its report."""
    directory = tmp_path_factory.mktemp("finished")
    return directory, run(sources, directory)


def run(sources: list[str], directory: Path, *more: str) -> Report:
    out = directory / "choices"
    assert main([*sources, f"--out={out}", f"--work={directory / 'work'}", *more]) == 0
    report: Report = json.loads(out.with_suffix(".json").read_text())
    return report


def numbers(report: Report) -> list[dict[str, float]]:
    return [one["metrics"] for one in (*report["inputs"], *report["variants"])]


class Counted:
    """Calls what it stands for, and counts; the call of number `stop_at` is Ctrl-C."""

    def __init__(self, function: Any, stop_at: int = 0) -> None:
        self.function, self.stop_at, self.count = function, stop_at, 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.count += 1
        if self.count == self.stop_at:
            raise KeyboardInterrupt
        return self.function(*args, **kwargs)


def test_every_site_pooling_and_variant_is_measured(finished: tuple[Path, Report]) -> None:
    report = finished[1]
    assert [(one["site"], one["pooling"]) for one in report["inputs"]] == [
        (f"resid_post.{block}", pooling) for block in range(hosts.BLOCKS) for pooling in ("token", "ema:0.8")
    ]
    names = [one["name"] for one in report["variants"]]
    assert names == ["default", "seed 1", "seed 2", "widths 4-3", "dropout 0", "steps 3", "steps 12"]
    assert report["variants"][0]["training"] == {
        **report["shipped"]["training"],
        "steps": 6,
    }
    ridge, default = report["inputs"][0]["metrics"], report["variants"][0]["metrics"]
    assert ridge["lenses"] == report["concepts"] == 14
    assert default["lenses"] <= report["branch_concepts"] == 7
    assert max(one["metrics"]["score"] for one in report["inputs"]) > 0.8  # the words are in the texts
    assert {"active", "recall", "share_scored", "brier_skill_text_median"} <= default.keys()
    assert default["active"] > 0, "the hierarchy reaches below the base"
    assert report["run"]["command"].startswith("python scripts/choose_lenses.py --wordnet")


def test_held_out_synsets_are_never_read(
    sources: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Synset] = []
    document = Texts.document

    def listening(texts: Texts, synset: Synset, *, seed: int, epoch: int) -> str:
        told.append(synset)
        return document(texts, synset, seed=seed, epoch=epoch)

    monkeypatch.setattr(Texts, "document", listening)
    run(sources, tmp_path)
    everything = read_wordnet(Path(sources[0].removeprefix("--wordnet="))).values()
    assert {part_of(synset) for synset in everything} == {"train", "validation", "held-out"}
    assert {synset.id for synset in told} == {one.id for one in everything if part_of(one) != "held-out"}


def test_lenses_are_measured_on_texts_that_they_were_not_calibrated_on(
    sources: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[lens_variants.Parts] = []

    def listening(training: TrainingConfig, hierarchy: Any, parts: Any, **more: Any) -> Any:
        seen.append(parts)
        return lens_variants.measure(training, hierarchy, parts, **more)

    monkeypatch.setattr(choose_lenses, "measure", listening)
    run(sources, tmp_path)
    assert all(parts is seen[0] for parts in seen), "states are collected once"
    wordnet = read_wordnet(Path(sources[0].removeprefix("--wordnet=")))
    validation = [synset for synset in wordnet.values() if part_of(synset) == "validation"]
    calibration, measured = (
        {validation[x].id for x in part.samples.text_S} for part in (seen[0].calibration, seen[0].measured)
    )
    assert calibration == {synset.id for synset in validation if calibrates(synset)}
    assert measured == {synset.id for synset in validation} - calibration
    assert len(calibration) > 40 < len(measured)


def test_a_stopped_run_goes_on_and_does_nothing_twice(
    sources: list[str],
    finished: tuple[Path, Report],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stopped = Counted(lens_variants.measure, stop_at=4)
    monkeypatch.setattr(choose_lenses, "measure", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(sources, tmp_path)
    measure, compare = Counted(lens_variants.measure), Counted(ridge_inputs.compare)
    monkeypatch.setattr(choose_lenses, "measure", measure)
    monkeypatch.setattr(choose_lenses, "compare", compare)
    report = run(sources, tmp_path)
    assert (measure.count, compare.count) == (len(report["variants"]) - 3, 0)
    assert numbers(report) == numbers(finished[1]), "the same as a run that nothing stopped"
    assert len({one["run"] for one in report["variants"]}) == 2
    page = (tmp_path / "choices.md").read_text()
    assert report["variants"][0]["run"] in page, "the page says which run a result is of"
    assert run(sources, tmp_path)["choices"] == report["choices"]
    assert (measure.count, compare.count) == (len(report["variants"]) - 3, 0)


def test_another_question_is_asked_anew_and_only_that(
    sources: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure, compare = Counted(lens_variants.measure), Counted(ridge_inputs.compare)
    monkeypatch.setattr(choose_lenses, "measure", measure)
    monkeypatch.setattr(choose_lenses, "compare", compare)
    first = run(sources, tmp_path)
    assert (measure.count, compare.count) == (7, 1)
    second = run(sources, tmp_path, "--steps=5")
    assert (measure.count, compare.count) == (14, 1), "the sites do not depend on steps"
    assert first["run"]["configuration_sha256"] != second["run"]["configuration_sha256"]
    run(sources, tmp_path, "--seed=4")
    assert (measure.count, compare.count) == (21, 2)


def test_the_page_can_be_made_again_from_the_json_and_names_what_is_shipped(
    finished: tuple[Path, Report],
) -> None:
    directory, report = finished
    page = (directory / "choices.md").read_text()
    assert markdown(report) == page
    for one in (report["choices"]["input"], *report["choices"]["training"]):
        assert one["says"] in page
    assert report["run"]["configuration_sha256"][:16] in page
    assert "A sample" not in page


def test_a_sample_takes_that_many_and_says_so(sources: list[str], tmp_path: Path) -> None:
    run(sources, tmp_path, "--sample=120")
    assert "**A sample" in (tmp_path / "choices.md").read_text()


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--share=0", "--share 0 is no share"),
        ("--sample=12", "larger --sample"),
        ("--wordnet=/nowhere", "wordnet-base"),
        ("--concepts=/nowhere", "/nowhere"),
        ("--pooling=max", "token, mean"),
        ("--site=resid_post.9", "resid_post.9"),
    ],
)
def test_what_is_wrong_is_one_line(
    sources: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, said: str
) -> None:
    out = tmp_path / "choices"
    assert main([*sources, f"--out={out}", f"--work={tmp_path}", option]) == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert said in error
    assert not list(tmp_path.glob("choices.[jm]*[nd]"))
