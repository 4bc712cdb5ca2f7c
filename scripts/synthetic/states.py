"""Input states that random lenses are scaled on: those of a host of random weights, or of no host at all.

What such a host writes is as good as drawn at random, so its tokens are drawn, and rows come out of one forward. They
are made into input states as they are when served.

Shapes: Q sequences, T tokens, P kept positions of each, D hidden size.
"""

from dataclasses import replace

import numpy as np
import torch

from lenses.config import InputConfig
from lenses.lens import Floats
from lenses.state import input_states
from runtime.blocks import block_index
from runtime.hook import Rows, Tap
from runtime.host import load_host
from runtime.random_host import BOS, RandomHost

_DTYPES = {torch.bfloat16: "bf16", torch.float32: "fp32"}
SEQUENCES, TOKENS = 12, 48
EVERY = 4
"""Every so many positions one is kept: pooled neighbours say nearly the same."""


def host_states(host: RandomHost, site: str, config: InputConfig, seed: int) -> tuple[Floats, str]:
    """[Q, P, D] input states of a host at a site, and the type it computed them in. Raises HostError."""
    # Blocks above the site change nothing below it, and a short host begins as the long one.
    loaded = load_host(replace(host, blocks=block_index(site) + 1).id)
    rng = torch.Generator().manual_seed(seed)
    drawn = torch.randint(260, loaded.model.config.vocab_size, (SEQUENCES, TOKENS), generator=rng)
    ids = torch.cat([torch.full((SEQUENCES, 1), BOS), drawn], dim=1).to(loaded.model.device)
    rows = Rows()
    with torch.inference_mode(), Tap(loaded.model, site, rows):
        loaded.model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, logits_to_keep=1)
    return _pooled(rows.take_BTD()[:, 1:], config), _DTYPES[loaded.model.dtype]


def gaussian_states(hidden_size: int, config: InputConfig, seed: int) -> Floats:
    """[Q, P, D] input states of normal rows that have nothing to do with each other."""
    rng = np.random.Generator(np.random.SFC64(seed))
    rows_QTD = rng.standard_normal((SEQUENCES, TOKENS, hidden_size), dtype=np.float32)
    return _pooled(rows_QTD, config)


def _pooled(rows_QTD: Floats, config: InputConfig) -> Floats:
    states_QTD = np.stack([input_states(rows_TD, config) for rows_TD in rows_QTD])
    return states_QTD[:, EVERY - 1 :: EVERY]
