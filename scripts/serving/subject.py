"""What a benchmark of serving is about: a pack, its host, and texts to go on from. Knows nothing of what is measured.

The travelling pack, or another one; a host of random weights without a pack gets one of random lenses, made once.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import make_synthetic_pack
from experiments.subject import pack_json
from profiling.opening import open_host
from rich.progress import Progress

from lenses.errors import ConfigError
from lenses.pack import LensPack
from runtime.generate import Prompt
from runtime.host import Host
from runtime.packs import choose_pack
from runtime.random_host import RandomHost, is_random

LEVELS = "5,23,241,400"
"""Of a pack of random lenses: 269 in the base, 400 below it."""
WORK = Path("runs/serving")


@dataclass(frozen=True, slots=True)
class Subject:
    """A pack with where it is, and its host in this process."""

    pack: LensPack
    where: str
    host: Host
    model: str | None
    """As a server in another process is to be told; None: the pack's own."""

    def to_json(self) -> dict[str, object]:
        """What a report says of them."""
        return pack_json(self.pack) | {
            "host": self.host.id,
            "host_dtype": str(self.host.model.dtype).removeprefix("torch."),
        }

    @property
    def is_random(self) -> bool:
        """Whether the host's weights are random."""
        return is_random(self.host.id)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that `open_subject` reads."""
    parser.add_argument(
        "--pack", default=None, help="a pack's directory or name (default: the travelling one)"
    )
    parser.add_argument(
        "--model",
        default=None,
        help="a directory, hub id or shape such as random:gemma-3-270m, for which random lenses are made "
        "(default: the pack's)",
    )
    parser.add_argument("--work", type=Path, default=WORK, help="where packs of random lenses are kept")


def open_pack(arguments: argparse.Namespace, progress: Progress) -> tuple[LensPack, str, str | None]:
    """The pack, where it is, and the host's name if one was asked for; raises PhoropterError."""
    model = arguments.model
    if model is not None and is_random(model):
        model = RandomHost.parse(model).id
        if arguments.pack is None:
            return _random_pack(model, arguments.work, progress), str(_place(model, arguments.work)), model
    where = choose_pack(arguments.pack, model)
    return LensPack.from_pretrained(where), where, model


def open_subject(arguments: argparse.Namespace, progress: Progress) -> Subject:
    """The pack and its host; raises PhoropterError."""
    pack, where, model = open_pack(arguments, progress)
    task = progress.add_task("host", total=1)
    told = argparse.Namespace(model=model, blocks=None, device="cpu")
    host = open_host(told, pack, where)
    progress.advance(task)
    return Subject(pack, where, host, model)


def questions(pack: LensPack, count: int) -> list[str]:
    """`What is a <name>?` of concepts that are spread over the pack; raises ConfigError where it has too few."""
    found = list(_spread(_names(pack), count))
    if len(found) < count:
        raise ConfigError(f"{count} questions are asked for, the pack has {len(found)} names; ask fewer")
    return [f"What is a {name}?" for name in found]


def as_chat(host: Host, question: str) -> Prompt:
    """The question as a chat, where the host's tokenizer knows chats."""
    if getattr(host.tokenizer, "chat_template", None) is None:
        return question
    return [{"role": "user", "content": question}]


def prompts(host: Host, pack: LensPack, tokens: int) -> Iterator[str]:
    """Texts of so many tokens each (special ones counted), made of names, as long as there are any.

    A line a name: the travelling host goes on with such a list for longer than with anything else that was tried.
    """
    names = _names(pack)
    for start in range(len(names)):
        some = [names[(start + 97 * at) % len(names)] for at in range(tokens)]
        ids = host.tokenizer("\n".join(some), verbose=False)["input_ids"]
        words = ids[ids[0] == host.tokenizer.bos_token_id : tokens]
        text = host.tokenizer.decode(words)
        # A text that is cut between two tokens need not be read as the same ones.
        if len(ids) >= tokens and host.tokenizer(text, verbose=False)["input_ids"] == ids[:tokens]:
            yield text


def _names(pack: LensPack) -> list[str]:
    return list(dict.fromkeys(concept.name for concept in pack.hierarchy.concepts))


def _spread(names: list[str], count: int) -> Iterator[str]:
    count = min(count, len(names))
    return (names[at * len(names) // count] for at in range(count))


def _place(model: str, work: Path) -> Path:
    return work / f"{model}-{LEVELS}".replace("random:", "").replace(":", "-").replace(",", "-")


def _random_pack(model: str, work: Path, progress: Progress) -> LensPack:
    path = _place(model, work)
    if path.exists():
        return LensPack.from_pretrained(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    told = ["--host", model, "--levels", LEVELS, "--out", str(path)]
    return make_synthetic_pack.build(make_synthetic_pack.parse(told), progress)[0]
