"""The calibration program end to end on a tiny host, with a dictionary and pages of its vocabulary."""

import json
from pathlib import Path

import numpy as np
import pytest
from calibrating.corpora import Corpus
from calibrating.promises import Promise, compare
from measure_calibration import COMPARISONS, main
from pages.calibration_report import markdown

from lenses.alarms import alarm_budget, alarming
from lenses.calibration import log_odds
from lenses.pack import LensPack
from tests import hosts
from tests.packs import make_pack
from tests.profiled import tiny
from tests.runtime.training.test_null_texts import write_dictionary, write_pages

TEXTS = 640


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    root = tmp_path_factory.mktemp("calibration")
    rng = np.random.default_rng(0)
    words = [word for word in hosts.WORDS if word.isalpha()]
    said = [" ".join(rng.choice(words, 12)) for _ in range(2 * TEXTS)]
    write_dictionary(root / "dict", [f"W \\W\\, n.\n   {text}\n" for text in said[:TEXTS]])
    write_pages(root / "man", [f".SH DESCRIPTION\n{text}\n" for text in said[TEXTS:]])
    pack = tiny(root)[1].path
    return [f"--pack={pack}", f"--gcide={root / 'dict'}", f"--man={root / 'man'}", "--quick", "--splits=2"]


def test_the_report_says_what_was_promised_and_what_was_measured(
    places: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "calibration"
    assert main([*places, f"--texts={TEXTS}", "--budgets", "5", "50", "0.0001", f"--out={out}"]) == 0
    found = json.loads(out.with_suffix(".json").read_text())
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(found["comparisons"]) == list(COMPARISONS)
    for name in COMPARISONS[:2]:  # texts are drawn alike here, whatever they are called
        one = found["comparisons"][name]
        assert last[name]["token_1fpr"] >= 0.8
        for level in ("token", "sequence"):
            rates = one["rates"][f"{level}_1fpr"]
            assert 0.002 < rates["measured"]["median"] < 0.02
            assert len(rates["lenses"]) == one["lenses"] > 10
        refused = [alarm for alarm in one["alarms"] if "refused" in alarm]
        assert [alarm["budget"] for alarm in refused] == [0.0001]
        assert one["alarms"][0]["at_most"] <= 5
    assert found["comparisons"]["one kind"]["rates"]["token_1fpr"]
    page = out.with_suffix(".md").read_text()
    assert page == markdown(found)
    assert "**A quick try**" in page
    assert "refused" in page


def test_counts_are_those_of_counting_all_tokens_at_once(tmp_path: Path) -> None:
    pack: LensPack = make_pack(tmp_path / "p")
    rng = np.random.default_rng(0)
    corpora = []
    for name in ("a", "b"):
        corpus = Corpus(name, tmp_path / name, len(pack.hierarchy), texts=400)
        logits = rng.gumbel(size=(2400, len(pack.hierarchy))).astype(np.float32)
        corpus.path.write_bytes(logits.tobytes())
        corpus.pieces = [
            (start, np.repeat(np.arange(start // 6, start // 6 + 100), 6)) for start in range(0, 2400, 600)
        ]
        corpora.append((corpus, logits))
    (first, _), (second, logits) = corpora
    some = np.arange(400) % 3 > 0
    found = compare([(first, np.ones(400, bool))], [(second, some)], pack.hierarchy, pack.heads, [20.0])
    promise = Promise.of([(first, np.ones(400, bool))], pack.hierarchy, pack.heads)
    odds = log_odds(logits, pack.heads.platt_slope, pack.heads.platt_offset)[np.repeat(some, 6)]
    for n in np.flatnonzero(alarming(promise.hierarchy, promise.heads)):
        concept = promise.hierarchy.concepts[n]
        rate = found["rates"]["token_1fpr"]["lenses"][concept.id][0]
        above = odds[:, n] > np.float32(concept.metrics["null_token_1fpr"])
        assert rate == pytest.approx(above.mean(), rel=1e-2)
        by_text = odds[:, n].reshape(-1, 6).max(axis=1) > np.float32(concept.metrics["null_sequence_1fpr"])
        assert found["rates"]["sequence_1fpr"]["lenses"][concept.id][0] == pytest.approx(
            by_text.mean(), rel=1e-2
        )
    bound = alarm_budget(promise.hierarchy, promise.heads, 20.0).threshold_N
    assert found["alarms"][0]["alarms"] == (odds > bound).sum()


def test_too_few_texts_for_a_result_are_one_line(
    places: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([one for one in places if one != "--quick"] + ["--texts=30", "--out=unused"]) == 2
    assert "expected 20,000 in 1,000" in capsys.readouterr().err
