"""A generation that was watched for real, once, for tests of what is shown of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lenses.pack import LensPack
from runtime.events import Event
from runtime.monitor import Monitor
from runtime.session import Session
from runtime.transcript import Transcript
from runtime.trend import Trend
from tests import hosts
from tests.packs import Nodes, make_pack

PROMPT = "the violin is"
NEW_TOKENS = 24
BRANCHES = ("artifact", "person", "animal")


def named_nodes() -> Nodes:
    """Three levels with readable names under three branches."""
    nodes: list[tuple[str, str, str | None]] = []
    for branch in BRANCHES:
        nodes.append((branch, branch, None))
        for kind in ("small", "large"):
            nodes.append((f"{branch}.{kind}", f"{kind} {branch}", branch))
            for age in ("old", "new"):
                nodes.append((f"{branch}.{kind}.{age}", f"{age} {kind} {branch}", f"{branch}.{kind}"))
    return nodes


@dataclass
class Watched:
    """What a run left behind, to be shown again and again."""

    pack: LensPack
    monitor: Monitor
    tokenizer: Any
    prompt: list[int]
    events: list[Event]

    def session(self, *, limit: int = NEW_TOKENS, show: int = 4, tracks: Sequence[str] = ()) -> Session:
        """A session that nothing was added to yet."""
        transcript = Transcript(self.tokenizer, self.prompt)
        trends = [Trend(self.pack.hierarchy, id) for id in tracks]
        return Session(transcript, self.monitor.stats, "tiny/host · tiny-pack", limit, show, trends)


def watch(directory: Path, *, new_tokens: int = NEW_TOKENS, null_texts: int = 0, **settings: Any) -> Watched:
    """Watch a tiny Gemma-3 go on from PROMPT with a pack of random lenses."""
    pack = make_pack(
        directory,
        nodes=named_nodes(),
        hidden_size=hosts.HIDDEN,
        blocks=hosts.BLOCKS,
        null_texts=null_texts,
    )
    tokenizer = hosts.tokenizer()
    inputs = tokenizer(PROMPT, return_tensors="pt", return_token_type_ids=False)
    with Monitor(pack, **settings) as monitor:
        model = hosts.gemma3()
        with monitor.attach(model):
            model.generate(**inputs, max_new_tokens=new_tokens, do_sample=False)
    return Watched(pack, monitor, tokenizer, inputs["input_ids"][0].tolist(), list(monitor.events))
