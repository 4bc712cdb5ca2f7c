"""Bags of tokens: the sparse sums against dense ones, and what a bag may know."""

import numpy as np
import pytest
import torch
from judging.bag_of_words import BagOfWords, _add, bags, fit, rarity
from judging.ridge import Moments

TEXTS = [[2, 5, 6, 5], [2, 7], [2, 6, 7, 8, 8, 8], [2, 9, 5]]


def dense(texts: list[list[int]], text_S: list[int], at_S: list[int], rarity_V: np.ndarray) -> np.ndarray:
    rows = np.zeros((len(text_S), len(rarity_V)))
    for row, x, at in zip(rows, text_S, at_S, strict=True):
        for token in set(texts[x][: at + 1]):
            row[token] = (1 + np.log(texts[x][: at + 1].count(token))) * rarity_V[token]
        row /= np.linalg.norm(row)
    return rows


def test_a_bag_holds_the_tokens_up_to_its_position_and_no_more() -> None:
    rarity_V = rarity(TEXTS, 10)
    assert rarity_V[8] > rarity_V[5] > rarity_V[2]
    text_S, at_S = [2, 0, 2, 3], [5, 2, 1, 0]
    found = bags(TEXTS, np.array(text_S), np.array(at_S), rarity_V)
    expected = dense(TEXTS, text_S, at_S, rarity_V)
    rows = np.zeros_like(expected)
    sample = np.repeat(np.arange(4), found.size_S)
    rows[sample, found.token_E] = found.value_E
    np.testing.assert_allclose(rows, expected, rtol=1e-6)


def test_sums_over_bags_are_the_dense_ones() -> None:
    rarity_V = rarity(TEXTS, 10)
    text_S, at_S = np.array([0, 1, 2, 2, 3]), np.array([3, 1, 2, 5, 2])
    positive = np.array([[True, False], [False, False], [True, True], [True, True], [False, True]])
    sparse, full = Moments(10, 2), Moments(10, 2)
    _add(sparse, bags(TEXTS, text_S, at_S, rarity_V), positive)
    full.add(
        torch.from_numpy(dense(TEXTS, text_S.tolist(), at_S.tolist(), rarity_V)).float(),
        torch.from_numpy(positive),
    )
    assert sparse.count == full.count
    for name in ("sum_D", "sum_N", "gram_DD", "cross_DN"):
        torch.testing.assert_close(getattr(sparse, name), getattr(full, name), check_dtype=False)
    model = BagOfWords(rarity_V, full.solve(1.0), 1.0)
    np.testing.assert_allclose(
        model.score(model.bags(TEXTS, text_S, at_S), slice(1, 2)),
        dense(TEXTS, text_S.tolist(), at_S.tolist(), rarity_V) @ model.weight_VN.numpy()[:, 1:2],
        atol=1e-5,
    )


def test_words_that_tell_are_learnt() -> None:
    rng = np.random.default_rng(0)
    positive = (rng.random(200) < 0.3)[:, None]
    texts = [[2, *rng.integers(5, 20, 6).tolist(), 21 if y else 22] for y in positive[:, 0]]
    last = np.full(200, 7)
    model = fit((texts, np.arange(200), last), positive, texts[:100], positive[:100], vocabulary=30)
    scores = model.score(model.bags(texts, np.arange(200), last))[:, 0]
    assert scores[positive[:, 0]].min() > scores[~positive[:, 0]].max()
    # Before the telling word is read nothing is known.
    before = model.score(model.bags(texts, np.arange(200), last - 1))[:, 0]
    assert before[positive[:, 0]].mean() == pytest.approx(before[~positive[:, 0]].mean(), abs=0.1)
