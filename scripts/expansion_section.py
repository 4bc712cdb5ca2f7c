"""The section of a report that says what expansion misses. Takes the report as its JSON holds it; gives Markdown."""

from collections.abc import Mapping

from lens_verdicts import Record
from tables import number, spread, table
from thresholds import LEAST_RECALL, MOST_SCORED


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
    curve = [
        (
            ",".join(map(str, at["base_levels"])),
            str(at["top_k"]),
            f"{at['load_threshold']:g}",
            number(at["recall"]),
            number(at["share_scored"]),
            f"{at['families_opened']:.1f}",
        )
        for at in found["curve"]
    ]
    cheapest = found["cheapest"]
    advice = (
        f"The cheapest point of the curve with recall {LEAST_RECALL} or more and {MOST_SCORED:.0%} or fewer "
        f"scored: base levels {','.join(map(str, cheapest['base_levels']))}, top-k {cheapest['top_k']}, load "
        f"threshold {cheapest['load_threshold']:g}: recall {number(cheapest['recall'])}, "
        f"{cheapest['share_scored']:.1%} scored."
        if cheapest
        else f"No point of the curve has recall {LEAST_RECALL} or more with {MOST_SCORED:.0%} or fewer scored."
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
        + shown.get("by-expansion", "")
        + f"\nThe curve follows the walk on logits of everything ({found['curve_positions']:,} of the positions). "
        f"At the defaults walk and engine differ at {check['positions_where_engine_and_walk_differ']} of "
        f"{found['positions']:,} positions; a walk with nine tenths of the load threshold, which must differ, "
        f"does at {check['positions_where_a_lower_threshold_differs']:,}.\n\n"
        + table(("base levels", "top-k", "load threshold", "recall", "scored", "families"), curve)
    )
