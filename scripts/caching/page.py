"""Writes what `replay_cache_policies.py` found as a page to read, and says in words what the numbers say.

It takes the report as its JSON holds it; knows nothing about how the numbers came about.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pages.pictures import Axis, Line, lines
from pages.tables import made_with, table

Record = dict[str, Any]

TITLES = {
    "lru": "LRU (before)",
    "fifo": "FIFO",
    "lfu": "LFU",
    "lfu ageing": "LFU, ageing",
    "turns": "turns (served)",
    "belady": "Belady",
    "belady by size": "Belady by size",
    "lru plain": "LRU, nothing spared",
    "mru": "MRU",
    "lru-2": "LRU-2",
    "gdsf": "GDSF",
    "turns without size": "turns, size unseen",
    "wanted a byte": "wanted a byte",
    "probable a byte": "probability a byte",
}
"""Order to how it is shown."""
DRAWN = ("lru", "lfu ageing", "turns", "belady", "belady by size")
LEAST_SAVED = 0.1
"""Share of the misses that reading ahead must save to be worth its code ..."""
MOST_WASTED = 1.0
"""... and reads more for each miss saved that it may cost."""


def markdown(report: Record, drawn: Sequence[str]) -> str:
    """The page; `drawn` are the pictures' paths."""
    shown = {
        path.rpartition("-")[2].removesuffix(".svg"): f"![hit rate by budget]({path})\n" for path in drawn
    }
    return "\n".join(
        [
            _head(report),
            _says(report),
            _asked(report),
            *(_budgets(setting, shown) for setting in report["settings"]),
            _by_kind(report),
            _orders(report),
            _turns(report),
            _check(report),
            _warm(report),
            _ahead(report),
            _overlap(report),
            _method(report),
        ]
    )


def pictures(report: Record) -> dict[str, str]:
    """Name to SVG."""
    ticks = (0, 0.2, 0.4, 0.6, 0.8, 0.9, 1)
    drawn = {}
    for setting in report["settings"]:
        shares = [at["share"] for at in setting["budgets"]]
        rates = {
            name: [at["orders"][name]["generation_hit_rate"] for at in setting["budgets"]] for name in DRAWN
        }
        bound = [at["bound"] for at in setting["budgets"]]
        drawn[setting["name"]] = lines(
            f"Hit rate of generation by budget, {setting['name']} walk",
            [*(Line(TITLES[name], shares, rates[name]) for name in DRAWN), Line("bound", shares, bound)],
            Axis("budget beyond the base, share of all other families' bytes", 0, 1, (0, *shares)),
            Axis("hit rate", 0, 1, ticks),
        )
    return drawn


def _head(report: Record) -> str:
    run, pack = report["run"], report["pack"]
    positions = sum(kind["generation_positions"] for kind in report["kinds"])
    rows = [
        ("command", f"`{run['command']}`"),
        (
            "run",
            f"`{run['run']}`, {run['processor_seconds']:.0f} s of one core, {run['seconds']:.0f} s in all",
        ),
        (
            "configuration",
            f"sha256 `{run['configuration_sha256'][:16]}`, seed {run['configuration']['seed']}",
        ),
        ("pack", f"`{pack['name']}`, identity `{pack['identity'][:16]}`"),
        (
            "families",
            f"{pack['families']}, of which {pack['base_families']} in the base; the others have "
            f"{pack['smallest_bytes']:,} to {pack['largest_bytes']:,} bytes, {pack['rest_bytes']:,} together",
        ),
        ("host", f"`{pack['host']}`"),
        ("WordNet", f"sha256 `{run['configuration']['wordnet_sha256'][:16]}`"),
        ("project's pages", f"sha256 `{run['configuration']['pages_sha256'][:16]}`"),
        *made_with(run),
    ]
    return (
        "# Which family leaves first: eviction on traces of real text\n\n"
        f"{positions:,} positions of generation in {sum(kind['sessions'] for kind in report['kinds'])} "
        "sessions, one "
        "after another with what is in memory kept. A request is a (position, family) pair, counted once "
        "a position; "
        "a hit is a family that is in the hot tier when it is asked for. There is no warm tier but where "
        "it says so. "
        "All figures are counted, none modelled, and none is a time.\n\n" + table(("", ""), rows)
    )


def _says(report: Record) -> str:
    shown = report["must_show"]
    wide, narrow = (_at(setting, 0.25) for setting in report["settings"])

    def verdict(name: str) -> str:
        one = shown[name]
        return f"{TITLES[name]} {one['of_reference']:.3f}, {'met' if one['met'] else '**not met**'}"

    return (
        "## What the numbers say\n\n"
        f"- Wanted: {shown['what']}, at least {shown['least']}. With the pack's own walk: {verdict('lru')}; "
        f"{verdict('turns')}. The reference is the better of Belady's two orders "
        f"({TITLES[shown['reference']]}); of the "
        f"textbook's alone it is {wide['of_belady']['lru']:.3f} and {wide['of_belady']['turns']:.3f}, of "
        "the bound that "
        f"nothing exceeds {wide['of_bound']['lru']:.3f} and {wide['of_bound']['turns']:.3f}.\n"
        f"- With the narrow walk LRU has {narrow['of_reference']['lru']:.3f} of the reference, turns "
        f"{narrow['of_reference']['turns']:.3f}.\n"
        f"- A position wants more than 25 % of the bytes at {_beyond(report, 0):.0%} of the positions "
        "with the wide walk, at "
        f"{_beyond(report, 1):.0%} with the narrow one. A position asks level by level, and the next "
        "position asks for most "
        "of it again: of more than fits, LRU keeps what was asked for last and drops what is asked for "
        "next.\n"
        f"- Of a position's reads, turns saves {_saved(wide, 'reads_a_position')} with the wide walk and "
        f"{_saved(narrow, 'reads_a_position')} with the narrow one; of the bytes "
        f"{_saved(wide, 'kib_a_position')} and "
        f"{_saved(narrow, 'kib_a_position')}.\n"
        f"- Reading near misses ahead: {_ahead_says(report)}\n"
    )


def _beyond(report: Record, walk: int) -> float:
    found: float = report["settings"][walk]["asked"]["positions_beyond_budget"]["0.25"]
    return found


def _saved(at: Record, what: str) -> str:
    return f"{1 - at['orders']['turns'][what] / at['orders']['lru'][what]:.0%}"


def _asked(report: Record) -> str:
    kinds = [
        (kind["kind"], kind["what"], *(f"{kind[name]:,}" for name in _COUNTED)) for kind in report["kinds"]
    ]
    walks = [
        (
            _setting(setting),
            f"{asked['families_a_position']:.1f}",
            *(f"{asked['share_of_bytes'][name]:.3f}" for name in ("mean", "median", "p90")),
            *(f"{asked['positions_beyond_budget'][share]:.1%}" for share in ("0.1", "0.25", "0.5")),
            f"{asked['families_ever']}",
        )
        for setting in report["settings"]
        if (asked := setting["asked"])
    ]
    return (
        "## What was asked for\n\n"
        + table(("kind", "text", "sessions", "prompt positions", "generation positions"), kinds)
        + "\nOne position of generation; shares are of the bytes of all families beyond the base:\n\n"
        + table(
            (
                "walk",
                "families",
                "share, mean",
                "median",
                "p90",
                "wants more than 10 %",
                "than 25 %",
                "than 50 %",
                "families ever asked for",
            ),
            walks,
        )
    )


_COUNTED = ("sessions", "prompt_positions", "generation_positions")


def _budgets(setting: Record, shown: Mapping[str, str]) -> str:
    names = list(setting["budgets"][0]["orders"])
    first = setting["budgets"][0]
    rows = [
        (
            f"{at['share']:.0%}",
            *(_rate(at["orders"][name]["generation_hit_rate"]) for name in names),
            _rate(at["bound"]),
            *(_of(at["of_reference"][name]) for name in ("lru", "turns")),
        )
        for at in setting["budgets"]
    ]
    return (
        f"## By budget: {_setting(setting)}\n\n"
        f"Hit rate of {first['requests']['generation']:,} requests of generation at "
        f"{first['positions']:,} positions. The "
        "budget is beyond the base. *Of Belady*: of the better of Belady's two; below 0.9 in bold.\n\n"
        + table(
            ("budget", *(TITLES[name] for name in names), "bound", "LRU of Belady", "turns of Belady"), rows
        )
        + "\n"
        + shown.get(setting["name"], "")
    )


def _by_kind(report: Record) -> str:
    rows = [
        (
            setting["name"],
            at["kind"],
            f"{at['positions']:,}",
            f"{at['requests']['generation']:,}",
            *(_rate(one["generation_hit_rate"]) for one in at["orders"].values()),
            _rate(at["bound"]),
            *(_of(at["of_reference"][name]) for name in ("lru", "turns")),
        )
        for setting in report["settings"]
        for at in setting["by_kind"]
    ]
    names = report["settings"][0]["by_kind"][0]["orders"]
    return "## By kind of text, at 25 %\n\nEach kind alone, from an empty memory.\n\n" + table(
        (
            "walk",
            "text",
            "positions",
            "requests",
            *(TITLES[name] for name in names),
            "bound",
            "LRU of Belady",
            "turns of Belady",
        ),
        rows,
    )


def _orders(report: Record) -> str:
    parts = []
    for setting in report["settings"]:
        at = _at(setting, 0.25)
        ranked = sorted(at["orders"], key=lambda name: -at["orders"][name]["generation_hit_rate"])
        rows = [
            (
                TITLES[name],
                _rate(at["orders"][name]["generation_hit_rate"]),
                _rate(at["orders"][name]["prompt_hit_rate"]),
                f"{at['orders'][name]['reads_a_position']:.2f}",
                f"{at['orders'][name]['kib_a_position']:.1f}",
                _of(at["of_belady"][name]),
                _of(at["of_reference"][name]),
                _of(at["of_bound"][name]),
            )
            for name in ranked
        ]
        parts.append(
            f"{_setting(setting)}:\n\n"
            + table(
                (
                    "order",
                    "hit rate, generation",
                    "prompt",
                    "reads a position",
                    "KiB a position",
                    "of Belady",
                    "of the better Belady",
                    "of the bound",
                ),
                rows,
            )
        )
    return (
        "## All orders, at 25 %\n\nReads and KiB are those of positions of generation.\n\n"
        + "\n".join(parts)
        + "\n- *LRU, nothing spared*: as in textbooks. The cache spares what the same call still "
        "wants, as it did before.\n"
        "- *LFU, ageing*: a use is worth half after "
        f"{report['run']['configuration']['half_life_steps']:g} steps. *LRU-2*: by the last use but one. "
        "*MRU*: the last "
        "used leaves first. *GDSF*: uses a byte, ageing by what left last.\n"
        "- *Wanted a byte*: how often a family was wanted in its level's latest turns, halved every "
        "turn, a byte. "
        "*Probability a byte*: the same weighed with the parent's probability: what the walk has scored "
        "anyway.\n"
        "- *Turns, size unseen*: turns whose ties fall to a place in the pack.\n"
    )


def _turns(report: Record) -> str:
    wide = _at(report["settings"][0], 0.25)["orders"]
    return (
        "## The order `turns`\n\n"
        "A family's age is how many calls of its own level have gone by since it was last wanted. The "
        "oldest leaves "
        "first; of one age the largest. Where a call serves many positions (a prompt's), a family that a "
        "share s of the "
        "most wanted one's positions wanted begins at age 1 - s instead of 0.\n\n"
        "- What it knows: each family's level and bytes, and the calls. No score, no history, no setting.\n"
        "- What it asks of the cache: the levels of the families; a group of families that are in use "
        "ends where one of "
        "them is the next to leave, instead of holding on to its families and having others leave in "
        "their place.\n"
        "- What it costs: with every call a note of its level's turn at the families that it wants. Ages are "
        "looked at, those "
        "of the families that may leave, when one has to, where LRU has it at the head of a list.\n"
        "- What it does not see: a level that has no turns does not age. What was last wanted of a level "
        "that no position goes "
        "down to any more stays, as young as it was.\n"
        "- What it gives up: a miss is counted alike whatever its bytes. It reads "
        f"{wide['turns']['reads_a_position']:.1f} "
        f"families and {wide['turns']['kib_a_position']:.0f} KiB a position; without sizes "
        f"{wide['turns without size']['reads_a_position']:.1f} and "
        f"{wide['turns without size']['kib_a_position']:.0f}; "
        f"LRU {wide['lru']['reads_a_position']:.1f} and {wide['lru']['kib_a_position']:.0f}.\n"
    )


def _check(report: Record) -> str:
    rows = [
        (
            setting["name"],
            what,
            f"{one['positions']:,}",
            *(f"{one[by]['generation_hits']:,} of {one[by]['generation_requests']:,}" for by in _BOTH),
            *(f"{one[by]['prompt_hits']:,} of {one[by]['prompt_requests']:,}" for by in _BOTH),
            *(f"{one[by]['reads']:,}" for by in _BOTH),
        )
        for setting in report["settings"]
        for what, one in (
            ("engine, generated positions of the first sessions", setting["check"]["engine"]),
            ("`FamilyCache`, steps of the whole trace", setting["check"]["cache"]),
        )
    ]
    equal = all(setting["check"]["equal"] for setting in report["settings"])
    differs = all(setting["check"]["control_differs"] for setting in report["settings"])
    return (
        "## The replay against the real cache\n\n"
        f"At 25 %, the served order. All counts are {'equal' if equal else '**not equal**'}; the control, "
        "a replay under "
        f"FIFO, {'differs' if differs else '**does not differ**'}.\n\n"
        + table(
            (
                "walk",
                "what ran",
                "n",
                "generation hits, counted",
                "replayed",
                "prompt hits, counted",
                "replayed",
                "reads, counted",
                "replayed",
            ),
            rows,
        )
    )


_BOTH = ("counted", "replayed")


def _warm(report: Record) -> str:
    rows = [
        (setting["name"], f"{one['warm_share']:.0%}", *(_rate(one[tier]) for tier in ("hot", "warm", "cold")))
        for setting in report["settings"]
        for one in setting["warm"]
    ]
    return (
        "## What a warm tier adds\n\n"
        "Hot 25 %, and a warm tier beside it, counted by the cache with its own order, generation only. "
        "Evicted families "
        "go there, unless they are the next to leave there too, and on a CPU coming back moves a reference: "
        "hot and warm "
        "together are then nearly one memory of both budgets.\n\n"
        + table(("walk", "warm budget", "found hot", "found warm", "read"), rows)
    )


def _ahead(report: Record) -> str:
    rows = [
        (
            setting["name"],
            TITLES[one["order"]],
            f"{one['share']:.0%}",
            one["margin"],
            _rate(one["hit_rate_without"]),
            _rate(one["hit_rate"]),
            f"{one['reads_ahead']:,}",
            _ratio(one["used"], one["reads_ahead"]),
            f"{one['misses_saved']:,} of {one['misses_without']:,}",
            _ratio(one["misses_saved"], one["misses_without"]),
            _wasted(one),
        )
        for setting in report["settings"]
        for one in setting["ahead"]
    ]
    margins = report["run"]["configuration"]["margins"]
    said = "; ".join(
        f"*{name}*: {wider:g} times the width and {lower:.2g} of the threshold"
        for name, (wider, lower) in margins.items()
    )
    return (
        "## Reading near misses ahead\n\n"
        "After each step the families that its last position nearly opened are read, nearest first, as "
        "long as that evicts "
        f"neither each other nor what the step wanted. How near: {said}. *Precision*: of the reads ahead, "
        "those asked for "
        "while still there. *Recall*: of the misses of generation, those saved. *Wasted*: reads more, in "
        "all, for each "
        "miss saved.\n\n"
        + table(
            (
                "walk",
                "order",
                "budget",
                "margin",
                "hit rate without",
                "with",
                "reads ahead",
                "precision",
                "misses saved",
                "recall",
                "wasted",
            ),
            rows,
        )
        + f"\nA rule of ours: {_ahead_says(report)}\n"
    )


def _ahead_says(report: Record) -> str:
    said = []
    for setting in report["settings"]:
        positions = setting["asked"]["positions"]
        for one in setting["ahead"]:
            if one["share"] == 0.25 and one["order"] == "turns":
                pays = (
                    one["misses_saved"] >= LEAST_SAVED * one["misses_without"]
                    and one["more_reads"] <= MOST_WASTED * one["misses_saved"]
                )
                said.append(
                    f"{setting['name']} walk, *{one['margin']}*: {_ratio(one['misses_saved'], one['misses_without'])} "
                    f"saved for {_wasted(one)}, {one['misses_saved'] / positions:.2f} reads a position: "
                    + ("pays" if pays else "does not pay")
                )
    return (
        f"to be worth its code it should save {LEAST_SAVED:.0%} of the misses for at most {MOST_WASTED:g} wasted read "
        f"each. With turns at 25 %: {'; '.join(said)}."
    )


def _wasted(one: Record) -> str:
    return _ratio(one["more_reads"], one["misses_saved"]) if one["misses_saved"] > 0 else "none"


def _overlap(report: Record) -> str:
    rows = [
        (
            setting["name"],
            one["kind"] or "all",
            str(one["sessions"]),
            f"{one['generation_families']:,}",
            f"{one['prompt_families']:,}",
            _ratio(one["common"], one["generation_families"]),
            _ratio(one["common_with_other"], one["generation_families"]),
            _ratio(one["common"], one["prompt_families"]),
        )
        for setting in report["settings"]
        for one in setting["overlap"]
        if one["sessions"]
    ]
    wide, narrow = (setting["overlap"][0] for setting in report["settings"])
    return (
        "## Prompt and generation\n\n"
        "Each session from an empty memory: a family is asked for first by the prompt or by generation. "
        "*Covered*: of the "
        "families that generation wants, those that its own prompt wanted, which reading the prompt's "
        "ahead would have in "
        "memory if all fit; as a control, those that the prompt of the session before wanted. *Used*: of "
        "the families that "
        "the prompt wanted, those that generation wants.\n\n"
        + table(
            (
                "walk",
                "text",
                "sessions",
                "generation's families",
                "prompt's families",
                "covered",
                "by another prompt",
                "used",
            ),
            rows,
        )
        + "\nThe reference estimates that 51 % of what a prompt loads is wanted again (43 of 84). Here it is "
        f"{_ratio(narrow['common'], narrow['prompt_families'])} with the narrow walk and "
        f"{_ratio(wide['common'], wide['prompt_families'])} with the wide one; covered are "
        f"{_ratio(narrow['common'], narrow['generation_families'])} and "
        f"{_ratio(wide['common'], wide['generation_families'])}. The prompt of another session covers "
        f"{_ratio(narrow['common_with_other'], narrow['generation_families'])} and "
        f"{_ratio(wide['common_with_other'], wide['generation_families'])}: so much needs no knowledge of "
        "the prompt.\n"
    )


def _method(report: Record) -> str:
    asked = report["run"]["configuration"]
    return (
        "## How it was done\n\n"
        f"- *Sessions*: a prompt of {asked['prompt_tokens']} tokens (BOS aside), then positions one by "
        "one, in an order of "
        "sessions drawn by the seed. Of texts that are read, the tokens after the prompt count as "
        "generation: as if the host "
        f"had written them. Texts are cut at {asked['longest']} tokens; generation ends at EOS or after "
        f"{asked['new_tokens']} tokens.\n"
        "- *Trace*: `Expansion.choose` followed on logits of every lens, calls in the engine's order: "
        "all positions of a "
        "prompt together, a call a level, most wanted first.\n"
        "- *Budget*: bytes beyond the base. A family must be in memory to be scored. What the same call "
        "still wants is "
        "spared unless nothing else is left, as `runtime.tiers` does; under *Belady* and *LRU, nothing "
        "spared* nothing is.\n"
        "- *Belady*: whose next request is furthest away leaves first; optimal where all families have "
        "one size. *Belady by "
        "size*: the largest product of distance and bytes. With unequal sizes the optimum is NP-hard to "
        "find: the better of "
        "the two is what a known future was seen to reach, and the true optimum lies between it and the "
        "bound.\n"
        "- *Bound*: the Lagrangian dual of choosing what to keep between two calls that want the same "
        "family. True for any "
        "order and any sizes; it forgets that what is passing through takes room, and that calls have an "
        "order.\n"
        "- *100 %*: every family is read once; the misses are the compulsory ones.\n"
    )


def _at(setting: Record, share: float) -> Record:
    found: Record = next(at for at in setting["budgets"] if at["share"] == share)
    return found


def _setting(setting: Record) -> str:
    return f"{setting['name']} walk (top-k {setting['top_k']}, load threshold {setting['load_threshold']:g})"


def _rate(value: float) -> str:
    return f"{value:.3f}"


def _of(value: float) -> str:
    return f"**{value:.3f}**" if value < 0.9 else f"{value:.3f}"


def _ratio(part: float, whole: float) -> str:
    return f"{part / whole:.2f}" if whole else "none"
