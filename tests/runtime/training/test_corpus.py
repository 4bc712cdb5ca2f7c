"""Parts of a corpus, and labels that go up."""

from hypothesis import given
from hypothesis import strategies as st

from lenses.concept import Hierarchy
from runtime.training.corpus import Corpus, Item, count_by_part, part_of

HIERARCHY = Hierarchy.build([("animal", "animal", None), ("dog", "dog", "animal"), ("tool", "tool", None)])


@given(st.lists(st.tuples(st.text(), st.sampled_from(["dog", "animal", "tool", "elsewhere"])), min_size=1))
def test_every_item_is_in_one_part_and_those_of_one_key_are_together(found: list[tuple[str, str]]) -> None:
    corpus = Corpus(tuple(Item(key, frozenset({id}), ("a", "b")) for key, id in found))
    parts = {name: corpus.part(name).items for name in ("train", "validation", "held-out")}
    assert sorted((x.key, *x.concepts) for part in parts.values() for x in part) == sorted(found)
    keys = [{item.key for item in part} for part in parts.values()]
    assert sum(map(len, keys)) == len({key for key, _ in found})
    assert count_by_part(corpus.items) == {name: len(part) for name, part in parts.items()}


def test_parts_have_about_the_shares_that_the_rule_says() -> None:
    parts = [part_of(str(n)) for n in range(20_000)]
    shares = [parts.count(name) / len(parts) for name in ("train", "validation", "held-out")]
    assert all(abs(found - wanted) < 0.01 for found, wanted in zip(shares, (0.72, 0.18, 0.1), strict=True))


def test_what_is_of_a_concept_is_of_those_above_it() -> None:
    items = [Item("a", frozenset({"dog"}), ("x",)), Item("b", frozenset({"animal", "unknown"}), ("y", "z"))]
    corpus = Corpus((*items, Item("c", frozenset(), ("w",))))
    ids = [concept.id for concept in HIERARCHY]
    found = [{id for id, yes in zip(ids, row, strict=True) if yes} for row in corpus.labels(HIERARCHY)]
    assert found == [{"dog", "animal"}, {"animal"}, set()]
    assert corpus.texts == ["x", "y", "z", "w"]
    assert corpus.item_T.tolist() == [0, 1, 1, 2]
    assert corpus.told_once().texts == ["x", "y", "w"]
    assert [item.key for item in corpus.sample(2).items] == ["a", "c"]
