"""Runs a host over texts once and keeps the input states that lenses will be trained on.

States are made exactly as they will be served: rows of the site's block, normalised, pooled causally over the text, BOS
in no pool. Kept are a few sampled positions of each text and its last one. Knows nothing about labels or lenses.

Shapes: S samples, D hidden size, B texts of a batch, T tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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
    rng = np.random.default_rng(seed)
    model, tokenizer = host.model, host.tokenizer
    longest = model.config.max_position_embeddings
    encoded = [ids[:longest] for ids in tokenizer(list(texts))["input_ids"]]
    order = sorted(range(len(texts)), key=lambda x: len(encoded[x]))
    states: list[Floats] = []
    owners: list[int] = []
    lasts: list[bool] = []
    places: list[int] = []
    rows = Rows()
    task = progress.add_task(title, total=len(texts))
    with torch.inference_mode(), Tap(model, site, rows):
        for batch in _batches(order, encoded):
            width = len(encoded[batch[-1]])
            # Padding is on the right and attention looks left only, so no row needs a mask.
            ids_BT = torch.full((len(batch), width), tokenizer.pad_token_id)
            for b, x in enumerate(batch):
                ids_BT[b, : len(encoded[x])] = torch.tensor(encoded[x])
            model(input_ids=ids_BT.to(model.device), use_cache=False, logits_to_keep=1)
            pooled_BTD, begin = _pooled(rows.take_BTD(), ids_BT, model.config.bos_token_id, config)
            kept: list[tuple[int, int]] = []
            for b, x in enumerate(batch):
                length = len(encoded[x]) - begin
                picked = rng.choice(length, size=min(positions, length), replace=False)
                at = sorted({*picked.tolist(), length - 1})
                kept += [(b, t) for t in at]
                owners += [x] * len(at)
                lasts += [t == length - 1 for t in at]
                places += [t + begin for t in at]
            states.append(pooled_BTD[tuple(np.array(kept).T)])
            progress.advance(task, len(batch))
    return States(
        np.concatenate(states), np.array(owners, np.int32), np.array(lasts), np.array(places, np.int32)
    )


def _pooled(
    rows_BTD: Floats, ids_BT: torch.Tensor, bos: int | None, config: InputConfig
) -> tuple[Floats, int]:
    """Input states of every position after BOS, and how many columns BOS takes: 1 or 0."""
    begin = int(bos is not None and bool((ids_BT[:, 0] == bos).all()))
    pool = Pool(config)
    columns = [pool.push(normalise(rows_BTD[:, t], config)) for t in range(begin, rows_BTD.shape[1])]
    return np.stack(columns, axis=1), begin


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
