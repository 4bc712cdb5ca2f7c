"""stand-in until cards is merged"""

from dataclasses import dataclass, replace

from lenses.calibration import probability
from lenses.concept import Hierarchy
from lenses.metrics import area, concept_metrics, threshold


@dataclass(frozen=True)
class Scored:
    logits_SN: object
    positive_XN: object
    text_S: object
    last_S: object


class Null:
    def __init__(self, heads):
        pass

    def add(self, *a):
        pass


def measure(hierarchy, heads, held_out, *, null=None, other=None):
    last = held_out.last_S
    positive_SN = held_out.positive_XN[held_out.text_S]
    positive_XN, logits_XN = positive_SN[last], held_out.logits_SN[last]
    probability_XN = probability(logits_XN, heads.platt_slope, heads.platt_offset)
    concepts = []
    table = concept_metrics(hierarchy, logits_XN, probability_XN, positive_XN)
    for n, (concept, metrics) in enumerate(zip(hierarchy, table, strict=True)):
        present_from = None
        if "auroc" in metrics:
            metrics |= {"auroc_sampled": round(area(held_out.logits_SN[:, n], positive_SN[:, n]), 4)}
            if heads.calibrated[n]:
                present_from = threshold(probability_XN[:, n], positive_XN[:, n])
        concepts.append(replace(concept, metrics=metrics, threshold=present_from))
    return Hierarchy(concepts), heads
