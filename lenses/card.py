"""The card of a pack.

A README.md that says what the pack is, as a model hub shows it. It is text, and no data. The card of one lens is in
`lenses.lens_card`.
"""

import json
import statistics
from collections import Counter
from collections.abc import Iterator

from lenses.concept import Hierarchy
from lenses.config import HOST, PackConfig
from lenses.grade import LETTERS, UNMEASURED, grade, is_of_all, worst_first

_TOP = 12


def format_card(name: str, config: PackConfig, hierarchy: Hierarchy) -> str:
    """The text of `README.md` for the pack called `name`."""
    return "\n".join(_lines(name, config, hierarchy)) + "\n"


def _lines(name: str, config: PackConfig, hierarchy: Hierarchy) -> Iterator[str]:
    host, lens = config.host, config.lens
    # JSON strings are YAML strings, and quote whatever a name holds.
    yield "---"
    yield f"license: {json.dumps(config.licence)}"
    yield "library_name: phoropter"
    yield "tags: [lens-pack, interpretability, concept-lenses]"
    if "/" in host.id:
        yield f"base_model: {json.dumps(host.id)}"
    yield "---"
    yield ""
    yield f"# {name}"
    yield ""
    yield (f"A lens pack for Phoropter: {config.concepts} concept lenses for `{host.id}` at `{config.site}`.")
    yield ""
    yield "| | |"
    yield "|---|---|"
    at = f" @ `{host.revision}`" if host.revision else ""
    yield f"| host | `{host.id}`{at}, {host.blocks} blocks, hidden size {host.hidden_size}, {host.dtype} |"
    if config.host_files:
        yield f"| travels with it | the host, in `{HOST}/` |"
    yield f"| site | `{config.site}`, norm {config.input.norm}, pooling {config.input.pooling} |"
    yield f"| lenses | {lens.describe(host.hidden_size)}, first layers in {lens.dtype} |"
    yield f"| concepts | {config.concepts} in {config.families} families over {hierarchy.depth} levels |"
    yield f"| scored at every position | levels {', '.join(map(str, config.base_levels))} |"
    yield f"| walk | opens {config.top_k} families a level at most, from probability {config.load_threshold:g} |"
    for metric, values in sorted(_metrics(hierarchy).items()):
        yield (
            f"| {metric} | median {statistics.median(values):.3f}, worst {worst_first(metric, values)[0]:.3f}, "
            f"measured for {len(values)} lenses |"
        )
    count = Counter(grade(concept.metrics) for concept in hierarchy)
    if count.total() != count[UNMEASURED]:
        grades = ", ".join(f"{count[letter]} {letter}" for letter in (*LETTERS, UNMEASURED))
        yield f"| grades | {grades} |"
    yield f"| licence | {config.licence} |"
    yield ""
    top = [concept.name for concept in hierarchy.concepts[: hierarchy.families[0].rows]]
    more = f" and {len(top) - _TOP} more" if len(top) > _TOP else ""
    yield f"At the top: {', '.join(top[:_TOP])}{more}."
    yield ""
    yield "```python"
    yield "from lenses import LensPack"
    yield "from runtime import Monitor"
    yield ""
    yield f"monitor = Monitor(LensPack.from_pretrained({json.dumps(name)}))"
    yield "```"
    if config.provenance:
        yield ""
        yield "How it was made:"
        yield ""
        yield "```json"
        yield json.dumps(dict(config.provenance), sort_keys=True, indent=2, ensure_ascii=False)
        yield "```"


def _metrics(hierarchy: Hierarchy) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for concept in hierarchy.concepts:
        for metric, value in concept.metrics.items():
            if not is_of_all(metric):
                continue
            found.setdefault(metric, []).append(value)
    return found
