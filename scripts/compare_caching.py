"""No cache, the cache, the whole pack in memory: ours and the one-module-at-a-time baseline, from a cold start.

    python scripts/compare_caching.py                         writes reports/caching.json, .md and a picture
    python scripts/compare_caching.py --quick --out /tmp/try         the travelling pack, a try that proves nothing

*No cache*: the smallest hot budget (the base and the largest family) and no warm tier, so that nearly every child is
read when it is met. *Cache*: the default budgets; of the baseline 500 modules, as the reference had. *Whole pack in
memory*: read at the start; of the baseline all lenses that have a file. Nothing of the prompt is scored, as there,
except where pre-warming is named: there the defaults hold. Twins: section 2, the executive summary and section 5.
"""

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from experiments import page, sweep, theirs, twins
from experiments.subject import (
    Subject,
    base_bytes,
    beyond,
    levels_name,
    roomy_hot_bytes,
    smallest_hot_bytes,
)
from experiments.sweep import Plan, Sizes
from experiments.trials import OneByOne, Watched
from experiments.twins import ONE_AT_A_TIME
from measuring.tables import digits
from pages.tables import table

SIZES = Sizes(prompts=1, tokens=24, rounds=6, slow_rounds=3, whole_rounds=2)
NO_CACHE, CACHE, IN_MEMORY = "no cache", "cache", "whole pack in memory"
WIDER, NARROWER, PREWARMED = "no cache, one level more", "cache, one level fewer", "cache, pre-warming"


def plan(subject: Subject) -> Plan:
    """Ours in three budgets, and what the summary needs beside them; the same of the baseline."""
    pack = subject.pack
    levels = pack.config.base_levels
    alone: dict[str, Any] = {"base_levels": levels, "prompt_events": "off", "prewarm": False}
    prewarmed = {"base_levels": levels, "prompt_events": "full", "prewarm": True}
    all_bytes = base_bytes(pack, levels) + sum(map(pack.family_bytes, beyond(pack, levels)))
    none = {"hot_budget_bytes": smallest_hot_bytes(pack, levels), "warm_budget_bytes": 0}
    ours = [
        Watched(NO_CACHE, alone | none),
        Watched(CACHE, alone),
        Watched(
            IN_MEMORY, alone | {"hot_budget_bytes": all_bytes, "warm_budget_bytes": 0}, everything_first=True
        ),
        Watched(PREWARMED, prewarmed),
    ]
    baseline = [
        OneByOne(f"{ONE_AT_A_TIME}, {NO_CACHE}", alone, 0),
        OneByOne(f"{ONE_AT_A_TIME}, {CACHE}", alone, 500),
        OneByOne(f"{ONE_AT_A_TIME}, {IN_MEMORY}", alone, None),
        OneByOne(f"{ONE_AT_A_TIME}, {PREWARMED}", alone, 500, prewarm=True),
    ]
    if levels[-1] + 1 < pack.hierarchy.depth:
        wider = alone | {"base_levels": (*levels, levels[-1] + 1)}
        hot = smallest_hot_bytes(pack, wider["base_levels"])
        ours.append(Watched(WIDER, wider | {"hot_budget_bytes": hot, "warm_budget_bytes": 0}))
        baseline.append(OneByOne(f"{ONE_AT_A_TIME}, {WIDER}", wider | {"hot_budget_bytes": hot}, 0))
    if len(levels) > 1:
        narrower = alone | {"base_levels": levels[:-1]}
        ours.append(Watched(NARROWER, narrower | {"hot_budget_bytes": roomy_hot_bytes(pack, levels[:-1])}))
        baseline.append(OneByOne(f"{ONE_AT_A_TIME}, {NARROWER}", narrower, 500))
    return Plan([*ours, *baseline], CACHE, [NO_CACHE, CACHE, IN_MEMORY])


INTRODUCTION = """\
Base: {levels}. The three budgets see the same, whatever is in memory; that is checked in every run. *Start* has the
reading of the base in it, and of the whole pack where that is in memory. The page cache is dropped before each run, but
not within one: where nothing is cached here, a family that is read again comes from there.
"""

STRATEGIES: Mapping[str, str] = {
    "Baseline (layers 0-2)": WIDER,
    "Reduce base layers (layers 0-1)": NO_CACHE,
    "Temporal locality caching": CACHE,
    "Pre-warming": PREWARMED,
    "Layer 0 only + caching": NARROWER,
}
"""Their strategies, and which of our rows are the same."""


def summary_twin(rows: Sequence[Mapping[str, Any]]) -> str:
    """Their executive summary and its twin; speed-ups are each to its own baseline."""
    ms = {row["name"]: row["token_ms"]["mean"] for row in rows}
    header = (
        "strategy",
        "theirs: ms a token",
        "theirs: speed-up",
        "our row",
        f"{ONE_AT_A_TIME}: ms",
        "speed-up",
        "ours: ms",
        "speed-up",
        f"ours below their target of {theirs.TARGET_MS:.0f} ms",
    )
    lines = []
    first = next(iter(theirs.SUMMARY.values()))
    for strategy, theirs_ms in theirs.SUMMARY.items():
        name = STRATEGIES[strategy]
        slow, fast = ms.get(f"{ONE_AT_A_TIME}, {name}"), ms.get(name)
        lines.append(
            (
                strategy,
                digits(theirs_ms),
                f"{first / theirs_ms:.1f}",
                name,
                *_against(slow, ms.get(f"{ONE_AT_A_TIME}, {WIDER}")),
                *_against(fast, ms.get(WIDER)),
                "—" if fast is None else ("yes" if fast < theirs.TARGET_MS else "no"),
            )
        )
    best = ms.get(IN_MEMORY)
    lines.append(
        (
            "(whole pack in memory)",
            "—",
            "—",
            IN_MEMORY,
            *_against(ms.get(f"{ONE_AT_A_TIME}, {IN_MEMORY}"), ms.get(f"{ONE_AT_A_TIME}, {WIDER}")),
            *_against(best, ms.get(WIDER)),
            "—" if best is None else ("yes" if best < theirs.TARGET_MS else "no"),
        )
    )
    note = (
        "Their torch.compile row has its twin in `lens-compilation.md`. Their pre-warming and caching rows come of "
        "different runs (69.2 ms without it); what pre-warming does to the whole is in `prewarming.md`.\n"
    )
    return (
        "### Executive Summary; 5. Summary of Current State: Performance Comparison\n\n"
        f"{table(header, lines)}\n{note}"
    )


def _against(ms: float | None, first_ms: float | None) -> tuple[str, str]:
    speed_up = "—" if ms is None or first_ms is None else f"{first_ms / ms:.1f}"
    return "—" if ms is None else digits(ms), speed_up


def markdown(report: dict[str, Any], pictures: Sequence[str]) -> str:
    """The page."""
    rows = report["rows"]
    pairs = [(NO_CACHE, CACHE), (f"{ONE_AT_A_TIME}, {NO_CACHE}", f"{ONE_AT_A_TIME}, {CACHE}")]
    return page.sweep_page(
        report,
        title="Caching",
        introduction=INTRODUCTION.format(
            levels=levels_name(report["run"]["configuration"]["subject"]["base_levels"])
        ),
        pictures=pictures,
        twins=[
            twins.before_after(theirs.CACHING, rows, pairs),
            twins.before_after(theirs.TEN_TOKENS, rows, pairs),
            twins.breakdown(theirs.AFTER_CACHING, rows, [CACHE, f"{ONE_AT_A_TIME}, {CACHE}"]),
            summary_twin(rows),
        ],
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run; exit code 2 and one line for what the user can mend."""
    return sweep.make(
        "scripts/compare_caching.py",
        argv,
        doc=__doc__,
        report="caching",
        sizes=SIZES,
        plan=plan,
        markdown=markdown,
        picture=("parts", partial(page.picture, title="Caching: where a token's time goes")),
    )


if __name__ == "__main__":
    sys.exit(main())
