"""Events as a pandas table, for whoever wants to count, group and plot. The only user of pandas.

One row for each concept scored at each position, of two revisions of its event by the newer; a position without scores
(BOS, a row that was not finite) has none:

    sequence, position      which sequence of the monitor, which of its own tokens, both from 0
    phase                   `prompt` or `generation`, a category
    token, next_token       the id that the row has read, and the one that followed (missing where none did)
    concept, level          the concept's id, a category of all ids of the pack, and its depth
    logit, probability      as scored, and calibrated at a class prior of 1/2, in fp32
    calibrated              whether the lens is; else its probability is no more than a squashed logit
    grade                   how good it was measured to be, an ordered category: unmeasured, F, D ... A

Knows nothing about how events come about or are shown.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from lenses.errors import ExtraMissing
from lenses.grade import GRADES, UNMEASURED, grade
from lenses.pack import LensPack
from runtime.events import Event, newest


def to_frame(events: Iterable[Event], pack: LensPack) -> Any:
    """The events of one pack as a `pandas.DataFrame` in the order given; raises ExtraMissing without pandas."""
    try:
        import pandas as pd
    except ImportError as error:
        raise ExtraMissing(
            "pandas is not installed, which tables of events need; type: pip install 'phoropter[pandas]'"
        ) from error
    kept = [event for event in newest(events) if len(event.scored)]
    counts = [len(event.scored) for event in kept]
    none_I = np.empty(0, np.int32)  # concatenating nothing is an error
    scored_I = np.concatenate([none_I, *(event.scored for event in kept)])
    none_F = np.empty(0, np.float32)

    def each(values: Iterable[object], dtype: str) -> Any:
        return pd.Series(list(values), dtype=dtype).repeat(counts).reset_index(drop=True)

    hierarchy = pack.hierarchy
    worst_first = [UNMEASURED, *(letter for _, letter in reversed(GRADES))]
    grade_N = pd.Categorical([grade(c.metrics) for c in hierarchy], worst_first, ordered=True)
    return pd.DataFrame(
        {
            "sequence": each((event.sequence for event in kept), "int64"),
            "position": each((event.position for event in kept), "int64"),
            "phase": each((event.phase for event in kept), "category"),
            "token": each((event.token for event in kept), "int64"),
            "next_token": each((event.next_token for event in kept), "Int64"),
            "concept": pd.Categorical.from_codes(scored_I, [concept.id for concept in hierarchy]),
            "level": hierarchy.levels[scored_I],
            "logit": np.concatenate([none_F, *(event.logits for event in kept)]),
            "probability": np.concatenate([none_F, *(event.probabilities for event in kept)]),
            "calibrated": pack.heads.calibrated[scored_I],
            "grade": grade_N[scored_I],
        }
    )
