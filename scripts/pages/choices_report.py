"""Writes what `choose_lenses.py` found as a page to read, and says in words what the numbers say.

It takes the report as its JSON holds it; knows nothing about how the numbers came about.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pages.tables import made_with, table

Record = dict[str, Any]

AUROC_COLUMNS = {
    "score": ("score", 1),
    "auroc_text_median": ("text", 1),
    "auroc_text_p10": ("text, 10 %", 1),
    "auroc_text_siblings_median": ("text, siblings", 1),
    "auroc_text_siblings_p10": ("text, siblings, 10 %", 1),
    "auroc_sampled_median": ("sampled", 1),
    "auroc_sampled_p10": ("sampled, 10 %", 1),
    "auroc_sampled_siblings_median": ("sampled, siblings", 1),
    "auroc_sampled_siblings_p10": ("sampled, siblings, 10 %", 1),
}
"""Metric to its title and whether more is better (1), worse (-1) or neither (0)."""

OTHER_COLUMNS = {
    "calibration_error_text_median": ("calibration error, text", -1),
    "calibration_error_sampled_median": ("calibration error, sampled", -1),
    "brier_skill_text_median": ("Brier skill, text", 1),
    "brier_skill_sampled_median": ("Brier skill, sampled", 1),
    "active": ("active a position", 0),
    "recall": ("recall of the walk", 1),
    "share_scored": ("share scored", -1),
}

COLUMNS = AUROC_COLUMNS | OTHER_COLUMNS


def choices(report: Record) -> Record:
    """What the numbers say: the best input and the best value of each field, against what is shipped."""
    return {"input": _input_choice(report), "training": [*_training_choices(report)], "noise": noise(report)}


def noise(report: Record) -> dict[str, float]:
    """For each metric the largest difference that another seed alone made to the default."""
    default, others = _default(report), [one for one in report["variants"] if one["field"] == "seed"]
    return {
        name: max(abs(one["metrics"][name] - value) for one in others)
        for name, value in default["metrics"].items()
        if name in COLUMNS
    }


def _default(report: Record) -> Record:
    found: Record = next(one for one in report["variants"] if one["field"] is None)
    return found


def _input_choice(report: Record) -> Record:
    ranked = sorted(report["inputs"], key=lambda one: -one["metrics"]["score"])
    best = ranked[0]
    found: Record = {"site": best["site"], "pooling": best["pooling"], "score": best["metrics"]["score"]}
    shipped = _shipped_input(report)
    if shipped is None:
        return found | {"says": f"Best is {_input(best)}; what is shipped is not among them."}
    rank = 1 + ranked.index(shipped)
    behind = [
        f"{title} ({_input(first)}, {first['metrics'][name] - shipped['metrics'][name]:+.4f})"
        for name, (title, sign) in AUROC_COLUMNS.items()
        if name in shipped["metrics"]
        and (first := _first(report["inputs"], name, sign))["metrics"][name] != shipped["metrics"][name]
    ]
    says = (
        f"Shipped is {_input(shipped)}, score {shipped['metrics']['score']:.4f}: rank {rank} of {len(ranked)}"
        + (
            ", the best."
            if rank == 1
            else f"; best is {_input(best)} ({best['metrics']['score'] - shipped['metrics']['score']:+.4f})."
        )
        + (f" Others are ahead in: {'; '.join(behind)}." if behind else " It is the best in every column.")
    )
    return found | {"shipped_rank": rank, "of": len(ranked), "says": says}


def _training_choices(report: Record) -> list[Record]:
    default, moved = _default(report), noise(report)
    fields = dict.fromkeys(one["field"] for one in report["variants"] if one["field"] not in (None, "seed"))
    found = []
    for field in fields:
        others = [one for one in report["variants"] if one["field"] == field]
        best = _first(others, "score", 1)
        gain = best["metrics"]["score"] - default["metrics"]["score"]
        is_better = gain > moved["score"]
        own = _value(default["training"][field])
        trade = [
            f"{title} {difference:+.4f}"
            for name, (title, sign) in COLUMNS.items()
            if name != "score"
            and name in moved
            and sign * (difference := best["metrics"][name] - default["metrics"][name]) < -moved[name]
        ]
        if is_better:
            says = (
                f"{field}: {_value(best['value'])} has the best score, {gain:+.4f} over {own} "
                f"(noise {moved['score']:.4f})"
                + (f"; worse by more than noise: {', '.join(trade)}." if trade else "; nothing is worse.")
            )
        else:
            ahead = [
                f"{title} ({_value(first['value'])}, {first['metrics'][name] - default['metrics'][name]:+.4f})"
                for name, (title, sign) in COLUMNS.items()
                if sign
                and name in moved
                and sign * ((first := _first(others, name, sign))["metrics"][name] - default["metrics"][name])
                > moved[name]
            ]
            says = (
                f"{field}: {own} stays; the best other value, {_value(best['value'])}, makes {gain:+.4f} to the "
                f"score (noise {moved['score']:.4f})"
                + (f". Other values are ahead in: {', '.join(ahead)}." if ahead else ".")
            )
        chosen = best["value"] if is_better else default["training"][field]
        found.append({"field": field, "chosen": chosen, "gain": gain if is_better else 0.0, "says": says})
    return found


def markdown(report: Record) -> str:
    """The page."""
    return "\n".join([_head(report), _says(report), _inputs(report), _variants(report), _method(report)])


def _head(report: Record) -> str:
    run = report["run"]
    asked = run["configuration"]
    warning = (
        "\n**A sample: these numbers try the program, they say nothing about the choices.**\n"
        if asked["sample"] is not None
        else ""
    )
    results = [*report["inputs"], *report["variants"]]
    earlier = sorted({one["run"] + ", commit " + one["commit"] for one in results} - {_this(run)})
    rows = [
        ("command", f"`{run['command']}`"),
        ("run", f"`{run['run']}`, {sum(one['seconds'] for one in results):.0f} s for all results"),
        ("results kept of earlier runs", "; ".join(f"`{one}`" for one in earlier) or "none"),
        ("configuration", f"sha256 `{run['configuration_sha256'][:16]}`, seed {asked['seed']}"),
        ("host", f"`{report['host']}`, sha256 `{asked['host_sha256'][:16]}`"),
        ("concepts", f"{report['concepts']}, sha256 `{asked['concepts_sha256'][:16]}`"),
        ("WordNet", f"sha256 `{asked['wordnet_sha256'][:16]}`"),
        *made_with(run),
    ]
    return (
        f"# wordnet-mini: what was tried\n{warning}\n"
        "Sites, poolings and ways of training lenses, compared on validation synsets, one text each. The held-out "
        "synsets, by which the pack is judged, were not read.\n\n" + table(("", ""), rows)
    )


def _this(run: Record) -> str:
    return f"{run['run']}, commit {run['commit']}"


def _says(report: Record) -> str:
    found = report["choices"]
    said = [found["input"]["says"], *(one["says"] for one in found["training"])]
    return (
        "## What the numbers say\n\nSentences made from the tables below, by one rule: the best *score* is chosen, "
        "of training only where it is ahead by more than another seed makes.\n\n"
        + "".join(f"- {one}\n" for one in said)
    )


def _inputs(report: Record) -> str:
    inputs = report["inputs"]
    shipped = _shipped_input(report)
    sites = list(dict.fromkeys(one["site"] for one in inputs))
    poolings = list(dict.fromkeys(one["pooling"] for one in inputs))
    score = {(one["site"], one["pooling"]): one["metrics"]["score"] for one in inputs}
    best = max(score.values())
    grid = [
        (site, *(_bold(f"{score[site, one]:.4f}", score[site, one] == best) for one in poolings))
        for site in sites
    ]
    names = [name for name in AUROC_COLUMNS if name in inputs[0]["metrics"]]
    first = {name: _first(inputs, name, 1)["metrics"][name] for name in names}
    rows = [
        (
            _input(one) + (" (shipped)" if one is shipped else ""),
            *(_bold(f"{one['metrics'][name]:.4f}", one["metrics"][name] == first[name]) for name in names),
        )
        for one in inputs
    ]
    return (
        "## Site and pooling\n\n"
        f"Ridge regression on the states, for {inputs[0]['metrics']['lenses']} concepts. Score, the best in bold:\n\n"
        + table(("site", *poolings), grid)
        + "\nAUROC, median over concepts (10 %: the 10th percentile); the best of each column in bold:\n\n"
        + table(("site, pooling", *(AUROC_COLUMNS[name][0] for name in names)), rows)
    )


def _variants(report: Record) -> str:
    training = report["run"]["configuration"]["training"]
    default = _default(report)
    return (
        "## How lenses are trained\n\n"
        f"At {training['site']}, pooling {training['pooling']}; {report['branch_concepts']} of "
        f"{report['concepts']} lenses (the branches {', '.join(report['branches'])}), "
        f"{default['metrics']['lenses']} of them with enough texts to be measured; {training['steps']} steps. The "
        f"default is {', '.join(f'{name} {_value(value)}' for name, value in default['training'].items())}. In "
        "brackets the difference from the default; *noise*: no more than another seed makes. The best of each column "
        "in bold.\n\n"
        + _variant_table(report, AUROC_COLUMNS, "AUROC:")
        + "\n"
        + _variant_table(report, OTHER_COLUMNS, "Probabilities and the walk:")
        + "\nWhat is shipped is trained on all branches and for "
        f"{report['shipped']['training']['steps']} steps.\n"
    )


def _variant_table(report: Record, columns: Mapping[str, tuple[str, int]], title: str) -> str:
    default, moved = _default(report), noise(report)
    names = [name for name in columns if name in moved]
    first = {
        name: _first(report["variants"], name, columns[name][1])["metrics"][name]
        if columns[name][1]
        else None
        for name in names
    }

    def cell(one: Record, name: str) -> str:
        value, own = one["metrics"][name], default["metrics"][name]
        shown = _bold(f"{value:.4f}", value == first[name])
        if one is default:
            return shown
        is_noise = abs(value - own) <= moved[name]
        return f"{shown} ({value - own:+.4f}{', noise' if is_noise else ''})"

    rows = [
        (
            f"default, {one['name']}" if one["field"] == "seed" else one["name"],
            *(cell(one, name) for name in names),
            f"{one['seconds']:.0f}",
        )
        for one in report["variants"]
    ]
    return f"{title}\n\n" + table(("variant", *(columns[name][0] for name in names), "seconds"), rows)


def _method(report: Record) -> str:
    asked = report["run"]["configuration"]
    seeds = sum(one["field"] == "seed" for one in report["variants"])
    return (
        "## How it was measured\n\n"
        "- *Texts*: one of each validation synset; negatives of a concept are all other texts, *siblings*: those of "
        "the concept's siblings only. A concept with fewer than 10 positive texts is not measured.\n"
        f"- *Text*: a text's last position. *Sampled*: {asked['positions_per_text']} positions of each text and its "
        "last.\n"
        "- *Score*: the mean of the medians of AUROC in its four columns (text and sampled, against all and against "
        "siblings).\n"
        f"- *Ridge regression*: penalty {asked['ridge']['penalty']:g}, on the training synsets told once, all inputs "
        "at the same positions.\n"
        f"- *Lenses*: calibrated on {asked['training']['calibrated_on']}. Balanced calibration error and Brier skill "
        "are medians over lenses.\n"
        f"- *Walk*: at {asked['training']['walked_positions']} of the positions at most, that of `train_lenses` which "
        "finds most with a quarter of the lenses scored, "
        "over the branches at hand only. *Active*: concepts beyond the base of probability 1/2 or more; *recall*: "
        "those of them that the walk scores.\n"
        f"- *Noise* is the largest difference that another seed made to the default ({seeds} tried), same texts: it "
        "says nothing of what other texts would change.\n"
        "- The texts are a sentence or a few. A pool that never forgets (`mean`) is not tried here by a text that "
        "changes its subject.\n"
    )


def _shipped_input(report: Record) -> Record | None:
    shipped = report["shipped"]["site"], report["shipped"]["pooling"]
    return next((one for one in report["inputs"] if (one["site"], one["pooling"]) == shipped), None)


def _first(some: Sequence[Record], name: str, sign: int) -> Record:
    return max(some, key=lambda one: sign * one["metrics"][name])


def _input(one: Record) -> str:
    return f"{one['site']}, {one['pooling']}"


def _value(value: Any) -> str:
    if value is None:
        return "none"
    return "-".join(map(str, value)) if isinstance(value, list | tuple) else f"{value:g}"


def _bold(text: str, is_best: bool) -> str:
    return f"**{text}**" if is_best else text
