"""Replays what real text asks of the cache under orders of eviction, and writes the report.

    python scripts/replay_cache_policies.py              writes reports/cache-policy.json, .md and pictures

What it does, in order:
1. has the pack's host read and write real text of six kinds, and keeps the input state of every position;
2. follows the walk down the hierarchy on them: which families are asked for, position by position, with the pack's own
   width and threshold, and with narrow ones;
3. replays these traces under orders of eviction at budgets from 5 to 100 % of the families beyond the base, beside
   Belady's orders, which know the future, and a bound that nothing exceeds;
4. holds the replay against what the engine and the cache themselves count;
5. asks what reading near misses ahead would save, and what prompt and generation have in common.

It needs the pack's host inside the pack, and WordNet (Debian's package `wordnet-base`). Nothing is timed.
`--positions N` takes about N positions of generation of each kind of text.
"""

import argparse
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from caching.bound import ITERATIONS, most_hits
from caching.orders import CHOSEN, COMMON, EVERYWHERE, OPTIMA, ORDERS, SERVED, Ageing, Families
from caching.overlap import overlap
from caching.page import Record, markdown, pictures
from caching.replay import Replayed, replay, through_cache
from caching.sessions import (
    KINDS,
    LONGEST,
    NEW_TOKENS,
    PROMPT_TOKENS,
    SEED,
    TEMPERATURE,
    UNRELATED,
    Session,
    record,
)
from caching.traces import Margin, Step, Walker
from pages.command import make_report
from pages.files import plain
from pages.report_files import json_text, picture_name, write_report
from pages.run_record import RunRecord, sha256_of
from rich.progress import Progress

from lenses.errors import ConfigError, PackNotFound
from lenses.importers.wordnet import read_wordnet
from lenses.lens import Floats
from lenses.pack import LensPack
from runtime.blocks import check_fits
from runtime.config import MonitorConfig
from runtime.counts import CacheStats
from runtime.engine import Engine
from runtime.host import load_host
from runtime.training.served import score_all

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "reports/README.md", "NOTICE")
"""The project's own prose."""
POSITIONS = 400
BUDGETS = (0.05, 0.1, 0.15, 0.25, 0.5, 0.75, 1.0)
"""Of the bytes of the families beyond the base."""
MUST_SHOW = 0.25
"""The budget at which the hit rate is held against Belady's."""
LEAST = 0.9
"""The share of Belady's hit rate that must be reached."""
WARM = (0.0, 0.25, 0.75)
"""Warm budgets that are put under a hot one of MUST_SHOW."""
NARROW = (10, 0.3)
"""Width and threshold of the narrow walk: the reference's."""
MARGINS = {"near": (1.1, 0.9), "far": (2.0, 2 / 3)}
"""How near a near miss is: factors of width and threshold."""
CHECKED = 300
"""Positions of generation at which the engine itself is run."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A way to walk, with its traces."""

    name: str
    top_k: int
    load_threshold: float
    steps: list[Step]
    near: dict[str, list[Step]]
    """Margin to the same steps with near misses."""


def build(arguments: argparse.Namespace, command: Sequence[str], progress: Progress) -> Record:
    """Record, replay, compare; returns the report."""
    began = time.perf_counter()
    pack = LensPack.from_pretrained(arguments.pack)
    if pack.host_dir is None:
        raise PackNotFound(
            f"the pack {pack.path.name} has no host inside; replay one whose host travels with it"
        )
    host = load_host(pack.host_dir, device="cpu")
    check_fits(host.model, pack.config.site, pack.config.host.hidden_size)
    pages = [ROOT / name for name in PAGES]
    run = RunRecord.begin(command, configuration(pack, arguments, pages))
    wordnet = read_wordnet(arguments.wordnet)
    sessions = record(host, pack, wordnet, pages, arguments.positions, progress)
    families, base, rest_bytes = families_of(pack)
    ends = np.cumsum([len(session.states_PD) for session in sessions])
    states_PD = np.concatenate([session.states_PD for session in sessions])
    logits = np.split(score_all(pack, states_PD, progress), ends[:-1])
    chosen = {"wide": (pack.config.top_k, pack.config.load_threshold), "narrow": NARROW}
    settings = [walk(pack, name, *walked, sessions, logits) for name, walked in chosen.items()]
    task = progress.add_task("replays", total=len(settings) * (len(BUDGETS) + len(KINDS) + 3))
    found: Record = {
        "run": run.to_json(),
        "pack": {
            "name": pack.path.name,
            "identity": pack.identity,
            "host": host.id,
            "concepts": len(pack.hierarchy),
            "families": len(pack.hierarchy.families),
            "base_families": len(base),
            "base_bytes": int(sum(pack.family_bytes(family) for family in base)),
            "rest_bytes": rest_bytes,
            "largest_bytes": int(families.bytes_F.max()),
            "smallest_bytes": int(min(families.bytes_F[families.bytes_F > 0])),
        },
        "kinds": [
            {
                "kind": kind,
                "what": what,
                "sessions": sum(session.kind == kind for session in sessions),
                "prompt_positions": sum(s.prompt for s in sessions if s.kind == kind),
                "generation_positions": sum(len(s.states_PD) - s.prompt for s in sessions if s.kind == kind),
            }
            for kind, what in KINDS.items()
        ],
        "served": SERVED,
        "settings": [],
    }
    for setting in settings:
        found["settings"].append(
            {
                "name": setting.name,
                "top_k": setting.top_k,
                "load_threshold": setting.load_threshold,
                "asked": asked(setting.steps, families, rest_bytes),
                "budgets": [
                    compare(setting.steps, families, rest_bytes, share, orders_at(share), progress, task)
                    for share in BUDGETS
                ],
                "by_kind": [
                    {"kind": kind}
                    | compare(
                        [step for step in setting.steps if sessions[step.session].kind == kind],
                        families,
                        rest_bytes,
                        MUST_SHOW,
                        (COMMON, CHOSEN, *OPTIMA),
                        progress,
                        task,
                    )
                    for kind in KINDS
                ],
                "check": check(pack, setting, sessions, families, base, rest_bytes),
                "warm": warm(setting.steps, families, base, rest_bytes),
                "ahead": ahead(setting, families, rest_bytes),
                "overlap": overlaps(setting.steps, sessions),
            }
        )
        progress.advance(task, 3)
    found["run"]["seconds"] = round(time.perf_counter() - began, 1)
    found["run"]["processor_seconds"] = round(time.process_time(), 1)
    report: Record = plain(found)
    report["must_show"] = must_show(report)
    return report


def configuration(pack: LensPack, arguments: argparse.Namespace, pages: Sequence[Path]) -> dict[str, object]:
    """Everything that the numbers depend on, code and libraries aside."""
    return {
        "pack": pack.identity,
        "wordnet_sha256": sha256_of(
            [arguments.wordnet / f"{part}.{name}" for part in ("index", "data") for name in ("noun", "verb")]
        ),
        "pages_sha256": sha256_of(pages),
        "positions": arguments.positions,
        "prompt_tokens": PROMPT_TOKENS,
        "new_tokens": NEW_TOKENS,
        "temperature": TEMPERATURE,
        "unrelated": UNRELATED,
        "longest": LONGEST,
        "narrow": list(NARROW),
        "budgets": list(BUDGETS),
        "margins": {name: list(factors) for name, factors in MARGINS.items()},
        "half_life_steps": Ageing.half_life,
        "bound_iterations": ITERATIONS,
        "seed": SEED,
    }


def families_of(pack: LensPack) -> tuple[Families, list[int], int]:
    """Sizes and levels, the families of the base, and the bytes of the others."""
    hierarchy = pack.hierarchy
    base = list(hierarchy.base_families(pack.config.base_levels))
    sizes = np.array([float(pack.family_bytes(family.index)) for family in hierarchy.families])
    rest_bytes = int(sizes.sum() - sizes[base].sum())
    if rest_bytes == 0:
        raise ConfigError(
            f"every lens of the pack {pack.path.name} is in its base; there is nothing to evict"
        )
    return Families(sizes, np.array([family.level for family in hierarchy.families])), base, rest_bytes


def walk(
    pack: LensPack,
    name: str,
    top_k: int,
    load_threshold: float,
    sessions: Sequence[Session],
    logits: Sequence[Floats],
) -> Setting:
    """The trace of all sessions, one after another."""
    traces = {}
    for margin, (wider, lower) in MARGINS.items():
        walker = Walker(
            pack.hierarchy,
            pack.heads,
            pack.config.base_levels,
            top_k=top_k,
            load_threshold=load_threshold,
            margin=Margin(math.ceil(wider * top_k), lower * load_threshold),
        )
        traces[margin] = [
            step
            for at, (session, logits_PN) in enumerate(zip(sessions, logits, strict=True))
            for step in walker.steps(at, session.prompt, logits_PN)
        ]
    steps = [replace(step, near=()) for step in next(iter(traces.values()))]
    return Setting(name, top_k, load_threshold, steps, traces)


def asked(steps: Sequence[Step], families: Families, rest_bytes: int) -> Record:
    """How much the walk wants."""
    generation = [step for step in steps if step.phase == "generation"]
    count_P = [sum(len(call.families) for call in step.calls) for step in generation]
    share_P = [
        sum(families.bytes_F[list(call.families)].sum() for call in step.calls) / rest_bytes
        for step in generation
    ]
    return {
        "positions": len(generation),
        "families_a_position": float(np.mean(count_P)),
        "share_of_bytes": {
            "mean": float(np.mean(share_P)),
            "median": float(np.median(share_P)),
            "p90": float(np.quantile(share_P, 0.9)),
        },
        "positions_beyond_budget": {
            str(share): float(np.mean(np.array(share_P) > share)) for share in BUDGETS
        },
        "families_ever": len({f for step in steps for call in step.calls for f in call.families}),
    }


def orders_at(share: float) -> Sequence[str]:
    """Which orders are replayed at a budget."""
    return tuple(ORDERS) if share == MUST_SHOW else EVERYWHERE


def room(families: Families, rest_bytes: int, share: float) -> int:
    """Bytes beyond the base at a budget; raises ConfigError where the largest family does not fit."""
    budget_bytes = math.ceil(share * rest_bytes)
    if budget_bytes < families.bytes_F.max():
        raise ConfigError(
            f"{share:.0%} of the families beyond the base are {budget_bytes} bytes, the largest family has "
            f"{int(families.bytes_F.max())}; replay a pack of smaller families"
        )
    return budget_bytes


def compare(
    steps: Sequence[Step],
    families: Families,
    rest_bytes: int,
    share: float,
    orders: Sequence[str],
    progress: Progress,
    task: Any,
) -> Record:
    """Replay under some orders at one budget, beside the bound."""
    budget_bytes = room(families, rest_bytes, share)
    replayed = {name: replay(steps, families, ORDERS[name](families, steps), budget_bytes) for name in orders}
    positions = sum(step.phase == "generation" for step in steps)
    rates = {name: one.phases["generation"].hit_rate for name, one in replayed.items()}
    reference = max(OPTIMA, key=lambda name: rates[name])
    bound = most_hits(steps, families, budget_bytes, "generation", iterations=ITERATIONS)
    progress.advance(task)
    return {
        "share": share,
        "budget_bytes": budget_bytes,
        "requests": {phase: counts.requests for phase, counts in replayed[COMMON].phases.items()},
        "positions": positions,
        "orders": {name: order_record(one, positions) for name, one in replayed.items()},
        "bound": bound,
        "reference": reference,
        "of_reference": {name: rate / rates[reference] for name, rate in rates.items()},
        "of_belady": {name: rate / rates[OPTIMA[0]] for name, rate in rates.items()},
        "of_bound": {name: rate / bound for name, rate in rates.items()},
    }


def order_record(one: Replayed, positions: int) -> Record:
    """What one replay counted."""
    generation = one.phases["generation"]
    return {
        "generation_hit_rate": generation.hit_rate,
        "prompt_hit_rate": one.phases["prompt"].hit_rate,
        "reads_a_position": generation.reads / positions,
        "kib_a_position": generation.bytes_read / positions / 1024,
        "peak_bytes": one.peak_bytes,
    }


def check(
    pack: LensPack,
    setting: Setting,
    sessions: Sequence[Session],
    families: Families,
    base: Sequence[int],
    rest_bytes: int,
) -> Record:
    """The replay of the served order beside what engine and cache count themselves, on the same states and trace."""
    budget_bytes = room(families, rest_bytes, MUST_SHOW)
    hot_bytes = budget_bytes + int(families.bytes_F[list(base)].sum())
    whole = replay(setting.steps, families, ORDERS[SERVED](families, setting.steps), budget_bytes)
    cache = through_cache(setting.steps, families, base, hot_bytes, 0)

    config = MonitorConfig(
        top_k=setting.top_k,
        load_threshold=setting.load_threshold,
        hot_budget_bytes=hot_bytes,
        warm_budget_bytes=0,
    )
    walked = at = 0
    with Engine(pack, config) as engine:
        while walked < CHECKED and at < len(sessions):
            session = sessions[at]
            engine.score(session.states_PD[: session.prompt], "prompt")
            for position in range(session.prompt, len(session.states_PD)):
                engine.score(session.states_PD[position : position + 1], "generation")
                walked += 1
            at += 1
        served = engine.cache.stats()
    first = [step for step in setting.steps if step.session < at]
    part = replay(first, families, ORDERS[SERVED](families, first), budget_bytes)
    control = replay(first, families, ORDERS["fifo"](families, first), budget_bytes)
    return {
        "engine": {"positions": walked, "counted": counted(served), "replayed": recounted(part)},
        "cache": {"positions": len(setting.steps), "counted": counted(cache), "replayed": recounted(whole)},
        "equal": counted(served) == recounted(part) and counted(cache) == recounted(whole),
        "control_differs": recounted(control) != counted(served),
    }


def counted(stats: CacheStats) -> dict[str, int]:
    """What the cache counted, as a replay does."""
    return {
        "prompt_requests": stats.prompt.requests,
        "prompt_hits": stats.prompt.hot_hits,
        "generation_requests": stats.generation.requests,
        "generation_hits": stats.generation.hot_hits,
        "reads": stats.reads,
        "bytes_read": stats.bytes_read,
    }


def recounted(one: Replayed) -> dict[str, int]:
    """What a replay counted, as the cache does."""
    prompt, generation = one.phases["prompt"], one.phases["generation"]
    return {
        "prompt_requests": prompt.requests,
        "prompt_hits": prompt.hits,
        "generation_requests": generation.requests,
        "generation_hits": generation.hits,
        "reads": one.reads,
        "bytes_read": prompt.bytes_read + generation.bytes_read,
    }


def warm(steps: Sequence[Step], families: Families, base: Sequence[int], rest_bytes: int) -> list[Record]:
    """What a warm tier under the hot one adds, counted by the cache itself."""
    hot_bytes = room(families, rest_bytes, MUST_SHOW) + int(families.bytes_F[list(base)].sum())
    found = []
    for share in WARM:
        stats = through_cache(steps, families, base, hot_bytes, math.ceil(share * rest_bytes))
        one = stats.generation
        found.append(
            {
                "warm_share": share,
                "hot": one.hot_hits / one.requests,
                "warm": one.warm_hits / one.requests,
                "cold": one.cold_misses / one.requests,
            }
        )
    return found


def ahead(setting: Setting, families: Families, rest_bytes: int) -> list[Record]:
    """Reading near misses ahead, against not doing so."""
    found = []
    for name in (COMMON, CHOSEN):
        for share in (MUST_SHOW, 0.5, 1.0):
            budget_bytes = room(families, rest_bytes, share)
            plainly = replay(setting.steps, families, ORDERS[name](families, setting.steps), budget_bytes)
            for margin, steps in setting.near.items():
                one = replay(steps, families, ORDERS[name](families, steps), budget_bytes, near=True)
                before, after = plainly.phases["generation"], one.phases["generation"]
                found.append(
                    {
                        "order": name,
                        "share": share,
                        "margin": margin,
                        "hit_rate_without": before.hit_rate,
                        "hit_rate": after.hit_rate,
                        "misses_without": before.reads,
                        "misses_saved": before.reads - after.reads,
                        "reads_ahead": one.ahead.reads,
                        "used": one.ahead.used,
                        "more_reads": one.reads - plainly.reads,
                    }
                )
    return found


def overlaps(steps: Sequence[Step], sessions: Sequence[Session]) -> list[Record]:
    """Prompt and generation, of all sessions and of each kind."""
    found = []
    for kind in (None, *KINDS):
        one = overlap([step for step in steps if kind in (None, sessions[step.session].kind)])
        found.append(
            {
                "kind": kind,
                "sessions": one.sessions,
                "prompt_families": one.prompt,
                "generation_families": one.generation,
                "common": one.common,
                "common_with_other": one.common_with_other,
                "wasted": one.wasted,
            }
        )
    return found


def must_show(report: Mapping[str, Any]) -> Record:
    """The issue's demand, with the pack's own walk: LRU and the recommended order against the better of Belady's."""
    (wide,) = (setting for setting in report["settings"] if setting["name"] == "wide")
    (at,) = (budget for budget in wide["budgets"] if budget["share"] == MUST_SHOW)
    return {
        "what": f"generation hit rate at base + {MUST_SHOW:.0%} of the rest, of Belady's",
        "least": LEAST,
        "reference": at["reference"],
        **{
            name: {"of_reference": at["of_reference"][name], "met": at["of_reference"][name] >= LEAST}
            for name in (COMMON, CHOSEN)
        },
    }


def write(report: Record, out: Path) -> list[Path]:
    """Write `out`.json, `out`.md and the pictures; returns their paths."""
    drawn = {picture_name(out, name): svg for name, svg in pictures(report).items()}
    return write_report(out, json=json_text(report), page=markdown(report, sorted(drawn)), pictures=drawn)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--pack", type=Path, default=Path("lens_packs/wordnet-mini"))
    add("--wordnet", type=Path, default=Path("/usr/share/wordnet"), help="WordNet's dict directory")
    add("--out", type=Path, default=Path("reports/cache-policy"), help="the report's path without ending")
    add("--positions", type=int, default=POSITIONS, help="positions of generation of each kind of text")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run; exit code 2 and one line for what the user can mend."""
    return make_report(
        "scripts/replay_cache_policies.py",
        argv,
        parse(argv),
        build=build,
        write=write,
        summary=lambda report: {"must_show": report["must_show"], "seconds": report["run"]["seconds"]},
    )


if __name__ == "__main__":
    sys.exit(main())
