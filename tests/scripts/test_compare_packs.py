"""Comparing packs end to end on a tiny dictionary and a tiny host."""

import json
from pathlib import Path
from typing import Any

import compare_packs
import pytest
from compare_packs import main
from comparing.page import markdown

from lenses.pack import LensPack
from tests import hosts
from tests.packs import make_pack


@pytest.fixture(scope="module")
def compact(judged_pack: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compact lenses for the same concepts at the same site."""
    like = LensPack.from_pretrained(judged_pack)
    return make_pack(
        tmp_path_factory.mktemp("packs") / "small",
        nodes=[(c.id, c.name, c.parent) for c in like.hierarchy],
        kind="compact",
        hidden_size=hosts.HIDDEN,
        blocks=hosts.BLOCKS,
        host="tiny",
        site=like.config.site,
        pooling=like.config.input.pooling,
        base_levels=(0,),
    ).path


@pytest.fixture(scope="module")
def report(
    judged_wordnet: Path, judged_pack: Path, compact: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("reports") / "all"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare_packs, "SAID_AT", 60)
        patch.setattr(compare_packs, "TIMED", 6)
        assert main([str(judged_pack), str(compact), f"--wordnet={judged_wordnet}", f"--out={out}"]) == 0
    return out, json.loads(out.with_suffix(".json").read_text())


def test_every_way_is_judged_timed_and_stands_on_the_page(report: tuple[Path, dict[str, Any]]) -> None:
    out, found = report
    ways = found["ways"]
    assert set(ways) == {
        *(f"all lenses: {name}, {dtype}" for name in ("tiny", "small") for dtype in ("bf16", "int8")),
        *(f"walk at {threshold:g}: tiny, bf16" for threshold in compare_packs.THRESHOLDS),
        "walk at 0.3: tiny, int8",
    }
    reference = ways[found["reference"]]
    assert (reference["agrees"], reference["beyond"], reference["scored"]) == (1.0, 0.0, 1.0)
    assert ways["all lenses: tiny, int8"]["agrees"] > 0.9
    assert ways["all lenses: small, bf16"]["beyond"] > 0.1, "random lenses say other things"
    assert all(way["milliseconds"]["n"] == 6 for way in ways.values())
    page = out.with_suffix(".md").read_text()
    assert page == markdown(found, out)
    assert all(name in page for name in ways)
    assert (out.parent / "pictures/all-curve.svg").read_text().startswith("<svg")


def test_packs_that_cannot_be_compared_are_refused(
    judged_wordnet: Path,
    judged_pack: Path,
    compact: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = make_pack(tmp_path / "other", hidden_size=hosts.HIDDEN, blocks=hosts.BLOCKS, host="tiny").path
    for packs, said in (
        ([compact, judged_pack], "has no host inside"),
        ([judged_pack, other], "has another site than tiny"),
    ):
        assert main([*map(str, packs), f"--wordnet={judged_wordnet}", f"--out={tmp_path / 'x'}"]) == 2
        assert said in capsys.readouterr().err
