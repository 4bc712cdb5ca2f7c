"""The pack that travels with the project, with its host: what a first user does must hold."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lenses.calibration import sigmoid, threshold_log_odds
from lenses.errors import BudgetError
from lenses.grade import UNMEASURED, grade
from lenses.lens import Floats
from lenses.pack import LensPack
from runtime.cli import main
from runtime.config import parse_bytes
from runtime.events import Event, differing
from runtime.generate import encode
from runtime.host import Host, load_host
from runtime.monitor import Monitor

PACK = Path(__file__).parent.parent / "lens_packs" / "wordnet-mini"
PROMPT = "The dog"


@pytest.fixture(scope="module")
def pack() -> LensPack:
    return LensPack.from_pretrained(PACK)


@pytest.fixture(scope="module")
def host() -> Host:
    return load_host(PACK / "host")


@pytest.fixture(scope="module")
def usual(pack: LensPack, host: Host) -> list[Event]:
    return watch(pack, host)


def watch(pack: LensPack, host: Host, **settings: Any) -> list[Event]:
    with Monitor(pack, **settings) as monitor:
        stream = monitor.stream(
            host.model, host.tokenizer, PROMPT, max_new_tokens=24, do_sample=True, temperature=0.7, seed=0
        )
        return list(stream)


def test_every_byte_is_as_it_was_written(pack: LensPack) -> None:
    pack.verify()


def test_it_is_as_large_and_as_small_as_promised(pack: LensPack) -> None:
    hierarchy = pack.hierarchy
    assert len(hierarchy) >= 700
    assert hierarchy.depth >= 6
    assert max(family.rows for family in hierarchy.families) <= 32
    assert 100 <= sum(concept.level <= 1 for concept in hierarchy) <= 250
    assert sum(file.stat().st_size for file in PACK.glob("*.safetensors")) <= 16_000_000
    assert sum(file.stat().st_size for file in (PACK / "host").iterdir()) <= 14_000_000
    assert host_has_no_sentence_of_wordnet(PACK)


def host_has_no_sentence_of_wordnet(directory: Path) -> bool:
    """Nothing in the pack is text but names, numbers and the tokenizer's pieces."""
    concepts = [json.loads(line) for line in (directory / "concepts.jsonl").read_text().splitlines()]
    return all(len(concept["name"].split()) <= 8 for concept in concepts)


def test_lenses_were_measured_on_what_neither_they_nor_the_host_have_seen(pack: LensPack) -> None:
    measured = [c.metrics["auroc"] for c in pack.hierarchy if "auroc" in c.metrics]
    assert len(measured) >= 500
    assert float(np.median(measured)) >= 0.96
    assert float(np.quantile(measured, 0.1)) >= 0.88
    siblings = [c.metrics["auroc_siblings"] for c in pack.hierarchy if "auroc_siblings" in c.metrics]
    assert float(np.median(siblings)) >= 0.85
    assert all(c.threshold is not None for c in pack.hierarchy if grade(c.metrics) != UNMEASURED)
    assert all("positives" in c.metrics for c in pack.hierarchy)
    assert pack.heads.calibrated.mean() > 0.9


def test_watching_again_gives_the_same_contents(pack: LensPack, host: Host, usual: list[Event]) -> None:
    assert len(usual) > 10
    assert differing(usual, watch(pack, host)) == []
    changed = watch(pack, host, top_k=1)
    assert differing(usual, changed)


def test_the_smallest_hot_budget_gives_the_same_contents(
    pack: LensPack, host: Host, usual: list[Event]
) -> None:
    with pytest.raises(BudgetError) as refusal:
        Monitor(pack, hot_budget_bytes=1)
    least = refusal.value.args[0].split("at least ")[1].split(" (")[0]
    hot = parse_bytes(least)
    for warm in (0, 1 << 20):
        assert differing(usual, watch(pack, host, hot_budget_bytes=hot, warm_budget_bytes=warm)) == []


def test_no_prewarming_gives_the_same_contents(pack: LensPack, host: Host, usual: list[Event]) -> None:
    assert differing(usual, watch(pack, host, prewarm=False)) == []


def test_as_one_row_of_three_it_gets_what_it_gets_alone(pack: LensPack, host: Host) -> None:
    prompts = [PROMPT, "A violin is a", "The capital of the country is"]

    def run(texts: list[str]) -> list[Event]:
        inputs = host.tokenizer(texts, return_tensors="pt", padding=True)
        keys = {key: inputs[key] for key in ("input_ids", "attention_mask")}
        with Monitor(pack) as monitor, monitor.attach(host.model):
            host.model.generate(**keys, max_new_tokens=24, do_sample=False)
            return [e for e in monitor.events if e.sequence == 0 and e.state != "after_end"]

    alone, together = run([PROMPT]), run(prompts)
    assert [e.next_token for e in alone] == [e.next_token for e in together]
    odd = 0
    for a, b in zip(alone, together, strict=True):
        both, at_a, at_b = np.intersect1d(a.scored, b.scored, return_indices=True)
        assert np.abs(a.logits[at_a] - b.logits[at_b]).max(initial=0.0) <= 1e-4 * largest(a)
        if a.scored.tolist() != b.scored.tolist():
            odd += 1
            assert is_a_close_call(pack, a, len(both))
    assert odd <= 1


def largest(event: Event) -> float:
    return max(1.0, float(np.abs(event.logits).max(initial=0.0)))


def is_a_close_call(pack: LensPack, event: Event, common: int) -> bool:
    """Whether some parent's probability lies within 1e-4 of the threshold, or two lie as near to each other."""
    heads, opens = pack.heads, pack.hierarchy.opens[event.scored]
    odds: Floats = event.logits * heads.platt_slope[event.scored] + heads.platt_offset[event.scored]
    p = np.sort(sigmoid(odds[opens >= 0]))
    at_cut = np.abs(p - sigmoid(np.array([threshold_log_odds(pack.config.load_threshold)]))) < 1e-4
    return bool(at_cut.any() or (np.diff(p) < 1e-4).any()) and common > 0


KINDS = {
    "A violin is": ("instrument", "music", "string", "bow"),
    "A piano is": ("instrument", "music", "string"),
    "A rose is": ("plant", "shrub", "flower"),
    "A doctor is": ("person", "medic", "practitioner"),
    "A river is": ("water", "stream", "river that"),
    "A king is": ("male", "ruler", "sovereign", "monarch", "king of"),
}
"""Prompt to words of its kind."""


def test_the_host_goes_on_with_words_of_the_kind(host: Host) -> None:
    told = {}
    for prompt in KINDS:
        inputs = encode(host.model, host.tokenizer, prompt, 16)
        ids = host.model.generate(**inputs, max_new_tokens=16, do_sample=False)[0]
        told[prompt] = host.tokenizer.decode(ids, skip_special_tokens=True).removeprefix(prompt)
    fitting = [prompt for prompt, words in KINDS.items() if any(word in told[prompt] for word in words)]
    # A host of six million parameters does not know every word; it must know most of these.
    assert len(fitting) >= len(KINDS) - 2, told


def test_a_flipped_byte_of_a_lens_file_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pack: LensPack
) -> None:
    copy = tmp_path / "wordnet-mini"
    shutil.copytree(PACK, copy)
    assert main(["pack", "verify", str(copy)]) == 0
    file = copy / pack.config.lens.shard_names[0]
    content = bytearray(file.read_bytes())
    content[-1000] ^= 1
    file.write_bytes(bytes(content))
    capsys.readouterr()
    assert main(["pack", "verify", str(copy)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert file.name in error


@pytest.fixture(autouse=True)
def _restore_rng() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        yield
