"""Telling words: what is found, and which texts have none of them."""

import numpy as np
from judging.telling_words import telling_words, without_words, words

TEXTS = [
    *[f"A dog barks at the {thing}." for thing in ("cat", "car", "moon", "tree", "man", "sea")],
    *[
        f"The {thing} is of a kind."
        for thing in ("cat", "car", "moon", "tree", "man", "sea")
        for _ in range(4)
    ],
    "A poodle that barks.",
]
POSITIVE = np.array([["dog" in text or "poodle" in text] for text in TEXTS])


def test_words_of_the_concept_tell_and_words_of_all_texts_do_not() -> None:
    (told,) = telling_words(TEXTS, POSITIVE, [("dog", "kind of dog")])
    assert {"dog", "barks"} <= set(told)
    # "of" and "kind" are in more than a twentieth of the texts: a lemma that holds them gives nothing away.
    assert not {"of", "kind", "the"} & set(told)


def test_a_lemma_tells_though_training_never_met_it() -> None:
    (told,) = telling_words(TEXTS, POSITIVE, [("Canis familiaris",)])
    assert {"canis", "familiaris"} <= set(told)


def test_texts_without_any_of_the_words() -> None:
    texts = ["The Dog's tail.", "A cat.", "hotdogs", "It BARKS"]
    without = without_words(texts, [("dog", "barks"), ("cat", "unmet"), ()])
    assert without.T.tolist() == [[False, True, True, False], [True, False, True, True], [True] * 4]
    assert words("The Dog's tail, 3 x.") == {"the", "dog", "s", "tail", "x"}
