"""Turns WordNet's noun database into a concept hierarchy that is good to watch.

    python scripts/build_wordnet_concepts.py --wordnet /usr/share/wordnet

A noun synset becomes a concept when enough synsets lie below it in the tree of first hypernyms (instances
count: Danube lies below river). Then, in this order:

1. `TOP` is skipped: nodes so general that seeing them active says nothing. Their children move up.
2. A concept whose only child holds nearly all of it would light up together with that child. One of the two
   stays: the commoner word ("mammal", not "placental"), else the one with the plainer name, else the child.
3. An only child has nothing to be told apart from: its largest siblings join it, from half the size on.
4. A family of more than `--family` members keeps the largest; the rest is left out with all below it.

Names are for display and unique: "food" twice becomes "food" and "solid food". Written are one line
`{"id", "name", "parent"}` a concept, depth-first, and beside it, in `<name>.left-out.json`, everything that
these steps took away or added. The same database gives the same bytes.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lenses.concept import Hierarchy
from lenses.errors import ConfigError, PhoropterError
from lenses.files import write_atomically
from lenses.importers.wordnet import WordNet, read_wordnet

TOP = (
    "entity.n.01",
    "physical_entity.n.01",
    "abstraction.n.06",
    "object.n.01",
    "whole.n.02",
    "matter.n.03",
    "thing.n.12",
    "causal_agent.n.01",
    "agent.n.03",
    "psychological_feature.n.01",
    "event.n.01",
    "living_thing.n.01",
    "organism.n.01",
    "solid.n.01",
    "substance.n.07",
)
"""Skipped nodes: words for everything, or for halves of everything."""


_MANY_SENSES = 8
"""A word with more senses than this ("part", "line") is not plain, however short."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What decides which synsets become concepts."""

    descendants: int = 28
    """A concept has at least so many synsets below it."""
    family: int = 32
    """A family has at most so many members."""
    nearly_all: float = 0.9
    """Share of a concept's descendants from which its only child says the same."""

    def __post_init__(self) -> None:
        if self.descendants < 1 or self.family < 1 or not 0 < self.nearly_all <= 1:
            raise ConfigError(
                f"descendants {self.descendants}, family {self.family}, share {self.nearly_all}: expected"
                " at least 1, at least 1, and above 0 up to 1"
            )


@dataclass(slots=True)
class LeftOut:
    """What was taken away, and why."""

    skipped: list[str] = field(default_factory=list)
    """Those of `TOP` that the database has."""
    fused: dict[str, str] = field(default_factory=dict)
    """Id of what was taken away to the id of the concept that says the same."""
    joined: list[str] = field(default_factory=list)
    """Smaller than the rest, added beside an only child."""
    beyond_family: dict[str, list[str]] = field(default_factory=dict)
    """Parent ("" for level 0) to the ids that were too many, each with what was kept below it."""


@dataclass(slots=True)
class _Tree:
    """The concepts while they are being chosen: who is below whom, and how many synsets each covers."""

    children: dict[str, list[str]]
    """Children by parent id; "" is above level 0."""
    sizes: dict[str, int]

    def remove(self, parent: str, node: str) -> None:
        """Take a node out; its children move up to its place."""
        siblings = self.children[parent]
        at = siblings.index(node)
        siblings[at : at + 1] = self.children.pop(node, [])

    def parent_of(self, node: str) -> str | None:
        """The parent of a node ("" above level 0), None when it is not in the tree."""
        return next((parent for parent, children in self.children.items() if node in children), None)

    def below(self, top: str) -> Iterator[tuple[str, str]]:
        """(parent, node) of everything below `top`, depth-first."""
        stack = [(top, node) for node in reversed(self.children.get(top, []))]
        while stack:
            parent, node = stack.pop()
            yield parent, node
            stack.extend((node, child) for child in reversed(self.children.get(node, [])))


def choose(wordnet: WordNet, rules: Rules) -> tuple[list[tuple[str, str, str | None]], LeftOut]:
    """The concepts as (id, name, parent id or None), depth-first, largest first, and what was left out."""
    tree = _large_nodes(wordnet, rules)
    left_out = LeftOut()
    for node in TOP:
        if (parent := tree.parent_of(node)) is not None:
            left_out.skipped.append(node)
            tree.remove(parent, node)
    _fuse(tree, wordnet, rules.nearly_all, left_out)
    for node in [node for _, node in tree.below("")]:
        if len(tree.children.get(node, ())) == 1:
            small = [child for child in wordnet.children[node] if _is_between(tree.sizes[child], rules)]
            tree.children[node] += small
            left_out.joined += small
    for siblings in tree.children.values():
        siblings.sort(key=lambda node: (-tree.sizes[node], node))
    for parent in ["", *(node for _, node in tree.below(""))]:
        if len(tree.children.get(parent, ())) > rules.family:
            surplus = tree.children[parent][rules.family :]
            del tree.children[parent][rules.family :]
            left_out.beyond_family[parent] = [
                one for node in surplus for one in (node, *(below for _, below in tree.below(node)))
            ]
    chosen = list(tree.below(""))
    names = _names(wordnet, [node for _, node in chosen], tree.sizes)
    return [(node, names[node], parent or None) for parent, node in chosen], left_out


def _is_between(size: int, rules: Rules) -> bool:
    return rules.descendants <= 2 * size < 2 * rules.descendants


def _large_nodes(wordnet: WordNet, rules: Rules) -> _Tree:
    """The tree of first hypernyms, cut down to the nodes with that many synsets below them."""
    roots = [synset.id for synset in wordnet.values() if not synset.hypernyms]
    order: list[str] = []
    stack = list(reversed(roots))
    while stack:
        node = stack.pop()
        order.append(node)
        stack.extend(reversed(wordnet.children.get(node, ())))
    sizes: dict[str, int] = {}
    for node in reversed(order):
        sizes[node] = sum(1 + sizes[child] for child in wordnet.children.get(node, ()))
    children = {"": [root for root in roots if sizes[root] >= rules.descendants]}
    for node in order:
        large = [child for child in wordnet.children.get(node, ()) if sizes[child] >= rules.descendants]
        if large and sizes[node] >= rules.descendants:
            children[node] = large
    return _Tree(children, sizes)


def _fuse(tree: _Tree, wordnet: WordNet, nearly_all: float, left_out: LeftOut) -> None:
    """Step 2: of a concept and its only child that says the same, take one out."""

    senses = _sense_counts(wordnet)

    def plainness(node: str) -> tuple[bool, bool, int]:
        name = wordnet[node].lemmas[0]
        return wordnet[node].is_common, senses[name.lower()] <= _MANY_SENSES, -len(name.split())

    # From the bottom up: a chain of three is settled as its lower two, then the winner and the top.
    for node in reversed([node for _, node in tree.below("")]):
        below = tree.children.get(node, [])
        if len(below) != 1 or tree.sizes[below[0]] < nearly_all * tree.sizes[node]:
            continue
        child = below[0]
        if plainness(node) > plainness(child):
            tree.remove(node, child)
            left_out.fused[child] = node
        else:
            above = tree.parent_of(node)
            assert above is not None, "every node has a place"
            tree.remove(above, node)
            left_out.fused[node] = child


def _names(wordnet: WordNet, chosen: Sequence[str], sizes: Mapping[str, int]) -> dict[str, str]:
    """A unique name each, the largest concept first: its first lemma, else a lemma that is plainer still.

    Plainer means more words or a single sense; without such a lemma the hypernym goes with the name.
    """
    senses = _sense_counts(wordnet)
    names: dict[str, str] = {}
    taken: set[str] = set()
    for node in sorted(chosen, key=lambda one: (-sizes[one], one)):
        first, *others = wordnet[node].lemmas
        plainer = [one for one in others if " " in one or senses[one.lower()] == 1]
        qualified = [f"{first} ({wordnet[above].lemmas[0]})" for above in wordnet[node].hypernyms[:1]]
        tries = [first, *plainer, *qualified, *others, node]
        names[node] = next(one for one in tries if one.lower() not in taken)
        taken.add(names[node].lower())
    return names


def _sense_counts(wordnet: WordNet) -> Counter[str]:
    return Counter(lemma.lower() for synset in wordnet.values() for lemma in synset.lemmas)


def left_out_json(left_out: LeftOut, rules: Rules, wordnet: WordNet, concepts: int) -> str:
    """What was taken away, with the rules, as indented JSON."""
    report = {"rules": asdict(rules), "synsets": len(wordnet), "concepts": concepts, **asdict(left_out)}
    return json.dumps(report, indent=1, ensure_ascii=False) + "\n"


def concepts_jsonl(concepts: Iterable[tuple[str, str, str | None]]) -> str:
    """One line a concept."""
    return "".join(
        json.dumps({"id": node, "name": name, "parent": parent}, ensure_ascii=False) + "\n"
        for node, name, parent in concepts
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code: 0, or 2 when the database or a setting is no good."""
    defaults = Rules()
    parser = argparse.ArgumentParser(description="Turn WordNet's nouns into a concept hierarchy.")
    add = parser.add_argument
    add("--wordnet", type=Path, default=Path("/usr/share/wordnet"), help="WordNet's dict directory")
    add("--out", type=Path, default=Path("lens_packs/wordnet-mini.concepts.jsonl"))
    add("--descendants", type=int, default=defaults.descendants, help="least size of a concept")
    add("--family", type=int, default=defaults.family, help="most members of a family")
    options = parser.parse_args(arguments)
    try:
        rules = Rules(descendants=options.descendants, family=options.family)
        wordnet = read_wordnet(options.wordnet)
        concepts, left_out = choose(wordnet, rules)
        hierarchy = Hierarchy.build(concepts)
        write_atomically(options.out, concepts_jsonl(concepts))
        beside = options.out.with_suffix(".left-out.json")
        write_atomically(beside, left_out_json(left_out, rules, wordnet, len(concepts)))
    except PhoropterError as error:
        print(f"build_wordnet_concepts: {error}", file=sys.stderr)
        return 2
    counts = Counter(hierarchy.levels.tolist())
    print(f"{options.out}: {len(hierarchy)} concepts in {len(hierarchy.families)} families")
    print("concepts per level: " + ", ".join(f"{level}: {counts[level]}" for level in sorted(counts)))
    print(
        f"{beside}: {len(left_out.skipped)} skipped at the top, {len(left_out.fused)} fused,"
        f" {len(left_out.joined)} joined an only child,"
        f" {sum(map(len, left_out.beyond_family.values()))} beyond a family of {rules.family}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
