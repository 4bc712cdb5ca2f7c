"""Texts that the host writes itself, about concepts whose definitions it is given.

The prompts are data: `prompts.txt`, one after another with a blank line between, with {name} and {definition} in them.
Kept is what the host wrote, not what it was asked. Texts are written down concept by concept, so that a stop loses one
concept; the same seed gives the same texts on the same machine.
"""

import hashlib
import json
import os
from pathlib import Path

import torch
from rich.progress import Progress

from lenses.concept import Concept
from lenses.errors import SourceError
from lenses.text import canonical_json, one_line
from runtime.host import Host, quiet
from runtime.training.corpus import Corpus, Item
from runtime.training.sources import Concepts

PROMPTS = tuple((Path(__file__).parent / "prompts.txt").read_text(encoding="utf-8").strip().split("\n\n"))
ROUNDS = 3
"""Texts that are written to each prompt."""
_NEW_TOKENS = 64


def written_texts(host: Host, concepts: Concepts, directory: Path, seed: int, progress: Progress) -> Corpus:
    """The texts in a file in `directory`, one concept a line, after the host has written those that it lacks.

    The file's name says by whom, from what and with which seed. Raises SourceError for a concept without a definition.
    """
    missing = [one.id for one in concepts.hierarchy if one.id not in concepts.definitions]
    if missing:
        raise SourceError(
            f"{len(missing)} concepts have no definition, among them {one_line(missing[0])}; the host writes about "
            'what it is told: add "definition" to their lines, or leave them out'
        )
    directory.mkdir(parents=True, exist_ok=True)
    about = canonical_json(
        [host.id, str(host.model.dtype), PROMPTS, ROUNDS, seed, sorted(concepts.definitions.items())]
    )
    path = directory / f"written-{hashlib.sha256(about).hexdigest()[:16]}.jsonl"
    found = _read(path)
    task = progress.add_task("texts written by the host", total=len(concepts.hierarchy), completed=len(found))
    for n, concept in enumerate(concepts.hierarchy):
        if concept.id not in found:
            found[concept.id] = write(host, concept, concepts.definitions[concept.id], seed * 1_000_003 + n)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"concept": concept.id, "texts": found[concept.id]}) + "\n")
            progress.advance(task)
    return Corpus(
        tuple(
            Item(text, frozenset({concept.id}), (text,))
            for concept in concepts.hierarchy
            for text in dict.fromkeys(found[concept.id])
        )
    )


def write(host: Host, concept: Concept, definition: str, seed: int) -> list[str]:
    """`ROUNDS` texts to each of `PROMPTS`, sampled; blank ones are left out. torch's random state is left as it was."""
    tokenizer, model = host.tokenizer, host.model
    asked = [prompt.format(name=concept.name, definition=definition) for prompt in PROMPTS] * ROUNDS
    ids = tokenizer(asked)["input_ids"]
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id or 0
    width = max(map(len, ids))
    ids_BT = torch.tensor([[padding] * (width - len(row)) + row for row in ids], device=model.device)
    mask_BT = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ids], device=model.device)
    devices = [model.device] if model.device.type == "cuda" else []
    with quiet(), torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        written_BT = model.generate(
            input_ids=ids_BT,
            attention_mask=mask_BT,
            do_sample=True,
            max_new_tokens=_NEW_TOKENS,
            pad_token_id=padding,
        )
    texts = tokenizer.batch_decode(written_BT[:, width:], skip_special_tokens=True)
    return [text.strip() for text in texts if text.strip()]


def _read(path: Path) -> dict[str, list[str]]:
    """What is there; a line that a stop has cut in two is taken away."""
    if not path.exists():
        return {}
    *lines, rest = path.read_bytes().split(b"\n")
    if rest:
        os.truncate(path, path.stat().st_size - len(rest))
    return {value["concept"]: value["texts"] for value in map(json.loads, lines)}
