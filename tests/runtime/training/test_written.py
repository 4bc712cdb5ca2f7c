"""Texts that a host writes itself."""

from pathlib import Path

import pytest
import torch
from rich.progress import Progress

from lenses.concept import Hierarchy
from lenses.errors import SourceError
from runtime.host import load_host
from runtime.training.sources import Concepts
from runtime.training.written import PROMPTS, ROUNDS, written_texts
from tests import hosts

HIERARCHY = Hierarchy.build([("cat", "cat", None), ("dog", "dog", None)])
CONCEPTS = Concepts(HIERARCHY, {"cat": "a b c", "dog": "the dog is in the house"})


def test_a_host_writes_about_every_concept_once_and_goes_on_after_a_stop(tmp_path: Path) -> None:
    host = load_host(hosts.save(hosts.gemma3(), tmp_path / "host"), device="cpu")
    before = torch.get_rng_state()
    with Progress(disable=True) as progress:
        corpus = written_texts(host, CONCEPTS, tmp_path / "a", 0, progress)
        assert torch.equal(torch.get_rng_state(), before)
        by_concept = {
            id: [x.texts[0] for x in corpus.items if x.concepts == {id}] for id in CONCEPTS.definitions
        }
        assert all(1 < len(texts) <= len(PROMPTS) * ROUNDS for texts in by_concept.values())
        assert by_concept["cat"] != by_concept["dog"]
        (file,) = (tmp_path / "a").iterdir()
        whole = file.read_bytes()
        file.write_bytes(whole[: whole.index(b"\n") + 20])  # one concept, and a line that was cut in two
        assert written_texts(host, CONCEPTS, tmp_path / "a", 0, progress) == corpus
        assert file.read_bytes() == whole
        assert written_texts(host, CONCEPTS, tmp_path / "a", 1, progress) != corpus
        with pytest.raises(SourceError, match="1 concepts have no definition, among them dog"):
            written_texts(host, Concepts(HIERARCHY, {"cat": "a"}), tmp_path / "b", 0, progress)
