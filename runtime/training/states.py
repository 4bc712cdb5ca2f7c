"""Runs a host over texts once and keeps the input states that lenses will be trained on.

States are made exactly as they will be served: rows of the site's block, normalised, pooled causally over the text, BOS
in no pool. Kept are a few sampled positions of each text and its last one; which ones depends on the seed and on the
text's place alone, so texts may be taken in any order and by any process. Knows nothing about labels or lenses.

`collect` keeps all states of one input; `stream` gives those of several inputs (sites, poolings) out of the same
forward, a batch at a time, for whoever needs them only once; `shards` keeps them on disk. The host computes no further
than the deepest site.

Shapes: S samples, D hidden size, B texts of a batch, T tokens.
"""

import inspect
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress

from lenses.config import InputConfig
from lenses.lens import Floats
from lenses.state import Pool, normalise
from runtime.batches import by_length
from runtime.blocks import block_index, text_config
from runtime.hook import Forward, Rows, Tap
from runtime.host import Host

BATCH_TOKENS = 8192
"""Tokens of one forward, padding included."""
EVERY_TOKEN = 1 << 30
"""As many positions as a text has."""

Input = tuple[str, InputConfig]
"""A site, and how its rows become input states."""
Batch = Sequence[int]
"""Texts of one forward, by their place; the longest is the last."""


@dataclass(frozen=True, slots=True)
class States:
    """Input states of some texts."""

    states_SD: Floats
    text_S: NDArray[np.int32]
    """[S] which text each sample is of."""
    last_S: NDArray[np.bool_]
    """[S] whether it is the text's last position."""
    at_S: NDArray[np.int32]
    """[S] which token of the text it has read, BOS counted."""

    @classmethod
    def joined(cls, pieces: Sequence[Self]) -> Self:
        """All pieces as one."""
        return cls(
            np.concatenate([piece.states_SD for piece in pieces]),
            np.concatenate([piece.text_S for piece in pieces]),
            np.concatenate([piece.last_S for piece in pieces]),
            np.concatenate([piece.at_S for piece in pieces]),
        )


class Collector:
    """A host, texts in its tokens, and the positions of each that are kept: `positions` sampled ones and the last."""

    def __init__(
        self, host: Host, texts: Sequence[str], inputs: Sequence[Input], positions: int, seed: int
    ) -> None:
        self._host, self._inputs = host, inputs
        described = text_config(host.model)
        self._ids = [
            ids[: described.max_position_embeddings] for ids in host.tokenizer(list(texts))["input_ids"]
        ]
        bos = described.bos_token_id
        self._begin = int(bos is not None and all(ids[:1] == [bos] for ids in self._ids))
        self._kept = [
            _kept_positions(len(ids) - self._begin, positions, np.random.default_rng([seed, x]))
            for x, ids in enumerate(self._ids)
        ]
        some = [x for x, kept in enumerate(self._kept) if kept]
        self.batches: list[Batch] = list(by_length(some, [len(ids) for ids in self._ids], BATCH_TOKENS))
        """Texts of like length together, the shortest first; a text without a token is in none."""

    def samples(self, batch: Batch) -> int:
        """States that this batch gives, of each input."""
        return sum(len(self._kept[x]) for x in batch)

    def states(self, batches: Iterable[Batch]) -> Iterator[list[States]]:
        """The states of each of the inputs, all at the same positions, a batch at a time."""
        model, tokenizer = self._host.model, self._host.tokenizer
        padding = 0 if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        options = {"use_cache": False, "logits_to_keep": 1}
        options = {name: value for name, value in options.items() if name in _parameters(model)}
        deepest = max((site for site, _ in self._inputs), key=block_index)
        rows = {site: _LastRows() if site == deepest else Rows() for site, _ in self._inputs}
        with ExitStack() as taps:
            for site, observer in rows.items():
                taps.enter_context(Tap(model, site, observer))
            for batch in batches:
                # Padding is on the right and attention looks left only, so no row needs a mask.
                ids_BT = torch.full((len(batch), len(self._ids[batch[-1]])), padding)
                for b, x in enumerate(batch):
                    ids_BT[b, : len(self._ids[x])] = torch.tensor(self._ids[x])
                # Not around the loop: it would hold for the caller too, between two batches.
                with torch.inference_mode(), suppress(_Enough):
                    model(input_ids=ids_BT.to(model.device), **options)
                yield self._kept_states(batch, {site: one.take_BTD() for site, one in rows.items()})

    def _kept_states(self, batch: Batch, rows: dict[str, Floats]) -> list[States]:
        kept = [(b, t) for b, x in enumerate(batch) for t in self._kept[x]]
        where = tuple(np.array(kept).T)
        text_S = np.array([batch[b] for b, _ in kept], np.int32)
        at_S = np.array([t + self._begin for _, t in kept], np.int32)
        last_S = np.array([t + self._begin == len(self._ids[batch[b]]) - 1 for b, t in kept])
        states: dict[Input, Floats] = {}
        for site, rows_BTD in rows.items():
            configs = [config for of, config in self._inputs if of == site]
            for config, pooled_BTD in zip(configs, _pooled(rows_BTD, self._begin, configs), strict=True):
                states[site, config] = pooled_BTD[where]
        return [States(states[one], text_S, last_S, at_S) for one in self._inputs]


def collect(
    host: Host,
    texts: Sequence[str],
    *,
    site: str,
    config: InputConfig,
    positions: int,
    seed: int,
    progress: Progress,
    title: str,
) -> States:
    """Input states at `positions` sampled places of each text, and at its last; the same for the same seed."""
    pieces = stream(
        host,
        texts,
        inputs=[(site, config)],
        positions=positions,
        seed=seed,
        progress=progress,
        title=title,
    )
    return States.joined([piece for (piece,) in pieces])


def stream(
    host: Host,
    texts: Sequence[str],
    *,
    inputs: Sequence[Input],
    positions: int,
    seed: int,
    progress: Progress,
    title: str,
) -> Iterator[list[States]]:
    """What `collect` gives, batch by batch: the states of each of the inputs, all at the same positions."""
    collector = Collector(host, texts, inputs, positions, seed)
    task = progress.add_task(title, total=len(texts))
    for batch, found in zip(collector.batches, collector.states(collector.batches), strict=True):
        progress.advance(task, len(batch))
        yield found


class _Enough(Exception):
    """The host has computed all that is read."""


class _LastRows(Rows):
    """Rows of the deepest site: what the host would compute after them is left out."""

    def observe(self, forward: Forward) -> None:
        super().observe(forward)
        raise _Enough


def _kept_positions(length: int, positions: int, rng: np.random.Generator) -> list[int]:
    if length < 1:
        return []
    picked = rng.choice(length, size=min(positions, length), replace=False)
    return sorted({*picked.tolist(), length - 1})


def _parameters(model: torch.nn.Module) -> set[str]:
    return set(inspect.signature(model.forward).parameters)


def _pooled(rows_BTD: Floats, begin: int, configs: Sequence[InputConfig]) -> Iterator[Floats]:
    """Input states of every position from column `begin` on, for each way of making them."""
    normal: dict[tuple[str, float], list[Floats]] = {}
    for config in configs:
        way = config.norm, config.eps
        if way not in normal:
            normal[way] = [normalise(rows_BTD[:, t], config) for t in range(begin, rows_BTD.shape[1])]
        pool = Pool(config)
        yield np.stack([pool.push(row) for row in normal[way]], axis=1)
