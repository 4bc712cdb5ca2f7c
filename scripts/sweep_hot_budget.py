"""How much memory the families beyond the base get: from 5 % of them to all, on the real text of the travelling pack.

    python scripts/sweep_hot_budget.py                        writes reports/hot-budget.json, .md and a picture
    python scripts/sweep_hot_budget.py --pack DIR --prompts 1 --out reports/hot-budget-NAME    another pack
    python scripts/sweep_hot_budget.py --quick --out /tmp/try        a try that proves nothing

There is no warm tier, so the hot budget is all that is kept in memory: what does not fit is read from the pack again.
One monitor goes through all texts, as in a session; it starts cold. The rest is at its defaults: the prompt is scored
whole and pre-warmed. The reference counted lenses (500 of 7,947) and has no table of this.
"""

import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

from experiments import page, sweep
from experiments.subject import PROMPTS, Subject, base_bytes, beyond, smallest_hot_bytes
from experiments.sweep import Plan, Sizes
from experiments.trials import Watched

SIZES = Sizes(prompts=len(PROMPTS), tokens=60, rounds=5, slow_rounds=1, whole_rounds=2)
SHARES = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0)


def share_name(share: float) -> str:
    """How a row is called."""
    return f"{100 * share:g} %"


def plan(subject: Subject) -> Plan:
    """A trial a share of what is beyond the base; the smallest holds the largest family at least."""
    pack = subject.pack
    levels = pack.config.base_levels
    rest = sum(map(pack.family_bytes, beyond(pack, levels)))
    trials = [
        Watched(
            share_name(share),
            {
                "hot_budget_bytes": max(
                    base_bytes(pack, levels) + round(share * rest), smallest_hot_bytes(pack, levels)
                ),
                "warm_budget_bytes": 0,
            },
        )
        for share in SHARES
    ]
    return Plan(trials, share_name(1.0), [share_name(share) for share in (0.05, 0.25, 1.0)])


INTRODUCTION = """\
Rows are shares of the bytes of all families beyond the base; the budget is the base and that share, and there is no
warm tier. What is seen is the same in every row, and that is checked in every run.
"""


def markdown(report: dict[str, Any], pictures: Sequence[str]) -> str:
    """The page."""
    return page.sweep_page(report, title="Hot budget", introduction=INTRODUCTION, pictures=pictures)


def main(argv: Sequence[str] | None = None) -> int:
    """Run; exit code 2 and one line for what the user can mend."""
    return sweep.make(
        "scripts/sweep_hot_budget.py",
        argv,
        doc=__doc__,
        report="hot-budget",
        sizes=SIZES,
        plan=plan,
        markdown=markdown,
        picture=("parts", partial(page.picture, title="Memory for families: where a token's time goes")),
        travelling=True,
    )


if __name__ == "__main__":
    sys.exit(main())
