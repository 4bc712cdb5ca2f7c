"""What a report says of expansion: the walk down the hierarchy held against scoring everything.

By the engine itself at the defaults, and by `expansion_recall.walk` along a curve of settings. Takes states and labels
of held-out texts; knows nothing about pages.

Shapes: P positions, N concepts.
"""

import numpy as np
from controls import ServedLenses
from expansion_recall import Walked, active, recall, walk
from judging import SEED, Bools
from lens_states import States
from lens_verdicts import Record, quantiles
from thresholds import LEAST_RECALL, MOST_SCORED

from lenses.bank import Bank
from lenses.pack import LensPack
from runtime.config import MonitorConfig
from runtime.engine import Engine
from runtime.expansion import Expansion

WALKED = 2000
"""Positions at which the walk is compared with scoring everything."""
CURVE_WALKED = 1000
CURVE_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7)
CURVE_TOP_K = (5, 10, 20, 40)


def compare_expansion(pack: LensPack, states: States, positive_XN: Bools) -> Record:
    """The walk against scoring everything, at the defaults by the real engine, and along the curve."""
    rng = np.random.default_rng(SEED)
    hierarchy, heads = pack.hierarchy, pack.heads
    picked = np.sort(rng.permutation(len(states.text_S))[:WALKED])
    states_PD, text_P = states.states_SD[picked], states.text_S[picked]
    config = MonitorConfig()
    with Engine(pack, config) as engine:
        base_levels, max_level = engine.base_levels, hierarchy.depth - 1
        served = Walked.of_engine(engine.score(states_PD, "prompt"), engine.base_count, len(hierarchy))
    bank = Bank(pack, range(len(hierarchy.families)))
    logits_PN = bank.score_base(states_PD)
    bank.close()
    matrix_PN = ServedLenses(pack).score(states_PD[:200], [concept.id for concept in hierarchy])

    def policy(top_k: int, load_threshold: float) -> Expansion:
        return Expansion(hierarchy, heads, top_k, load_threshold, max_level)

    followed = walk(policy(config.top_k, config.load_threshold), base_levels, logits_PN)
    other = walk(policy(config.top_k, 0.9 * config.load_threshold), base_levels, logits_PN)
    wanted_PN = active(hierarchy, heads, base_levels, logits_PN)
    true_PN = wanted_PN & positive_XN[text_P]
    share_P = served.scored_PN.mean(axis=1)
    curve: list[Record] = []
    few = slice(0, CURVE_WALKED)
    order = rng.permutation(len(picked))[few]
    for levels in dict.fromkeys([tuple(base_levels), (0,)]):
        beyond_PN = active(hierarchy, heads, levels, logits_PN[order])
        for top_k in CURVE_TOP_K:
            for threshold in CURVE_THRESHOLDS:
                walked = walk(policy(top_k, threshold), levels, logits_PN[order])
                curve.append(
                    {
                        "base_levels": list(levels),
                        "top_k": top_k,
                        "load_threshold": threshold,
                        "recall": recall(beyond_PN, walked.scored_PN, text_P[order], rng, draws=1).value,
                        "share_scored": float(walked.scored_PN.mean()),
                        "families_opened": float(walked.opened_P.mean()),
                    }
                )
    good = [at for at in curve if at["recall"] >= LEAST_RECALL and at["share_scored"] <= MOST_SCORED]
    return {
        "positions": len(picked),
        "defaults": {
            "base_levels": list(base_levels),
            "top_k": config.top_k,
            "load_threshold": config.load_threshold,
            "max_level": max_level,
        },
        "active_a_position": float(wanted_PN.sum(axis=1).mean()),
        "recall": recall(wanted_PN, served.scored_PN, text_P, rng).record(),
        "recall_where_true": recall(true_PN, served.scored_PN, text_P, rng).record(),
        "by_level": [
            {"level": level, "lenses": int((hierarchy.levels == level).sum())}
            | recall(wanted_PN & (hierarchy.levels == level), served.scored_PN, text_P, rng).record()
            for level in range(len(base_levels), hierarchy.depth)
        ],
        "share_scored": quantiles(share_P.tolist()) | {"mean": float(share_P.mean())},
        "share_in_base": float((hierarchy.levels < len(base_levels)).mean()),
        "families_opened": quantiles(served.opened_P.tolist()) | {"mean": float(served.opened_P.mean())},
        "families_cut": float(served.cut_P.mean()),
        "positions_cut": float((served.cut_P > 0).mean()),
        "check": {
            "positions_where_engine_and_walk_differ": followed.differing(served),
            "positions_where_a_lower_threshold_differs": other.differing(served),
            "largest_difference_of_logits_between_back_ends": float(
                np.abs(matrix_PN - logits_PN[: len(matrix_PN)]).max()
            ),
        },
        "curve_positions": len(order),
        "curve": curve,
        "cheapest": min(good, key=lambda at: at["share_scored"]) if good else None,
    }
