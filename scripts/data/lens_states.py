"""Runs a host over texts once and keeps the input states that lenses will be trained on.

States are made exactly as they will be served: rows of the site's block, normalised, pooled causally over the text, BOS
in no pool. Kept are a few sampled positions of each text and its last one. Knows nothing about labels or lenses.

`collect` keeps all states of one input; `stream` gives those of several inputs (sites, poolings) out of the same
forward, a batch at a time, for whoever needs them only once.

Shapes: S samples, D hidden size, B texts of a batch, T tokens.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress

from lenses.config import InputConfig
from lenses.lens import Floats
from lenses.state import Pool, normalise
from runtime.hook import Rows, Tap
from runtime.host import Host

BATCH_TOKENS = 8192
"""Tokens of one forward, padding included."""

Input = tuple[str, InputConfig]
"""A site, and how its rows become input states."""


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
    rng = np.random.default_rng(seed)
    model, tokenizer = host.model, host.tokenizer
    longest = model.config.max_position_embeddings
    encoded = [ids[:longest] for ids in tokenizer(list(texts))["input_ids"]]
    order = sorted(range(len(texts)), key=lambda x: len(encoded[x]))
    rows = {site: Rows() for site, _ in inputs}
    task = progress.add_task(title, total=len(texts))
    with ExitStack() as taps:
        for site, observer in rows.items():
            taps.enter_context(Tap(model, site, observer))
        for batch in _batches(order, encoded):
            width = len(encoded[batch[-1]])
            # Padding is on the right and attention looks left only, so no row needs a mask.
            ids_BT = torch.full((len(batch), width), tokenizer.pad_token_id)
            for b, x in enumerate(batch):
                ids_BT[b, : len(encoded[x])] = torch.tensor(encoded[x])
            # Not around the loop: it would hold for the caller too, between two batches.
            with torch.inference_mode():
                model(input_ids=ids_BT.to(model.device), use_cache=False, logits_to_keep=1)
            bos = model.config.bos_token_id
            begin = int(bos is not None and bool((ids_BT[:, 0] == bos).all()))
            kept: list[tuple[int, int]] = []
            for b, x in enumerate(batch):
                length = len(encoded[x]) - begin
                picked = rng.choice(length, size=min(positions, length), replace=False)
                kept += [(b, t) for t in sorted({*picked.tolist(), length - 1})]
            at_S = np.array([t + begin for _, t in kept], np.int32)
            text_S = np.array([batch[b] for b, _ in kept], np.int32)
            last_S = np.array([t + begin == len(encoded[batch[b]]) - 1 for b, t in kept])
            where = tuple(np.array(kept).T)
            states: dict[Input, Floats] = {}
            for site, observer in rows.items():
                configs = [config for of, config in inputs if of == site]
                for config, pooled_BTD in zip(
                    configs, _pooled(observer.take_BTD(), begin, configs), strict=True
                ):
                    states[site, config] = pooled_BTD[where]
            progress.advance(task, len(batch))
            yield [States(states[one], text_S, last_S, at_S) for one in inputs]


def _pooled(rows_BTD: Floats, begin: int, configs: Sequence[InputConfig]) -> Iterator[Floats]:
    """Input states of every position from column `begin` on, for each way of making them."""
    normal: dict[tuple[str, float], list[Floats]] = {}
    for config in configs:
        way = config.norm, config.eps
        if way not in normal:
            normal[way] = [normalise(rows_BTD[:, t], config) for t in range(begin, rows_BTD.shape[1])]
        pool = Pool(config)
        yield np.stack([pool.push(row) for row in normal[way]], axis=1)


def _batches(order: Sequence[int], encoded: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Texts of like length together, at most `BATCH_TOKENS` with padding; each batch's longest is its last."""
    batch: list[int] = []
    for x in order:
        if batch and (len(batch) + 1) * len(encoded[x]) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(x)
    if batch:
        yield batch
