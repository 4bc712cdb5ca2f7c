"""The counting models are probabilities, and better the more they see."""

import math

import numpy as np
import pytest
from host.counting import Trigram, Unigram, perplexity, trigrams
from hypothesis import given
from hypothesis import strategies as st

VOCABULARY = 7
DOCUMENTS = st.lists(
    st.lists(st.integers(0, VOCABULARY - 1), min_size=2, max_size=8), min_size=1, max_size=12
)


def every_token_after(first: int, second: int) -> np.ndarray:
    return np.array([[first, second, last] for last in range(VOCABULARY)], np.int64)


@given(documents=DOCUMENTS, first=st.integers(0, VOCABULARY - 1), second=st.integers(0, VOCABULARY - 1))
def test_probabilities_of_a_context_sum_to_one(documents: list[list[int]], first: int, second: int) -> None:
    grams = trigrams(documents)
    context = every_token_after(first, second)
    for model in (Unigram(grams[:, 2], VOCABULARY), Trigram(grams, VOCABULARY)):
        probabilities = model.probabilities(context)
        assert probabilities.min() > 0
        assert probabilities.sum() == pytest.approx(1.0)


def test_every_token_but_the_first_is_predicted() -> None:
    assert trigrams([[1, 2, 3], [1, 4]]).tolist() == [[1, 1, 2], [1, 2, 3], [1, 1, 4]]


def test_perplexity_of_a_fair_choice_is_the_number_of_choices() -> None:
    assert perplexity(np.full(5, 1 / 8)) == pytest.approx(8)


def test_a_unigram_is_its_frequencies() -> None:
    model = Unigram(np.array([0, 0, 0, 1]), 2)
    assert model.probabilities(np.array([[0, 0, 0], [0, 0, 1]])).tolist() == [4 / 6, 2 / 6]


def test_kneser_ney_by_hand() -> None:
    # a b c twice, a b d once: discount 1/(1 + 2*1) at the top, where counts are 3 (a a b), 2 and 1.
    a, b, c, d = range(4)
    grams = trigrams([[a, b, c], [a, b, c], [a, b, d]])
    top = 1 / 3
    # In the middle every pair was seen in one context, so the discount cannot be estimated: one half.
    lowest = dict.fromkeys((b, c, d), (1 - 0.5) / 3 + 0.5 * 3 / 3 / 4)
    middle = {last: (1 - 0.5) / 2 + 0.5 * 2 / 2 * lowest[last] for last in (c, d)}
    expected = [(2 - top) / 3 + top * 2 / 3 * middle[c], (1 - top) / 3 + top * 2 / 3 * middle[d]]
    found = Trigram(grams, 4).probabilities(np.array([[a, b, c], [a, b, d]]))
    assert found.tolist() == pytest.approx(expected)


def test_a_trigram_knows_order_and_a_unigram_does_not() -> None:
    documents = [[0, 1, 2, 3, 4, 5, 6]] * 5 + [[0, 2, 4, 6, 1, 3, 5]] * 5
    grams = trigrams(documents)
    unigram = perplexity(Unigram(grams[:, 2], VOCABULARY).probabilities(grams))
    assert perplexity(Trigram(grams, VOCABULARY).probabilities(grams)) < unigram / 2
    assert math.isclose(unigram, 6.1, rel_tol=0.1)
