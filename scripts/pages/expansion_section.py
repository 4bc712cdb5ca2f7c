"""The section of a report that says what expansion misses. Takes the report as its JSON holds it; gives Markdown."""

from collections.abc import Mapping, Sequence

from judging.thresholds import MOST_SCORED
from judging.verdicts import Record

from pages.tables import number, spread, table
from runtime.training.walks import LEAST_RECALL


def expansion(report: Record, shown: Mapping[str, str]) -> str:
    """What the walk finds and scores, at the defaults and along the curve."""
    found = report["expansion"]
    defaults = found["defaults"]
    levels = [
        (
            str(row["level"]),
            str(row["lenses"]),
            f"{row['wanted']:,}",
            f"{row['found']:,}",
            number(row["recall"]),
        )
        for row in found["by_level"]
    ]
    probable = [
        (
            f"{row['probability']:g} or more",
            f"{row['active']:.1f}",
            number(row["recall"]),
        )
        for row in found["by_probability"]
    ]
    places = [
        (
            f"from {max(1, row['first'])} on",
            f"{row['positions']:,}",
            f"{row['active']:.1f}",
            number(row["share_scored"]),
            number(row["recall"]),
        )
        for row in found["by_place"]
    ]
    bounds = "; ".join(
        f"{number(bound['recall'])} with base levels {_levels(bound)}" for bound in found["omniscient"]
    )
    early, late = found["by_place"][0], found["by_place"][-1]
    best, cheapest = found["best_within"], found["cheapest"]
    cost = (
        f"The cheapest point that has recall {LEAST_RECALL}, {_setting(cheapest)}, scores "
        f"{cheapest['share_scored']:.1%} of the lenses, in {cheapest['families_opened']:.0f} families a position."
        if cheapest
        else f"No point of the curve has recall {LEAST_RECALL}."
    )
    advice = (
        f"With at most {MOST_SCORED:.0%} scored, the point that finds most is {_setting(best)}: recall "
        f"{number(best['recall'])}, {best['share_scored']:.1%} scored. {cost}\n\nWhat bounds any policy: a chooser "
        f"that knew every score beforehand, and needed no parent to come to a family, would at {MOST_SCORED:.0%} "
        f"find {bounds}. Probabilities are calibrated at a prior of 1/2 for every lens, so that a lens is at 1/2 "
        "or more wherever the text speaks for its concept more than against it, however little it says: at its "
        f"first words {early['active']:.0f} concepts are, later {late['active']:.0f}."
    )
    check = found["check"]
    return (
        "## What expansion misses\n\n"
        f"{found['positions']:,} tokens drawn from all held-out texts, by the engine at the defaults (base levels "
        f"{','.join(map(str, defaults['base_levels']))}, top-k {defaults['top_k']}, load threshold "
        f"{defaults['load_threshold']:g}). Wanted are concepts beyond the base whose probability is 1/2 or more "
        f"when everything is scored: {found['active_a_position']:.1f} a position. Found: "
        f"**{number(found['recall']['recall'])}**; of those that are truly of the text: "
        f"{number(found['recall_where_true']['recall'])} of {found['recall_where_true']['wanted']:,}.\n\n"
        + table(("concepts of probability", "a position", "recall (95 %)"), probable)
        + "\n"
        + table(("tokens read", "positions", "active a position", "share scored", "recall (95 %)"), places)
        + "\n"
        + table(("level", "lenses", "wanted", "found", "recall (95 %)"), levels)
        + "\n"
        + table(
            ("a position", "10 %", "median", "90 %", "mean"),
            [
                (
                    "share of lenses scored",
                    *spread(found["share_scored"])[1:],
                    number(found["share_scored"]["mean"]),
                ),
                (
                    "families opened",
                    *spread(found["families_opened"])[1:],
                    number(found["families_opened"]["mean"]),
                ),
            ],
        )
        + f"\nThe base alone is {found['share_in_base']:.1%} of all lenses. Families that qualified but were "
        f"beyond top-k: {found['families_cut']:.2f} a position, at {found['positions_cut']:.1%} of positions "
        f"some.\n\n{advice}\n\n"
        + table(
            ("what is scored", "share of lenses", "ms a position, median", "95 %", "n"),
            [
                (
                    "everything" if row["exhaustive"] else _setting(row),
                    number(row["share_scored"]),
                    number(row["milliseconds"]["median"]),
                    number(row["milliseconds"]["p95"]),
                    str(row["milliseconds"]["n"]),
                )
                for row in found["cost"]
            ],
        )
        + "\nOne position at a time, all families hot, the settings taking turns.\n\n"
        + shown.get("by-expansion", "")
        + f"\nThe curve follows the walk on logits of everything ({found['curve_positions']:,} of the positions). "
        f"At the defaults walk and engine differ at {check['positions_where_engine_and_walk_differ']} of "
        f"{found['positions']:,} positions; a walk with nine tenths of the load threshold, which must differ, "
        f"does at {check['positions_where_a_lower_threshold_differs']:,}.\n\n"
        + "Settings than which none finds more for less (all of them are in the JSON):\n\n"
        + table(
            ("base levels", "top-k", "load threshold", "recall", "scored", "families"),
            [
                (
                    _levels(at),
                    str(at["top_k"]),
                    f"{at['load_threshold']:g}",
                    number(at["recall"]),
                    number(at["share_scored"]),
                    f"{at['families_opened']:.1f}",
                )
                for at in undominated(found["curve"])
            ],
        )
    )


def strongest(report: Record) -> str:
    """What the strongest concept of a position is worth."""
    return (
        "## What a word's colour is worth\n\n"
        "A word takes the colour of the strongest concept whose lens is calibrated and measured, where its probability "
        "is high enough. At the same positions, of the lenses that the walk scored:\n\n"
        + table(
            ("probability", "share of tokens", "the text is of that concept", "of its branch (level 0)"),
            [
                (
                    f"{row['probability']:g} or more",
                    number(row["said"]),
                    number(row["concept_true"]),
                    number(row["branch_true"]),
                )
                for row in report["expansion"]["strongest"]
            ],
        )
    )


def undominated(curve: Sequence[Record]) -> list[Record]:
    """The points than which no cheaper one finds as much, cheapest first."""
    chosen: list[Record] = []
    for point in sorted(curve, key=lambda at: (at["share_scored"], -at["recall"])):
        if not chosen or point["recall"] > chosen[-1]["recall"]:
            chosen.append(point)
    return chosen


def _levels(at: Record) -> str:
    return ",".join(map(str, at["base_levels"]))


def _setting(at: Record) -> str:
    return f"base levels {_levels(at)}, top-k {at['top_k']}, load threshold {at['load_threshold']:g}"
