"""Texts through a host and its lenses, several in one forward, and what is told of each: the rows of a scan.

1. A window's texts are tokenised; what has no token or too many says so.
2. Texts of like length go through the host together, padded on the right: attention looks left only, and a monitor
   makes no event of padding. So a text's rows do not depend on its neighbours but for the host's last bits.
3. Every event becomes a row, and every text one more when its events are out, in the order of the lines.

A row is a value for JSON. Of a token:

    kind "token", line, id, position, token, text, state (as in events), concepts, expected and failed (lenses), rules
    (those that are met; left out where none is)

and of a text, behind its tokens:

    kind "sequence", line, id, state (ok, empty, cut, bad_line), problem, tokens, read (those that fit the host's
    context), scored and not_finite (positions), aggregate, concepts, rules (how often each is met, and where first)

Knows nothing about files.

Shapes: B texts of a forward, T tokens.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from lenses.errors import ConfigError
from lenses.pack import LensPack
from lenses.text import quoted
from runtime.batches import by_length
from runtime.blocks import text_config
from runtime.config import MonitorConfig
from runtime.events import Event, Score
from runtime.host import Host
from runtime.monitor import Monitor
from runtime.rules import Rule
from runtime.scan.aggregate import Aggregation, Course
from runtime.scan.texts import Text
from runtime.transcript import TextPieces

BATCH_TOKENS = 4096
"""Tokens of one forward, padding included; a longer text has one of its own."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which concepts the rows tell of."""

    track: tuple[str, ...] = ()
    """These, whatever they score: they are scored at every position, and the walk is left out."""
    show: int | None = 8
    """Without `track`: the strongest of those that were scored; None for all of them."""


@dataclass(slots=True)
class Counts:
    """What became of the lines so far."""

    lines: int = 0
    ok: int = 0
    empty: int = 0
    cut: int = 0
    bad_line: int = 0
    tokens: int = 0
    """Read by the host."""
    not_finite: int = 0
    """Positions whose rows were not finite."""
    failed: int = 0
    """Lenses that could not be scored, summed over positions."""


def scan_config(config: MonitorConfig, selection: Selection) -> MonitorConfig:
    """The configuration of a scan's monitor; raises ConfigError for a rule that stops."""
    for rule in config.rules:
        if rule.action == "stop":
            raise ConfigError(
                f"the rule {quoted(str(rule))} stops, and a scan generates nothing that could be stopped; give it mark"
            )
    if selection.track:
        config = replace(config, always=selection.track, prompt_events="base", prewarm=False)
    return replace(config, queue_events=1)


class Scanner:
    """Scans windows of texts with one monitor, made with `scan_config`, on one host; attach it first."""

    def __init__(
        self, monitor: Monitor, host: Host, *, selection: Selection, aggregation: Aggregation
    ) -> None:
        self._monitor = monitor
        self._host = host
        self._selection = selection
        self._aggregation = aggregation
        self._longest = getattr(text_config(host.model), "max_position_embeddings", None)
        self.counts = Counts()

    def scan(self, texts: Sequence[Text]) -> Iterator[bytes]:
        """The rows of each text, as lines of JSON, in the order given."""
        ids = [self._encode(text) for text in texts]
        told = [_Told(text, self._monitor.pack, self._selection, self._aggregation) for text in texts]
        some = [at for at, of in enumerate(ids) if of]
        for batch in by_length(some, [len(of) for of in ids], BATCH_TOKENS):
            self._forward([told[at] for at in batch], [ids[at][: self._longest] for at in batch])
        for one, of in zip(told, ids, strict=True):
            state = self._count(one, len(of))
            yield b"".join(one.rows) + _line(one.summary(state, len(of)))

    def _encode(self, text: Text) -> list[int]:
        if not text.text.strip():
            return []
        return list(self._host.tokenizer(text.text, verbose=False)["input_ids"])

    def _forward(self, told: Sequence["_Told"], ids: Sequence[list[int]]) -> None:
        """Run the host over some texts; their events go to `told`."""
        model, tokenizer = self._host.model, self._host.tokenizer
        width = max(map(len, ids))
        ids_BT = torch.full((len(ids), width), tokenizer.pad_token_id or 0)
        mask_BT = torch.zeros_like(ids_BT)
        for b, of in enumerate(ids):
            ids_BT[b, : len(of)] = torch.tensor(of)
            mask_BT[b, : len(of)] = 1
            told[b].pieces = TextPieces(tokenizer)
        first = self._monitor.stats().sequences
        unsubscribe = self._monitor.subscribe(lambda event: told[event.sequence - first].add(event))
        try:
            with torch.inference_mode():
                model(
                    input_ids=ids_BT.to(model.device),
                    attention_mask=mask_BT.to(model.device),
                    use_cache=False,
                    logits_to_keep=1,
                )
                for b in range(len(ids)):
                    self._monitor.finish(b)
        finally:
            unsubscribe()

    def _count(self, told: "_Told", tokens: int) -> str:
        counts = self.counts
        state = "bad_line" if told.text.problem else "empty" if not tokens else "ok"
        if self._longest is not None and tokens > self._longest:
            state = "cut"
        counts.lines += 1
        setattr(counts, state, getattr(counts, state) + 1)
        counts.tokens += told.read
        counts.not_finite += told.not_finite
        counts.failed += told.failed
        return state


@dataclass(slots=True)
class _Told:
    """What was told of one text so far."""

    text: Text
    pack: LensPack
    selection: Selection
    aggregation: Aggregation
    pieces: TextPieces | None = None
    rows: list[bytes] = field(default_factory=list)
    read: int = 0
    not_finite: int = 0
    failed: int = 0
    course: Course = field(init=False)
    met: dict[Rule, list[int]] = field(default_factory=dict)
    """Rule to the positions at which it is met."""

    def __post_init__(self) -> None:
        self.course = Course(self.aggregation, len(self.pack.hierarchy))

    def add(self, event: Event) -> None:
        """Take the next event of the text in."""
        assert self.pieces is not None
        self.read += 1
        self.not_finite += event.state == "non_finite"
        self.failed += event.coverage.failed
        scores = self._selected(event)
        if event.state == "ok":
            self._add_to_course(event)
        for met in event.met:
            self.met.setdefault(met.rule, []).append(event.position)
        rules = [met.to_json() for met in event.met]
        self.rows.append(
            _line(
                {
                    "kind": "token",
                    "line": self.text.line,
                    "id": self.text.id,
                    "position": event.position,
                    "token": event.token,
                    "text": self.pieces.add(event.token),
                    "state": event.state,
                    "concepts": [
                        {"id": score.id, "probability": round(score.probability, 6), "vouched": score.vouched}
                        for score in scores
                    ],
                    "expected": event.coverage.expected,
                    "failed": event.coverage.failed,
                    **({"rules": rules} if rules else {}),
                }
            )
        )

    def summary(self, state: str, tokens: int) -> Row:
        """The row of the text itself."""
        hierarchy, values = self.pack.hierarchy, self.course.values()
        tracked = [hierarchy.index(id) for id in self.selection.track if self.course.positions]
        return {
            "kind": "sequence",
            "line": self.text.line,
            "id": self.text.id,
            "state": state,
            "problem": self.text.problem,
            "tokens": tokens,
            "read": self.read,
            "scored": self.course.positions,
            "not_finite": self.not_finite,
            "aggregate": str(self.aggregation),
            "concepts": [
                {
                    "id": hierarchy.concepts[index].id,
                    "probability": round(float(values[index]), 6),
                    "positions": int(self.course.count_N[index]),
                    "vouched": bool(self.pack.vouched_N[index]),
                }
                for index in tracked or self.course.strongest(hierarchy, self.selection.show)
            ],
            "rules": [
                {"rule": str(rule), "positions": len(at), "first": at[0]} for rule, at in self.met.items()
            ],
        }

    def _selected(self, event: Event) -> Sequence[Score]:
        if self.selection.track:
            of = {score.id: score for score in event.asked}
            return [of[id] for id in self.selection.track] if of else []
        return list(event.ranked()) if self.selection.show is None else event.top(self.selection.show)

    def _add_to_course(self, event: Event) -> None:
        if not self.selection.track:
            self.course.add(event.scored, event.probabilities)
            return
        asked = {score.id: score.probability for score in event.asked}
        index = [self.pack.hierarchy.index(id) for id in self.selection.track]
        p = [asked[id] for id in self.selection.track]
        self.course.add(np.array(index, np.int32), np.array(p, np.float32))


def _line(row: Row) -> bytes:
    return json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n"
