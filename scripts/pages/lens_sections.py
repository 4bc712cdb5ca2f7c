"""The sections of a report on lenses that say what each of them, and all of them, reach.

Each takes the report as its JSON holds it, and the pictures by name as they are shown; gives Markdown.
"""

from collections.abc import Mapping, Sequence

from judging.verdicts import Record, quantiles

from lenses.grade import MEASURED_FROM, rule
from pages.lens_groups import LETTERS, NAMES, by_examples, is_certain, measured, of_level, values
from pages.tables import number, spread, table

_AROUND = 12
"""Lenses named at either end."""


def against_thresholds(report: Record) -> str:
    """What the lenses must show, and whether they do."""
    rows = [
        (row["what"], f"{row['relation']} {row['threshold']:g}", number(row["measured"]), row["verdict"])
        for row in report["must_show"]
    ]
    return "## What they must show\n\n" + table(("", "threshold", "measured (95 %)", ""), rows)


def at_text_and_tokens(report: Record) -> str:
    """Every metric at either place, over lenses."""
    rows = []
    for where, label in (("text", "the text"), ("tokens", "every token")):
        found = report["summary"][where]
        for name, title in (
            ("auroc", "AUROC"),
            ("auroc_siblings", "AUROC against siblings"),
            ("tpr_at_1fpr", "true positives at 1 % false positives"),
            ("brier_skill", "Brier skill"),
            ("calibration_error", "balanced calibration error"),
            ("calibration_error_floor", "its floor: a perfectly calibrated lens of as few positives"),
        ):
            if name in found:
                rows.append((label, title, *spread(found[name])))
    return (
        "## At the text and at every token\n\nAt the text: one sample a text, its last token. At every token: "
        "every token of every text, intervals of single lenses clustered by text. Quantiles are over lenses.\n\n"
        + table(("at", "", "n lenses", "10 %", "median", "90 %"), rows)
    )


def controls(report: Record, shown: Mapping[str, str]) -> str:
    """The lens beside other scores of the same texts."""
    found = report["summary"]["controls"]
    own = {
        "text": report["summary"]["text"]["auroc"],
        "text_siblings": report["summary"]["text"]["auroc_siblings"],
        "tokens": report["summary"]["tokens"]["auroc"],
    }
    labels = {"text": "the text", "text_siblings": "the text, siblings only", "tokens": "every token"}
    rows = [
        (label, NAMES[name], *spread(own[where] if name == "lens" else found[where][name]))
        for where, label in labels.items()
        for name in NAMES
    ]
    return (
        "## Controls\n\nThe same texts, the same labels, another score.\n\n"
        + table(("at", "score", "n lenses", "10 %", "median AUROC", "90 %"), rows)
        + "\n"
        + shown.get("by-control", "")
    )


def words_absent(report: Record, shown: Mapping[str, str]) -> str:
    """Lens and bag of words on texts without a concept's telling words."""
    found = report["summary"]["words_absent"]
    title = "## Where the telling words are absent\n\n"
    if not found["lenses"]:
        return title + "No lens has 10 positives left. Unmeasured.\n"
    rows = [(NAMES[name], *spread(found[name])) for name in NAMES]
    return (
        title
        + "For each concept only texts with none of its telling words, positives and negatives alike; lenses with "
        f"10 or more positives left.\n\n{table(('score', 'n lenses', '10 %', 'median AUROC', '90 %'), rows)}\n"
        f"The lens is above the bag of words for {found['lens_above']} of {found['lenses']} lenses; median "
        f"difference {number(found['difference_median'])}. The 95 % interval of a single lens is above 0 for "
        f"{found['lens_above_for_certain']} and below 0 for {found['words_above_for_certain']}.\n\n"
        + shown.get("by-words", "")
    )


def groups(report: Record, shown: Mapping[str, str]) -> str:
    """AUROC by level, and by number of examples."""
    judged = measured(report)
    levels = [
        (
            str(level),
            str(sum(lens["level"] == level for lens in report["lenses"])),
            *spread(quantiles(values(of_level(judged, level), "text", "auroc"))),
            *spread(quantiles(values(of_level(judged, level), "text", "auroc_siblings")))[1:3],
            *spread(quantiles(values(of_level(judged, level), "tokens", "auroc")))[1:3],
        )
        for level in sorted({lens["level"] for lens in report["lenses"]})
    ]
    examples = [
        (
            label,
            *spread(quantiles(values(some, "text", "auroc"))),
            *spread(quantiles(values(some, "tokens", "auroc")))[1:3],
        )
        for label, some in by_examples(judged)
    ]
    return (
        "## By level and by number of examples\n\n"
        + table(
            (
                *("level", "lenses", "measured", "10 %", "median AUROC", "90 %"),
                *("siblings 10 %", "siblings median", "tokens 10 %", "tokens median"),
            ),
            levels,
        )
        + "\n"
        + shown.get("by-level", "")
        + "\n"
        + table(
            ("training synsets", "measured", "10 %", "median AUROC", "90 %", "tokens 10 %", "tokens median"),
            examples,
        )
        + "\n"
        + shown.get("by-examples", "")
    )


def graded(report: Record) -> str:
    """How many lenses have which grade, in all and by level."""
    rows = [
        ("all" if row["level"] is None else str(row["level"]), *(str(row[letter]) for letter in LETTERS))
        for row in report["grades"]
    ]
    measures = "; ".join(f"{what} {' / '.join(bounds)}" for what, *bounds in rule())
    return (
        f"## Grades\n\nThe worst letter that a lens's measures at the text earn, for A / B / C / D "
        f"(`lenses/grade.py`): {measures}. A lens of fewer than {MEASURED_FROM} positives has none. A grade is of "
        f"estimates: the 95 % interval of AUROC alone stays within one letter for "
        f"{sum(map(is_certain, measured(report)))} of {report['counts']['measured']} lenses.\n\n"
        + table(("level", *LETTERS), rows)
    )


def ends(report: Record) -> str:
    """The best lenses and the worst."""
    judged = sorted(
        measured(report),
        key=lambda lens: (-lens["text"]["auroc"][0], -lens["positives"], lens["id"]),
    )

    def rows(some: Sequence[Record]) -> list[tuple[str, ...]]:
        return [
            (
                lens["name"],
                f"`{lens['id']}`",
                str(lens["positives"]),
                number(lens["text"]["auroc"]),
                number(lens["text"].get("auroc_siblings", [None])[0]),
                number(lens["tokens"]["auroc"][0]),
                number(lens["controls"]["text"]["bag_of_words"]),
            )
            for lens in some
        ]

    header = ("concept", "id", "positives", "AUROC (95 %)", "siblings", "tokens", "bag of words")
    return (
        f"## Best and worst\n\nBest:\n\n{table(header, rows(judged[:_AROUND]))}\n"
        f"Worst:\n\n{table(header, rows(judged[::-1][:_AROUND]))}"
    )


def confusions(report: Record) -> str:
    """Which lenses are raised by texts of another concept."""
    names = {lens["id"]: lens["name"] for lens in report["lenses"]}
    pairs = sorted(
        (
            (lens["confusions"][0]["probability"], lens["name"], names[lens["confusions"][0]["id"]])
            for lens in measured(report)
            if lens["confusions"]
        ),
        reverse=True,
    )
    rows = [(concept, other, number(mean)) for mean, concept, other in pairs[:_AROUND]]
    return (
        "## Confusions\n\nMean probability of a lens on the texts of another concept (10 or more of them, none of "
        "the lens's own; concepts above and below it aside): each lens's first such concept, highest first.\n\n"
        + table(("lens", "is raised by texts of", "mean probability"), rows)
    )


def calibration(report: Record, shown: Mapping[str, str]) -> str:
    """Whether probabilities are what they say."""
    text, tokens = report["summary"]["text"], report["summary"]["tokens"]
    return (
        "## Calibration\n\n"
        "Balanced calibration error of all measured lenses pooled, at the text: "
        f"{report['reliability']['error']:.3f}. Of single lenses it is at most 0.05 for "
        f"{text['calibration_error']['at_most_0.05']:.0%} at the text and for "
        f"{tokens['calibration_error']['at_most_0.05']:.0%} at every token; a perfectly calibrated lens of as few "
        f"positives would show {number(text['calibration_error_floor'].get('median'))} at the text in the "
        "median.\n\n" + shown.get("by-probability", "")
    )
