"""What a choice is measured by: how well its scores tell texts apart, over all lenses, in one flat record of numbers.

    auroc_text              AUROC at a text's last position; `_siblings`: negatives are texts of siblings only
    auroc_sampled           AUROC at sampled positions, the last among them
    brier_skill_..., calibration_error_...   the same places, where probabilities are given; see `lenses.metrics`

Each is a median over lenses (`_median`), AUROC also a 10th percentile (`_p10`). Lenses with fewer than 10 positive
texts are left out, and siblings where they have fewer. `score` is what choices are ranked by: the mean of the medians
of AUROC at the text and at sampled positions, against all texts and against siblings.

Knows scores and labels, nothing about hosts or how lenses were made.

Shapes: S samples, X texts, N lenses.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from lenses.concept import Hierarchy
from lenses.errors import ConfigError
from lenses.lens import Floats
from lenses.metrics import Bools, Ints, area, brier_skill, is_measured, reliability, siblings_only
from lenses.training import Samples

PLACES = ("text", "sampled")
RANKED = tuple(f"auroc_{place}{against}" for place in PLACES for against in ("", "_siblings"))


def metrics(
    hierarchy: Hierarchy,
    scores_SN: Floats,
    samples: Samples,
    last_S: Bools,
    probability_SN: Floats | None = None,
) -> dict[str, float]:
    """The record described above, and `lenses`: how many were measured; raises ConfigError where none can be."""
    text_S, last = samples.text_S, np.flatnonzero(last_S)
    positive_XN = np.zeros_like(samples.positive_XN)
    present = np.unique(text_S)
    # Texts without a sample are nobody's: they must not count as positives.
    positive_XN[present] = samples.positive_XN[present]
    measured = [n for n in range(len(hierarchy)) if is_measured(positive_XN[present, n])]
    if not measured:
        raise ConfigError(f"{len(present)} texts give no lens 10 positives; give a larger --sample")
    places: dict[str, Ints] = {"text": last, "sampled": np.arange(len(text_S))}

    def of_lens(n: int) -> dict[str, float]:
        found: dict[str, float] = {}
        near_X = siblings_only(hierarchy, positive_XN, n)
        has_siblings = is_measured(positive_XN[near_X, n])
        for place, rows in places.items():
            positive, near, scores = positive_XN[text_S[rows], n], near_X[text_S[rows]], scores_SN[rows, n]
            found[f"auroc_{place}"] = area(scores, positive)
            if has_siblings:
                found[f"auroc_{place}_siblings"] = area(scores[near], positive[near])
            if probability_SN is not None:
                probability = probability_SN[rows, n]
                found[f"brier_skill_{place}"] = brier_skill(probability, positive)
                found[f"calibration_error_{place}"] = reliability(probability, positive).error
        return found

    return {"lenses": len(measured), **_overall(of_lens, measured)}


def _overall(of_lens: Callable[[int], dict[str, float]], measured: list[int]) -> dict[str, float]:
    # Sorting is most of the work, and numpy sorts without the interpreter's lock.
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        lenses = list(pool.map(of_lens, measured))
    found: dict[str, float] = {}
    for name in dict.fromkeys(name for lens in lenses for name in lens):
        low, middle = np.quantile([lens[name] for lens in lenses if name in lens], [0.1, 0.5])
        found[f"{name}_median"] = float(middle)
        if name in RANKED:
            found[f"{name}_p10"] = float(low)
    medians = [found[f"{name}_median"] for name in RANKED if f"{name}_median" in found]
    return {"score": float(np.mean(medians)), **found}
