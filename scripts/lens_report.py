"""Writes what `judge_lenses.py` found as a page to read: tables, verdicts against thresholds, pictures.

It takes the report as its JSON holds it, so that a page can be made again from a JSON alone; knows nothing about how
the numbers came about.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pictures import Axis, Box, Line, boxes, dots, lines
from redrawn import DRAWS
from thresholds import LEAST_RECALL, MOST_SCORED

Record = dict[str, Any]

_AROUND = 12
"""Lenses named at either end."""
_SHADES = (0, 40, 80, 160, 640)
"""Edges of the groups by number of training texts."""
_NAMES = {
    "lens": "lens",
    "bag_of_words": "bag of words",
    "linear": "ridge, same states",
    "random": "random direction",
    "shuffled": "shuffled labels",
}
_AUROC = Axis("AUROC", 0.4, 1.0, (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0))


def markdown(report: Record, drawn: Sequence[str]) -> str:
    """The readable part of the report; `drawn` are the pictures' paths, named beside what they show."""
    picture = {path.removesuffix(".svg").rpartition("/")[2]: path for path in drawn}
    stem = next(iter(picture)).rsplit("-by-", 1)[0] if picture else ""
    shown = {name.removeprefix(f"{stem}-"): f"![{name}]({path})\n" for name, path in picture.items()}
    return "\n".join(
        [
            _head(report),
            _must_show(report),
            _at_text_and_tokens(report),
            _controls(report, shown),
            _words_absent(report, shown),
            _groups(report, shown),
            _ends(report),
            _confusions(report),
            _calibration(report, shown),
            _expansion(report, shown),
            _method(report),
        ]
    )


def pictures(report: Record) -> dict[str, str]:
    """Name to SVG."""
    measured = [lens for lens in report["lenses"] if lens["measured"]]
    skill = Axis("AUROC of the lens", 0.4, 1.0, _AUROC.ticks)
    return {
        "by-level": boxes(
            "AUROC at the text, by level of the concept",
            [
                Box(f"level {level}", label, _values(_of_level(measured, level), "text", name))
                for level in sorted({lens["level"] for lens in measured})
                for label, name in (("against all", "auroc"), ("against siblings", "auroc_siblings"))
            ],
            _AUROC,
        ),
        "by-examples": boxes(
            "AUROC, by number of training synsets of the concept",
            [
                Box(label, where, _values(some, where, "auroc"))
                for label, some in _by_examples(measured)
                for where in ("text", "tokens")
            ],
            _AUROC,
        ),
        "by-control": boxes(
            "Lenses and controls",
            [
                Box(_NAMES[name], label, _control_values(measured, where, name))
                for name in _NAMES
                for label, where in (
                    ("text", "text"),
                    ("text, siblings only", "text_siblings"),
                    ("every token", "tokens"),
                )
            ],
            Axis("AUROC", 0.3, 1.0, (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)),
            reference=0.5,
        ),
        "by-words": dots(
            "Texts without the concept's telling words: one dot a lens",
            Line(
                "",
                [lens["words_absent"]["bag_of_words"] for lens in measured if "lens" in lens["words_absent"]],
                [lens["words_absent"]["lens"][0] for lens in measured if "lens" in lens["words_absent"]],
            ),
            Axis("AUROC of the bag of words", 0.4, 1.0, _AUROC.ticks),
            skill,
        ),
        "by-probability": lines(
            "Reliability at the text, all measured lenses, at a class prior of 1/2",
            [Line("measured", report["reliability"]["said"], report["reliability"]["found"])],
            Axis("probability as served", 0, 1, np.linspace(0, 1, 11).tolist()),
            Axis("share of positives", 0, 1, (0, 0.2, 0.4, 0.6, 0.8, 1)),
            diagonal=True,
        ),
        "by-expansion": _curve(report),
    }


def _curve(report: Record) -> str:
    curve = report["expansion"]["curve"]
    high = min(1.0, float(np.ceil(20 * max(at["share_scored"] for at in curve)) / 20))
    found = []
    for base in dict.fromkeys(tuple(at["base_levels"]) for at in curve):
        for threshold in (0.1, 0.3, 0.5):
            some = [
                at for at in curve if tuple(at["base_levels"]) == base and at["load_threshold"] == threshold
            ]
            found.append(
                Line(
                    f"base {','.join(map(str, base))}: {threshold:g}",
                    [at["share_scored"] for at in some],
                    [at["recall"] for at in some],
                    [str(at["top_k"]) for at in some] if threshold == 0.1 else (),
                )
            )
    return lines(
        "What the walk finds, by what it scores: a line a base and load threshold, its points are top-k",
        found,
        Axis(
            "share of lenses scored a position", 0.0, high, np.arange(0, high + 0.01, 0.05).round(2).tolist()
        ),
        Axis("recall of active concepts", 0.0, 1.0, (0, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0)),
    )


def _head(report: Record) -> str:
    run, pack, counts = report["run"], report["pack"], report["counts"]
    warning = (
        "\n**A sample: these numbers try the program, they say nothing about the lenses.**\n"
        if run["configuration"]["sample"] is not None
        else ""
    )
    rows = [
        ("command", f"`{run['command']}`"),
        ("run", f"`{run['run']}`, {sum(run['seconds'].values()):.0f} s"),
        (
            "configuration",
            f"sha256 `{run['configuration_sha256'][:16]}`, seed {run['configuration']['seed']}",
        ),
        ("pack", f"`{pack['name']}`, identity `{pack['identity'][:16]}`"),
        (
            "lenses",
            f"{pack['concepts']}, {pack['lens']['kind']} {'-'.join(map(str, pack['lens']['widths']))}, at "
            f"{pack['site']}, pooling {pack['pooling']}",
        ),
        ("host", f"`{pack['host']}`"),
        ("WordNet", f"sha256 `{run['configuration']['wordnet_sha256'][:16]}`"),
        ("commit", f"`{run['commit']}`"),
        ("hardware", ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in run["hardware"].items())),
        ("versions", ", ".join(f"{k} {v}" for k, v in run["versions"].items())),
    ]
    return (
        f"# {pack['name']}: its lenses, judged\n{warning}\n"
        f"{counts['held_out_texts']:,} texts ({counts['held_out_tokens']:,} tokens), one of each WordNet noun "
        f"synset that neither host nor lenses have seen. {counts['measured']} lenses have 10 or more positives "
        f"among them and are judged; {counts['unmeasured']} are **unmeasured**. {counts['uncalibrated']} are "
        f"uncalibrated. All figures are measured, none modelled; `{pack['name']}.json` beside this has every "
        "lens.\n\n" + _table(("", ""), rows)
    )


def _must_show(report: Record) -> str:
    rows = [
        (row["what"], f"{row['relation']} {row['threshold']:g}", _number(row["measured"]), row["verdict"])
        for row in report["must_show"]
    ]
    return "## What they must show\n\n" + _table(("", "threshold", "measured (95 %)", ""), rows)


def _at_text_and_tokens(report: Record) -> str:
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
                rows.append((label, title, *_spread(found[name])))
    return (
        "## At the text and at every token\n\nAt the text: one sample a text, its last token. At every token: "
        "every token of every text, intervals of single lenses clustered by text. Quantiles are over lenses.\n\n"
        + _table(("at", "", "n lenses", "10 %", "median", "90 %"), rows)
    )


def _controls(report: Record, shown: dict[str, str]) -> str:
    found = report["summary"]["controls"]
    own = {
        "text": report["summary"]["text"]["auroc"],
        "text_siblings": report["summary"]["text"]["auroc_siblings"],
        "tokens": report["summary"]["tokens"]["auroc"],
    }
    labels = {"text": "the text", "text_siblings": "the text, siblings only", "tokens": "every token"}
    rows = [
        (label, _NAMES[name], *_spread(own[where] if name == "lens" else found[where][name]))
        for where, label in labels.items()
        for name in _NAMES
    ]
    return (
        "## Controls\n\nThe same texts, the same labels, another score.\n\n"
        + _table(("at", "score", "n lenses", "10 %", "median AUROC", "90 %"), rows)
        + "\n"
        + shown.get("by-control", "")
    )


def _words_absent(report: Record, shown: dict[str, str]) -> str:
    found = report["summary"]["words_absent"]
    title = "## Where the telling words are absent\n\n"
    if not found["lenses"]:
        return title + "No lens has 10 positives left. Unmeasured.\n"
    rows = [(_NAMES[name], *_spread(found[name])) for name in _NAMES]
    return (
        title
        + "For each concept only texts with none of its telling words, positives and negatives alike; lenses with "
        f"10 or more positives left.\n\n{_table(('score', 'n lenses', '10 %', 'median AUROC', '90 %'), rows)}\n"
        f"The lens is above the bag of words for {found['lens_above']} of {found['lenses']} lenses; median "
        f"difference {_number(found['difference_median'])}. The 95 % interval of a single lens is above 0 for "
        f"{found['lens_above_for_certain']} and below 0 for {found['words_above_for_certain']}.\n\n"
        + shown.get("by-words", "")
    )


def _groups(report: Record, shown: dict[str, str]) -> str:
    measured = [lens for lens in report["lenses"] if lens["measured"]]
    levels = [
        (
            str(level),
            str(sum(lens["level"] == level for lens in report["lenses"])),
            *_spread(_quantiles(_values(_of_level(measured, level), "text", "auroc"))),
            *_spread(_quantiles(_values(_of_level(measured, level), "text", "auroc_siblings")))[1:3],
            *_spread(_quantiles(_values(_of_level(measured, level), "tokens", "auroc")))[1:3],
        )
        for level in sorted({lens["level"] for lens in report["lenses"]})
    ]
    examples = [
        (
            label,
            *_spread(_quantiles(_values(some, "text", "auroc"))),
            *_spread(_quantiles(_values(some, "tokens", "auroc")))[1:3],
        )
        for label, some in _by_examples(measured)
    ]
    return (
        "## By level and by number of examples\n\n"
        + _table(
            (
                *("level", "lenses", "measured", "10 %", "median AUROC", "90 %"),
                *("siblings 10 %", "siblings median", "tokens 10 %", "tokens median"),
            ),
            levels,
        )
        + "\n"
        + shown.get("by-level", "")
        + "\n"
        + _table(
            ("training synsets", "measured", "10 %", "median AUROC", "90 %", "tokens 10 %", "tokens median"),
            examples,
        )
        + "\n"
        + shown.get("by-examples", "")
    )


def _ends(report: Record) -> str:
    measured = sorted(
        (lens for lens in report["lenses"] if lens["measured"]),
        key=lambda lens: (-lens["text"]["auroc"][0], -lens["positives"], lens["id"]),
    )

    def rows(some: Sequence[Record]) -> list[tuple[str, ...]]:
        return [
            (
                lens["name"],
                f"`{lens['id']}`",
                str(lens["positives"]),
                _number(lens["text"]["auroc"]),
                _number(lens["text"].get("auroc_siblings", [None])[0]),
                _number(lens["tokens"]["auroc"][0]),
                _number(lens["controls"]["text"]["bag_of_words"]),
            )
            for lens in some
        ]

    header = ("concept", "id", "positives", "AUROC (95 %)", "siblings", "tokens", "bag of words")
    return (
        f"## Best and worst\n\nBest:\n\n{_table(header, rows(measured[:_AROUND]))}\n"
        f"Worst:\n\n{_table(header, rows(measured[::-1][:_AROUND]))}"
    )


def _confusions(report: Record) -> str:
    names = {lens["id"]: lens["name"] for lens in report["lenses"]}
    pairs = sorted(
        (
            (lens["confusions"][0]["probability"], lens["name"], names[lens["confusions"][0]["id"]])
            for lens in report["lenses"]
            if lens["measured"] and lens["confusions"]
        ),
        reverse=True,
    )
    rows = [(concept, other, _number(mean)) for mean, concept, other in pairs[:_AROUND]]
    return (
        "## Confusions\n\nMean probability of a lens on the texts of another concept (10 or more of them, none of "
        "the lens's own; concepts above and below it aside): each lens's first such concept, highest first.\n\n"
        + _table(("lens", "is raised by texts of", "mean probability"), rows)
    )


def _calibration(report: Record, shown: dict[str, str]) -> str:
    text, tokens = report["summary"]["text"], report["summary"]["tokens"]
    return (
        "## Calibration\n\n"
        "Balanced calibration error of all measured lenses pooled, at the text: "
        f"{report['reliability']['error']:.3f}. Of single lenses it is at most 0.05 for "
        f"{text['calibration_error']['at_most_0.05']:.0%} at the text and for "
        f"{tokens['calibration_error']['at_most_0.05']:.0%} at every token; a perfectly calibrated lens of as few "
        f"positives would show {_number(text['calibration_error_floor'].get('median'))} at the text in the "
        "median.\n\n" + shown.get("by-probability", "")
    )


def _expansion(report: Record, shown: dict[str, str]) -> str:
    found = report["expansion"]
    defaults = found["defaults"]
    levels = [
        (
            str(row["level"]),
            str(row["lenses"]),
            f"{row['wanted']:,}",
            f"{row['found']:,}",
            _number(row["recall"]),
        )
        for row in found["by_level"]
    ]
    curve = [
        (
            ",".join(map(str, at["base_levels"])),
            str(at["top_k"]),
            f"{at['load_threshold']:g}",
            _number(at["recall"]),
            _number(at["share_scored"]),
            f"{at['families_opened']:.1f}",
        )
        for at in found["curve"]
    ]
    cheapest = found["cheapest"]
    advice = (
        f"The cheapest point of the curve with recall {LEAST_RECALL} or more and {MOST_SCORED:.0%} or fewer "
        f"scored: base levels {','.join(map(str, cheapest['base_levels']))}, top-k {cheapest['top_k']}, load "
        f"threshold {cheapest['load_threshold']:g}: recall {_number(cheapest['recall'])}, "
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
        f"**{_number(found['recall']['recall'])}**; of those that are truly of the text: "
        f"{_number(found['recall_where_true']['recall'])} of {found['recall_where_true']['wanted']:,}.\n\n"
        + _table(("level", "lenses", "wanted", "found", "recall (95 %)"), levels)
        + "\n"
        + _table(
            ("a position", "10 %", "median", "90 %", "mean"),
            [
                (
                    "share of lenses scored",
                    *_spread(found["share_scored"])[1:],
                    _number(found["share_scored"]["mean"]),
                ),
                (
                    "families opened",
                    *_spread(found["families_opened"])[1:],
                    _number(found["families_opened"]["mean"]),
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
        + _table(("base levels", "top-k", "load threshold", "recall", "scored", "families"), curve)
    )


def _method(report: Record) -> str:
    return (
        "## How it was measured\n\n"
        "- *Held-out*: "
        + str(report["run"]["configuration"]["held_out"])
        + ". A text of a synset is a text of each concept above it, through all hypernyms; all other texts are "
        "negatives. *Siblings*: negatives are texts of the concept's siblings only.\n"
        "- *AUROC*: ties count one half; 95 % interval by DeLong, symmetric on the log-odds, clustered by text "
        "at every token.\n"
        f"- *Intervals over lenses*: texts drawn anew ({DRAWS:,} times, the same for all lenses). Quantiles of AUROC "
        "keep placements, and the span is mirrored; shares of lenses and medians of calibration error (bins kept as "
        "cut on all texts) are given plus or minus 1.96 standard deviations over the draws.\n"
        "- *True positives at 1 %*: above the lowest threshold that at most 1 % of the negatives pass.\n"
        "- *Brier skill*: 1 - B / 0.25 with B = (mean (1 - p)^2 of positives + mean p^2 of negatives) / 2: both "
        "classes weigh one half, as the probability is calibrated; 0.25 is the constant 1/2.\n"
        "- *Balanced calibration error*: sum over 10 bins of equal weight of mass x |share of positives - mean "
        "probability|, classes weighing one half each. Few positives make an error of their own; the floor says "
        "how much.\n"
        "- *Controls* are fitted on the training part (each synset told once, lenses may have met more "
        f"tellings), at {report['run']['configuration']['positions_per_training_text']} sampled tokens of each "
        f"text and its last. Bag of words: ridge regression (penalty {report['bag_of_words_penalty']:g}, chosen "
        "on the validation part) on the host's tokens up to the position, (1 + log count) x rarity, length one. "
        "Ridge: on the same input states. Random direction: its sign chosen on training states. Shuffled "
        "labels: lenses of the same shape, 100 steps on labels dealt out anew among texts.\n"
        f"- *Telling words* of a concept: the {report['run']['configuration']['telling_words']} words of the "
        "highest likelihood ratio among training texts (in 3 or more of its texts, at least twice as frequent "
        "as elsewhere), and the words of its own lemmas that are in at most 5 % of all texts. `telling_words` "
        "in the JSON lists them.\n"
        "- Scores of many tokens are computed by the bank's matrix back end; the largest difference of a logit "
        "from the serving kernel was "
        f"{report['expansion']['check']['largest_difference_of_logits_between_back_ends']:.1e}. The walk uses "
        "the serving kernel.\n"
    )


def _number(value: Any) -> str:
    """A number, or one with its interval."""
    if value is None:
        return "unmeasured"
    if isinstance(value, list):
        return f"{value[0]:.3f} ({value[1]:.3f} to {value[2]:.3f})"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def _spread(found: Record) -> tuple[str, ...]:
    """n, 10 %, median and 90 % as cells; single numbers, intervals are where thresholds are."""
    if not found["n"]:
        return ("0", "unmeasured", "unmeasured", "unmeasured")
    cells = [
        found[name][0] if isinstance(found[name], list) else found[name] for name in ("p10", "median", "p90")
    ]
    return (str(found["n"]), *(f"{cell:.3f}" for cell in cells))


def _quantiles(values: Sequence[float]) -> Record:
    if not len(values):
        return {"n": 0}
    low, middle, high = np.quantile(values, [0.1, 0.5, 0.9]).tolist()
    return {"n": len(values), "p10": low, "median": middle, "p90": high}


def _values(some: Sequence[Record], where: str, name: str) -> list[float]:
    return [lens[where][name][0] for lens in some if name in lens[where]]


def _control_values(measured: Sequence[Record], where: str, name: str) -> list[float]:
    if name == "lens":
        place, metric = {
            "text": ("text", "auroc"),
            "text_siblings": ("text", "auroc_siblings"),
            "tokens": ("tokens", "auroc"),
        }[where]
        return _values(measured, place, metric)
    return [lens["controls"][where][name] for lens in measured if where in lens["controls"]]


def _of_level(measured: Sequence[Record], level: int) -> list[Record]:
    return [lens for lens in measured if lens["level"] == level]


def _by_examples(measured: Sequence[Record]) -> list[tuple[str, list[Record]]]:
    groups = []
    for low, high in zip(_SHADES, [*_SHADES[1:], None], strict=True):
        label = f"{low} or more" if high is None else f"{low} to {high - 1}"
        some = [
            lens
            for lens in measured
            if low <= lens["training_texts"] and (high is None or lens["training_texts"] < high)
        ]
        if some:
            groups.append((label, some))
    return groups


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines_ = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines_)
