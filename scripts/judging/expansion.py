"""What a report says of expansion: the walk down the hierarchy held against scoring everything.

By the engine itself at the defaults, and by `expansion_recall.walk` along a curve of settings. Takes states and labels
of held-out texts; knows nothing about pages.

Shapes: P positions, N concepts.
"""

import itertools
from dataclasses import asdict, replace

import numpy as np

from judging.controls import ServedLenses
from judging.cost import TIMED, configuration_of, cost
from judging.strongest import strongest
from judging.thresholds import MOST_SCORED
from judging.verdicts import Record, quantiles
from lenses.metrics import SEED, Bools
from lenses.pack import LensPack
from runtime.config import MonitorConfig
from runtime.engine import Engine
from runtime.training.served import score_all
from runtime.training.states import States
from runtime.training.walks import (
    LEAST_RECALL,
    Walked,
    active,
    best_within,
    cheapest_with,
    curve,
    omniscient_recall,
    ratio,
    recall,
    walk,
)

WALKED = 2000
"""Positions at which the walk is compared with scoring everything."""
CURVE_WALKED = 1000
CURVE_BASES = ((0,), (0, 1))
CURVE_THRESHOLDS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.7)
CURVE_TOP_K = (5, 10, 20, 40, 80, 160)
PLACES = (0, 4, 9, 17)
"""Tokens read, BOS counted, at which a stretch of a text begins."""
PROBABILITIES = (0.5, 0.7, 0.9, 0.95)
"""From which probability on a concept is wanted."""


def compare_expansion(pack: LensPack, states: States, positive_XN: Bools) -> Record:
    """The walk against scoring everything, at the defaults by the real engine, and along the curve."""
    rng = np.random.default_rng(SEED)
    hierarchy, heads = pack.hierarchy, pack.heads
    picked = np.sort(rng.permutation(len(states.text_S))[:WALKED])
    states_PD, text_P = states.states_SD[picked], states.text_S[picked]
    with Engine(pack, MonitorConfig()) as engine:
        base_levels, policy = engine.base_levels, engine.expansion
        served = Walked.of_engine(engine.score(states_PD, "prompt"), engine.base_count, len(hierarchy))
    logits_PN = score_all(pack, states_PD)
    matrix_PN = ServedLenses(pack).score(states_PD[:200], [concept.id for concept in hierarchy])

    followed = walk(policy, base_levels, logits_PN)
    other = walk(replace(policy, load_threshold=0.9 * policy.load_threshold), base_levels, logits_PN)
    wanted_PN = active(hierarchy, heads, base_levels, logits_PN)
    true_PN = wanted_PN & positive_XN[text_P]
    share_P = served.scored_PN.mean(axis=1)
    scored = ratio(served.scored_PN.sum(axis=1), np.full(len(picked), len(hierarchy)), text_P, rng)
    order = rng.permutation(len(picked))[:CURVE_WALKED]
    bases = dict.fromkeys([tuple(base_levels), *CURVE_BASES])
    points = list(curve(hierarchy, heads, logits_PN[order], bases, CURVE_TOP_K, CURVE_THRESHOLDS))
    best, cheapest = best_within(MOST_SCORED, points), cheapest_with(LEAST_RECALL, points)
    return {
        "positions": len(picked),
        "defaults": {
            "base_levels": list(base_levels),
            "top_k": policy.top_k,
            "load_threshold": policy.load_threshold,
            "max_level": policy.max_level,
        },
        "active_a_position": float(wanted_PN.sum(axis=1).mean()),
        "recall": recall(wanted_PN, served.scored_PN, text_P, rng).record(),
        "recall_where_true": recall(true_PN, served.scored_PN, text_P, rng).record(),
        "by_probability": [
            {"probability": least, "active": float(some_PN.sum(axis=1).mean())}
            | recall(some_PN, served.scored_PN, text_P, rng).record()
            for least in PROBABILITIES
            for some_PN in [active(hierarchy, heads, base_levels, logits_PN, least)]
        ],
        "strongest": list(strongest(pack, logits_PN, served.scored_PN, positive_XN[text_P])),
        "by_place": [
            {
                "first": first,
                "positions": int(here_P.sum()),
                "active": float(wanted_PN[here_P].sum(axis=1).mean()),
                "share_scored": float(share_P[here_P].mean()),
            }
            | recall(wanted_PN[here_P], served.scored_PN[here_P], text_P[here_P], rng).record()
            for first, end in itertools.pairwise((*PLACES, np.inf))
            for here_P in [(states.at_S[picked] >= first) & (states.at_S[picked] < end)]
            if here_P.any()
        ],
        "by_level": [
            {"level": level, "lenses": int((hierarchy.levels == level).sum())}
            | recall(wanted_PN & (hierarchy.levels == level), served.scored_PN, text_P, rng).record()
            for level in range(len(base_levels), hierarchy.depth)
        ],
        "share_scored": quantiles(share_P.tolist()) | {"mean": scored},
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
        "curve": [asdict(point) for point in points],
        "cost": list(
            cost(
                pack,
                states_PD[order[:TIMED]],
                [configuration_of(best), MonitorConfig(), MonitorConfig(exhaustive=True)],
            )
        ),
        "best_within": asdict(best),
        "cheapest": asdict(cheapest) if cheapest.recall >= LEAST_RECALL else None,
        "omniscient": [
            {"base_levels": list(base), "share_scored": MOST_SCORED}
            | {
                "recall": omniscient_recall(
                    hierarchy, base, active(hierarchy, heads, base, logits_PN), MOST_SCORED
                )
            }
            for base in bases
        ],
    }
