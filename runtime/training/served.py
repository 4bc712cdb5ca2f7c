"""What every lens of a pack says of input states: the logits as they are served, from stored first layers.

Shapes: S states, D hidden size, N concepts.
"""

from contextlib import closing

import numpy as np
from rich.progress import Progress

from lenses.bank import Bank
from lenses.lens import Floats
from lenses.pack import LensPack

AT_ONCE = 4096
"""States whose intermediate results are held at a time."""


def score_all(
    pack: LensPack, states_SD: Floats, progress: Progress | None = None, title: str = "all lenses"
) -> Floats:
    """[S, N] logits of every lens, in the order of the hierarchy."""
    parts = []
    with closing(Bank(pack, range(len(pack.hierarchy.families)))) as bank:
        batches = [states_SD[start : start + AT_ONCE] for start in range(0, len(states_SD), AT_ONCE)]
        for batch_BD in batches if progress is None else progress.track(batches, description=title):
            parts.append(bank.score_base(bank.inputs(batch_BD)))
    return np.concatenate(parts)
