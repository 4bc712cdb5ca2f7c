"""What is found out about each lens and about all of them, as plain records that go into a report as they are.

Takes scores and labels of held-out texts at every token; knows nothing about hosts, files or pages.

Shapes: S samples (every token of every text), X texts, M measured lenses, N concepts of the pack.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from judging.redrawn import Redrawn, median_interval, quantile_intervals, share_interval
from lenses.concept import Hierarchy
from lenses.lens import Floats
from lenses.metrics import (
    Bools,
    Doubles,
    Estimate,
    Ints,
    area,
    auroc,
    auroc_difference,
    brier_skill,
    calibration_floor,
    is_measured,
    placements,
    reliability,
    siblings_only,
    true_positive_rate,
)

Record = dict[str, Any]

LENS = "lens"
WORDS = "bag_of_words"
CONTROLS = (WORDS, "linear", "random", "shuffled")


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The held-out texts and who they are of."""

    text_S: Ints
    """[S] the text of each sample."""
    last_S: Bools
    """[S] whether it is a text's last token."""
    positive_XN: Bools
    without_words_XN: Bools
    """[X, N] whether a text has none of a concept's telling words."""
    redrawn: Redrawn
    """The texts drawn anew, for the intervals of what is said of all lenses."""

    def at_texts(self, values_S: Floats) -> Floats:
        """[X] the values at each text's last token, in order of the texts."""
        values_X = np.empty(len(self.positive_XN), values_S.dtype)
        values_X[self.text_S[self.last_S]] = values_S[self.last_S]
        return values_X


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a lens reaches on texts drawn anew."""

    brier_skill_R: Doubles
    calibration_error_R: Doubles

    @classmethod
    def of(cls, redrawn: Redrawn, probability_S: Floats, positive_S: Bools, text_S: Ints) -> "Drawn":
        """On samples of these texts."""
        return cls(
            redrawn.brier_skills(probability_S, positive_S, text_S),
            redrawn.calibration_errors(probability_S, positive_S, text_S),
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is found out about one lens."""

    record: Record
    placed_X: Doubles
    """[X] placements at the text, against all other texts."""
    siblings_X: Doubles
    """[X] against siblings; NaN where a text is no sibling's, or siblings have too few."""
    difference_X: Doubles
    """[X] placements less those of the bag of words among texts without telling words; NaN elsewhere."""
    probability_X: Floats
    drawn: Mapping[str, Drawn]
    """By where it was judged, `text` and `tokens`."""


def judge(
    hierarchy: Hierarchy,
    n: int,
    scores: Mapping[str, Floats],
    probability_S: Floats,
    held_out: HeldOut,
    seed: int,
) -> Verdict:
    """Judge lens n by its scores [S] and those of the controls, by name; `probability_S` is what is served."""
    positive = held_out.positive_XN[:, n]
    at_text = {name: held_out.at_texts(values) for name, values in scores.items()}
    probability_X = held_out.at_texts(probability_S)
    placed = {name: placements(values, positive) for name, values in at_text.items()}
    text: Record = {
        "auroc": auroc(placed[LENS], positive),
        "tpr_at_1fpr": true_positive_rate(at_text[LENS], positive),
        "brier_skill": brier_skill(probability_X, positive),
        "calibration_error": reliability(probability_X, positive).error,
        "calibration_error_floor": calibration_floor(
            probability_X, positive, np.random.default_rng((seed, n))
        ),
    }
    controls: Record = {"text": {name: float(placed[name][positive].mean()) for name in CONTROLS}}

    siblings_X = np.full(len(positive), np.nan)
    near = siblings_only(hierarchy, held_out.positive_XN, n)
    if is_measured(positive[near]):
        among = {name: placements(values[near], positive[near]) for name, values in at_text.items()}
        siblings_X[near] = among[LENS]
        text["auroc_siblings"] = auroc(among[LENS], positive[near])
        controls["text_siblings"] = {name: float(among[name][positive[near]].mean()) for name in CONTROLS}

    difference_X = np.full(len(positive), np.nan)
    bare = held_out.without_words_XN[:, n]
    absent: Record = {"positives": int(positive[bare].sum()), "texts": int(bare.sum())}
    if is_measured(positive[bare]):
        among = {name: placements(values[bare], positive[bare]) for name, values in at_text.items()}
        difference_X[bare] = among[LENS] - among[WORDS]
        absent |= {LENS: auroc(among[LENS], positive[bare])}
        absent |= {name: float(among[name][positive[bare]].mean()) for name in CONTROLS}
        absent["difference"] = auroc_difference(among[LENS], among[WORDS], positive[bare])

    positive_S = positive[held_out.text_S]
    everywhere = placements(scores[LENS], positive_S)
    tokens: Record = {
        "positives": int(positive_S.sum()),
        "auroc": auroc(everywhere, positive_S, held_out.text_S),
        "tpr_at_1fpr": true_positive_rate(scores[LENS], positive_S),
        "brier_skill": brier_skill(probability_S, positive_S),
        "calibration_error": reliability(probability_S, positive_S).error,
    }
    if "auroc_siblings" in text:
        near_S = near[held_out.text_S]
        among_S = placements(scores[LENS][near_S], positive_S[near_S])
        tokens["auroc_siblings"] = auroc(among_S, positive_S[near_S], held_out.text_S[near_S])
    controls["tokens"] = {name: area(scores[name], positive_S) for name in CONTROLS}
    record = {"text": text, "tokens": tokens, "controls": controls, "words_absent": absent}
    drawn = {
        "text": Drawn.of(held_out.redrawn, probability_X, positive, np.arange(len(positive))),
        "tokens": Drawn.of(held_out.redrawn, probability_S, positive_S, held_out.text_S),
    }
    return Verdict(record, placed[LENS], siblings_X, difference_X, probability_X, drawn)


def pooled_reliability(probability_XM: Floats, positive_XM: Bools) -> Record:
    """Reliability of all measured lenses together, every lens and both of its classes weighing the same."""
    weight_XM = np.where(positive_XM, 0.5 / positive_XM.sum(axis=0), 0.5 / (~positive_XM).sum(axis=0))
    found = reliability(probability_XM.reshape(-1), positive_XM.reshape(-1), weight_S=weight_XM.reshape(-1))
    return {"error": found.error, "said": found.said_K.tolist(), "found": found.found_K.tolist()}


def summary(verdicts: Sequence[Verdict], positive_XM: Bools, redrawn: Redrawn) -> Record:
    """All measured lenses together: quantiles, with intervals where a threshold is held against them."""
    records = [verdict.record for verdict in verdicts]
    found: Record = {where: _overall(verdicts, where) for where in ("text", "tokens")}
    placed_XM = np.stack([verdict.placed_X for verdict in verdicts], axis=1)
    middle, low = quantile_intervals(*redrawn.areas(placed_XM, positive_XM), (0.5, 0.1))
    found["text"]["auroc"] |= {"median": middle, "p10": low}
    has_siblings = [m for m, record in enumerate(records) if "auroc_siblings" in record["text"]]
    if has_siblings:
        siblings_XM = np.stack([verdicts[m].siblings_X for m in has_siblings], axis=1)
        (middle,) = quantile_intervals(*redrawn.areas(siblings_XM, positive_XM[:, has_siblings]), (0.5,))
        found["text"]["auroc_siblings"] |= {"median": middle}
    found["controls"] = {
        where: {
            name: quantiles([r["controls"][where][name] for r in records if where in r["controls"]])
            for name in CONTROLS
        }
        for where in ("text", "text_siblings", "tokens")
    }
    found["words_absent"] = _words_absent(verdicts, positive_XM, redrawn)
    return found


def quantiles(values: Sequence[float]) -> Record:
    """n, 10th percentile, median and 90th percentile."""
    if not values:
        return {"n": 0}
    low, middle, high = np.quantile(values, [0.1, 0.5, 0.9])
    return {"n": len(values), "p10": float(low), "median": float(middle), "p90": float(high)}


def _overall(verdicts: Sequence[Verdict], where: str) -> Record:
    records = [verdict.record for verdict in verdicts]
    found: Record = {
        name: quantiles([r[where][name].value for r in records if name in r[where]])
        for name in ("auroc", "auroc_siblings")
    }
    names = ("tpr_at_1fpr", "brier_skill", "calibration_error")
    found |= {name: quantiles([r[where][name] for r in records]) for name in names}
    skill_M, error_M = (np.array([r[where][name] for r in records]) for name in names[1:])
    found["brier_skill"]["above_constant"] = share_interval(
        skill_M, np.stack([verdict.drawn[where].brier_skill_R for verdict in verdicts], axis=1)
    )
    found["calibration_error"]["at_most_0.05"] = float((error_M <= 0.05).mean())
    found["calibration_error"]["median"] = median_interval(
        error_M, np.stack([verdict.drawn[where].calibration_error_R for verdict in verdicts], axis=1)
    )
    if where == "text":
        found["calibration_error_floor"] = quantiles([r[where]["calibration_error_floor"] for r in records])
    return found


def _words_absent(verdicts: Sequence[Verdict], positive_XM: Bools, redrawn: Redrawn) -> Record:
    """Lens against bag of words, where the telling words are absent."""
    which = [m for m, verdict in enumerate(verdicts) if "difference" in verdict.record["words_absent"]]
    if not which:
        return {"lenses": 0}
    some = [verdicts[m].record["words_absent"] for m in which]
    difference_XM = np.stack([verdicts[m].difference_X for m in which], axis=1)
    exact_M, drawn_RM = redrawn.areas(difference_XM, positive_XM[:, which])
    (middle,) = quantile_intervals(exact_M, drawn_RM, (0.5,))
    differences: list[Estimate] = [record["difference"] for record in some]
    return {
        "lenses": len(which),
        LENS: quantiles([record[LENS].value for record in some]),
        **{name: quantiles([record[name] for record in some]) for name in CONTROLS},
        "difference_median": middle,
        "lens_above": sum(one.value > 0 for one in differences),
        "lens_above_share": share_interval(np.array([one.value for one in differences]), drawn_RM),
        "lens_above_for_certain": sum(one.low > 0 for one in differences),
        "words_above_for_certain": sum(one.high < 0 for one in differences),
    }
