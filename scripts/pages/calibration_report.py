"""Writes what `measure_calibration.py` found as a page to read.

It takes the report as its JSON holds it; knows nothing about how the numbers came about.
"""

from typing import Any

from pages.tables import made_with, table

Record = dict[str, Any]

WANTED = 0.90
"""Share of lenses inside their prediction interval."""
SAYS = {
    "another kind": "Thresholds from the dictionary, counted on manual pages: **another kind of text**, other "
    "subjects, another style. A prediction interval knows nothing of that: it says what texts of the same kind "
    "would show.",
    "both kinds": "Thresholds from half of the texts of both, counted on the other half of both: **a second null "
    "corpus**, no text of which was seen, of the mixture that the pack itself was calibrated on (neither kind is one "
    "that lenses are trained on).",
    "one kind": "The control: thresholds from half of the dictionary, counted on its other half. What is not met here "
    "is wrong with the method and not with the texts.",
}
LEVEL = {"token": "tokens", "sequence": "texts, by their highest token"}
RATE = {"1fpr": "1 %", "01fpr": "0.1 %"}
WORST = 10


def markdown(report: Record) -> str:
    """The page."""
    run = report["run"]
    grades = ", ".join(f"{count} {letter}" for letter, count in report["grades"].items())
    head = [
        ("made by", f"`{run['command']}`"),
        ("run", f"`{run['run']}`, {run['seconds']:.0f} s"),
        ("configuration", f"`{run['configuration_sha256'][:16]}`"),
        *made_with(run),
        ("host", report["host"]),
        ("pack", report["pack"]),
        ("grades", grades),
    ]
    parts = ["# False positives and alarms, promised and measured\n"]
    if report["quick"]:
        parts.append("**A quick try**: few texts. Nothing here is a result.\n")
    parts += [
        table(("", ""), head),
        "Every lens is scored at every token. A *promise* is a threshold at a rate of false positives, with the 95 % "
        "interval of the rate that a second corpus of that size is to show (Beta-binomial, tokens over the design "
        "effect of their texts: `lenses/null.py`), about the share that lies above it in the first: where texts begin "
        "alike, their first tokens have one score, and less than the rate may lie above any threshold. Nobody has "
        "said what these texts are of, so a lens that fires "
        "rightly counts too. Lenses graded A to D that are calibrated are judged.\n",
        _verdicts(report),
        *(_comparison(name, one, report["grade_of"]) for name, one in report["comparisons"].items()),
    ]
    return "\n".join(parts)


def _verdicts(report: Record) -> str:
    rows = []
    for name, one in report["comparisons"].items():
        for key, shares in one["splits"]["inside"].items():
            mean = sum(shares) / len(shares)
            rows.append(
                (
                    name,
                    _named(key),
                    str(len(shares)),
                    f"{mean:.1%}",
                    f"{min(shares):.1%} to {max(shares):.1%}",
                    "met" if mean >= WANTED else "**not met**",
                )
            )
    header = (
        "texts",
        "threshold",
        "splits",
        "lenses inside, mean",
        "lowest to highest",
        f"wanted {WANTED:.0%}",
    )
    return (
        "## Lenses whose measured rate lies inside its prediction interval\n\n"
        "All lenses are counted on the same texts, so the share of one split is no better known than one text's chance "
        "allows: it is the mean over random splits that is held against what is wanted.\n\n"
        + table(header, rows)
    )


def _comparison(name: str, one: Record, grade_of: Record) -> str:
    first, second = one["first"], one["second"]
    rows = [
        (
            _named(key),
            f"{rates['promised']:.1%}",
            *(f"{rates['measured'][q]:.2%}" for q in ("p5", "p25", "median", "p75", "p95")),
            "—" if rates["factor"] is None else f"{rates['factor']:.1f}",
            str(rates["none_seen"]),
        )
        for key, rates in one["rates"].items()
    ]
    header = (
        "threshold",
        "promised",
        "5 %",
        "25 %",
        "median",
        "75 %",
        "95 %",
        "spread, a factor",
        "lenses at 0",
    )
    parts = [
        f"## {name.capitalize()}\n",
        f"{SAYS[name]} {first['tokens']:,} tokens in {first['texts']:,} texts, then {second['tokens']:,} in "
        f"{second['texts']:,}; {one['lenses']} lenses. The first split in full:\n",
        "Measured rates over the lenses; half the width of their middle 95 % as a factor:\n",
        table(header, rows) if rows else "Too few texts for any threshold.\n",
    ]
    if "token_1fpr" in one["rates"]:
        parts.append(_furthest(one["rates"]["token_1fpr"], grade_of))
    parts += [
        "Alarms per 1,000 tokens, over all these lenses together:\n",
        _alarms(one["alarms"], one["splits"]["kept"]),
    ]
    return "\n".join(parts)


def _furthest(rates: Record, grade_of: Record) -> str:
    """The lenses that fire most beyond what was promised of them."""
    ordered = sorted(rates["lenses"].items(), key=lambda item: (-item[1][0], item[0]))
    beyond = [(id, *one) for id, one in ordered if one[0] > one[2]]
    if not beyond:
        return "No lens fires at more tokens than the upper end of its interval.\n"
    said = ", ".join(f"`{id}` ({grade_of[id]}) {rate:.1%}" for id, rate, _, _ in beyond[:WORST])
    return f"{len(beyond)} lenses fire at more tokens than the upper end of their interval; most: {said}.\n"


def _alarms(alarms: list[Record], kept: list[list[bool]]) -> str:
    rows = []
    for alarm, in_splits in zip(alarms, kept, strict=True):
        if "refused" in alarm:
            rows.append(
                (f"{alarm['budget']:g}", "refused: the null corpus is too small for it", "", "", "", "", "")
            )
            continue
        value, low, high = alarm["measured"]
        rows.append(
            (
                f"{alarm['budget']:g}",
                f"{alarm['expected']:.2f}",
                f"{alarm['at_most']:.2f}",
                f"{value:.2f} ({low:.2f} to {high:.2f})",
                str(alarm["alarms"]),
                "yes" if alarm["kept"] else "**no**",
                f"{sum(in_splits)} of {len(in_splits)}",
            )
        )
    return table(
        ("budget", "expected", "promised at most", "measured", "alarms", "kept", "splits that kept it"), rows
    )


def _named(key: str) -> str:
    level, _, rate = key.partition("_")
    return f"{RATE[rate]} of {LEVEL[level]}"
