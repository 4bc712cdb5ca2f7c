"""The pictures of a report on lenses. Takes the report as its JSON holds it."""

import numpy as np
from judging.verdicts import Record

from pages.lens_groups import NAMES, by_examples, control_values, measured, of_level, values
from pages.pictures import Axis, Box, Line, boxes, dots, lines

_AUROC = Axis("AUROC", 0.4, 1.0, (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0))


def pictures(report: Record) -> dict[str, str]:
    """Name to SVG."""
    judged = measured(report)
    skill = Axis("AUROC of the lens", 0.4, 1.0, _AUROC.ticks)
    return {
        "by-level": boxes(
            "AUROC at the text, by level of the concept",
            [
                Box(f"level {level}", label, values(of_level(judged, level), "text", name))
                for level in sorted({lens["level"] for lens in judged})
                for label, name in (("against all", "auroc"), ("against siblings", "auroc_siblings"))
            ],
            _AUROC,
        ),
        "by-examples": boxes(
            "AUROC, by number of training synsets of the concept",
            [
                Box(label, where, values(some, where, "auroc"))
                for label, some in by_examples(judged)
                for where in ("text", "tokens")
            ],
            _AUROC,
        ),
        "by-control": boxes(
            "Lenses and controls",
            [
                Box(NAMES[name], label, control_values(judged, where, name))
                for name in NAMES
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
                [lens["words_absent"]["bag_of_words"] for lens in judged if "lens" in lens["words_absent"]],
                [lens["words_absent"]["lens"][0] for lens in judged if "lens" in lens["words_absent"]],
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


_DRAWN_THRESHOLDS = (0.1, 0.3, 0.5)
"""Of the curve's load thresholds; the picture has no room for all."""


def _curve(report: Record) -> str:
    curve = report["expansion"]["curve"]
    high = min(1.0, float(np.ceil(20 * max(at["share_scored"] for at in curve)) / 20))
    found = []
    for base in dict.fromkeys(tuple(at["base_levels"]) for at in curve):
        for threshold in _DRAWN_THRESHOLDS:
            some = [
                at for at in curve if tuple(at["base_levels"]) == base and at["load_threshold"] == threshold
            ]
            found.append(
                Line(
                    f"base {','.join(map(str, base))}: {threshold:g}",
                    [at["share_scored"] for at in some],
                    [at["recall"] for at in some],
                    [str(at["top_k"]) for at in some] if threshold == _DRAWN_THRESHOLDS[0] else (),
                )
            )
    return lines(
        "What the walk finds: a line a base and load threshold, its points are top-k",
        found,
        Axis(
            "share of lenses scored a position", 0.0, high, np.arange(0, high + 0.01, 0.05).round(2).tolist()
        ),
        Axis("recall of active concepts", 0.0, 1.0, (0, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0)),
    )
