"""How wide the walk is and from which probability it opens a family: lenses scored, time, hit rate at each setting.

    python scripts/sweep_expansion.py                         writes reports/expansion.json, .md and a picture
    python scripts/sweep_expansion.py --pack lens_packs/wordnet-mini --out reports/expansion-wordnet-mini
    python scripts/sweep_expansion.py --quick --out /tmp/try         the travelling pack, a try that proves nothing

Width (top-k) from 1 to 40 at the pack's threshold, and thresholds from 0.1 to 0.9 at its width. What a narrow walk
misses is another report: `wordnet-mini.md` has its recall. The reference set both once (10 and 0.3) and never moved
them; it has no table of these.
"""

import sys
from collections.abc import Sequence
from typing import Any

from experiments import page, sweep
from experiments.subject import Subject
from experiments.sweep import Plan, Sizes
from experiments.trials import Watched
from measuring.tables import digits, timing_table
from pages.pictures import Axis, Line, lines

SIZES = Sizes(prompts=1, tokens=24, rounds=5, slow_rounds=1, whole_rounds=2)
TOP_K = (1, 2, 5, 10, 20, 40)
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
OWN = "the pack's own"


def width_name(top_k: int) -> str:
    """How a row of a width is called."""
    return f"top-k {top_k}"


def threshold_name(threshold: float) -> str:
    """How a row of a threshold is called."""
    return f"threshold {threshold:g}"


def plan(subject: Subject) -> Plan:
    """The pack's own walk, and every other width and threshold."""
    config = subject.pack.config
    alone: dict[str, Any] = {"prompt_events": "off", "prewarm": False}
    own = alone | {"top_k": config.top_k, "load_threshold": config.load_threshold}
    trials = [Watched(OWN, own)]
    trials += [Watched(width_name(top_k), own | {"top_k": top_k}) for top_k in TOP_K]
    trials += [
        Watched(threshold_name(threshold), own | {"load_threshold": threshold}) for threshold in THRESHOLDS
    ]
    return Plan(trials, OWN, [OWN, width_name(TOP_K[0]), width_name(TOP_K[-1])])


INTRODUCTION = """\
The pack's own walk has width {top_k} and threshold {load_threshold:g}. Each setting sees other things, so contents are
compared with the reference of the same setting. Budgets are the defaults; nothing of the prompt is scored.
"""


def axis_table(report: dict[str, Any], title: str, axis: str, settings: Sequence[tuple[str, float]]) -> str:
    """One axis: what is scored at each of its settings, and what that takes."""
    by_name = {row["name"]: row for row in report["rows"]}
    rows = [(f"{value:g}", by_name[name]) for name, value in settings]
    found = timing_table(
        axis,
        [(value, row["token_ms"], row["floor_ms"]) for value, row in rows],
        {
            "lenses scored a token": [digits(row["base_lenses"] + row["children_scored"]) for _, row in rows],
            "of them beyond the base": [digits(row["children_scored"]) for _, row in rows],
            "loaded a token": [digits(row["children_loaded"]) for _, row in rows],
            "mean ms": [digits(row["token_ms"]["mean"]) for _, row in rows],
            "hit rate": ["—" if row["hit_rate"] is None else f"{row['hit_rate']:.3f}" for _, row in rows],
            "change": [page.change_cell(row["change"]) for _, row in rows],
        },
    )
    return f"## {title}\n\n{found}"


def markdown(report: dict[str, Any], pictures: Sequence[str]) -> str:
    """The page."""
    return page.sweep_page(
        report,
        title="Width and threshold of the walk",
        introduction=INTRODUCTION.format(**report["run"]["configuration"]["subject"]),
        pictures=pictures,
        more=[
            axis_table(report, "Width", "top-k", [(width_name(k), k) for k in TOP_K]),
            axis_table(report, "Threshold", "threshold", [(threshold_name(t), t) for t in THRESHOLDS]),
        ],
    )


def picture(report: dict[str, Any]) -> str:
    """Milliseconds of a token over the lenses scored for it, a line an axis."""
    by_name = {row["name"]: row for row in report["rows"]}

    def line(label: str, names: Sequence[tuple[str, str]]) -> Line:
        rows = [by_name[name] for name, _ in names]
        return Line(
            label,
            [row["base_lenses"] + row["children_scored"] for row in rows],
            [row["token_ms"]["mean"] for row in rows],
            [note for _, note in names],
        )

    drawn = [
        line("top-k", [(width_name(k), str(k)) for k in TOP_K]),
        line("threshold", [(threshold_name(t), f"{t:g}") for t in THRESHOLDS]),
    ]
    return lines(
        "Width and threshold: what more lenses take",
        drawn,
        Axis.up_to("lenses scored a token", max(max(one.x) for one in drawn)),
        Axis.up_to("ms a generated token, from a cold start", max(max(one.y) for one in drawn)),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run; exit code 2 and one line for what the user can mend."""
    return sweep.make(
        "scripts/sweep_expansion.py",
        argv,
        doc=__doc__,
        report="expansion",
        sizes=SIZES,
        plan=plan,
        markdown=markdown,
        picture=("cost", picture),
    )


if __name__ == "__main__":
    sys.exit(main())
