"""How many levels are scored at every token: what each choice costs, in ours and in the one-module-at-a-time baseline.

    python scripts/sweep_base_levels.py                       writes reports/base-levels.json, .md and a picture
    python scripts/sweep_base_levels.py --quick --out /tmp/try       the travelling pack, a try that proves nothing

The synthetic pack of the reference's tree has 5, 28, 269 and 1,552 lenses in levels [0], [0,1], [0,1,2] and [0,1,2,3]:
the reference's "layer 0" had 10, its "layers 0-1" 267, its "layers 0-2" 1,360. Nothing of the prompt is scored, as
there. Beside the base, every choice has the same room for children. Twins: section 1, and the trade-off of section 2.
"""

import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

from experiments import page, sweep, theirs, twins
from experiments.subject import Subject, levels_name, roomy_hot_bytes
from experiments.sweep import Plan, Sizes
from experiments.trials import OneByOne, Watched
from experiments.twins import ONE_AT_A_TIME

from runtime.config import MonitorConfig

SIZES = Sizes(prompts=1, tokens=24, rounds=6, slow_rounds=3, whole_rounds=2)
DEEPEST = 3
MAX_CHILDREN = 233
"""Modules that the baseline keeps beside its base: the reference's 500 less its 267."""


def plan(subject: Subject) -> Plan:
    """Ours and the baseline at every prefix of levels; ours held against the pack's own."""
    pack = subject.pack
    prefixes = [tuple(range(last + 1)) for last in range(min(DEEPEST + 1, pack.hierarchy.depth))]
    ours, theirs_style = [], []
    for levels in prefixes:
        settings: dict[str, Any] = {
            "base_levels": levels,
            "prompt_events": "off",
            "prewarm": False,
            "hot_budget_bytes": roomy_hot_bytes(pack, levels),
        }
        ours.append(Watched(levels_name(levels), settings))
        lenses = sum(pack.hierarchy.families[f].rows for f in pack.hierarchy.base_families(levels))
        theirs_style.append(
            OneByOne(f"{ONE_AT_A_TIME}, {levels_name(levels)}", settings, lenses + MAX_CHILDREN)
        )
    return Plan([*ours, *theirs_style], levels_name(pack.config.base_levels), [trial.name for trial in ours])


INTRODUCTION = f"""\
Fewer base levels make the part that is scored at every token smaller and the walk longer: more children are loaded and
scored. Each choice sees other things (a concept under a quiet parent is not scored), so contents are compared with the
reference of the same levels. Warm budget: {MonitorConfig().warm_budget_bytes >> 20} MiB. The baseline keeps
{MAX_CHILDREN} modules beside its base.
"""


def markdown(report: dict[str, Any], pictures: Sequence[str]) -> str:
    """The page."""

    def pairs(before: str, *after: str) -> list[tuple[str, str]]:
        ours = [(before, one) for one in after]
        return ours + [(f"{ONE_AT_A_TIME}, {a}", f"{ONE_AT_A_TIME}, {b}") for a, b in ours]

    reduced = ["levels 0-2", f"{ONE_AT_A_TIME}, levels 0-2"]
    rows = report["rows"]

    return page.sweep_page(
        report,
        title="Base levels",
        introduction=INTRODUCTION,
        pictures=pictures,
        twins=[
            twins.before_after(theirs.BASE_REDUCTION, rows, pairs("levels 0-3", "levels 0-2")),
            twins.breakdown(theirs.AFTER_REDUCTION, rows, reduced),
            twins.before_after(theirs.BASE_TRADEOFF, rows, pairs("levels 0-2", "levels 0-1", "level 0")),
        ],
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run; exit code 2 and one line for what the user can mend."""
    return sweep.make(
        "scripts/sweep_base_levels.py",
        argv,
        doc=__doc__,
        report="base-levels",
        sizes=SIZES,
        plan=plan,
        markdown=markdown,
        picture=("parts", partial(page.picture, title="Base levels: where a token's time goes")),
    )


if __name__ == "__main__":
    sys.exit(main())
