"""Slots hold what was written for each sequence, wherever they are moved: against lists, by random moves."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.serve.slots import Parked, Slots
from tests import hosts

SLOTS, LENGTH, LAYERS = 4, 12, 2
MODEL = hosts.gemma3()

moves = st.one_of(
    st.tuples(st.just("write"), st.integers(0, SLOTS - 1), st.integers(1, SLOTS), st.integers(1, 3)),
    st.tuples(st.just("swap"), st.integers(0, SLOTS - 1), st.integers(0, SLOTS - 1), st.just(0)),
    st.tuples(st.just("park"), st.integers(0, SLOTS - 1), st.just(0), st.just(0)),
    st.tuples(st.just("resume"), st.integers(0, SLOTS - 1), st.just(0), st.just(0)),
    st.tuples(st.just("free"), st.integers(0, SLOTS - 1), st.just(0), st.just(0)),
)


def held(slots: Slots, slot: int) -> list[float]:
    """What a slot holds, told by the first number of its keys in the last layer."""
    (keys, values) = slots.park(slot)
    assert len(keys) in (0, LAYERS)
    if not keys:
        return []
    np.testing.assert_array_equal(keys[0] + 1, keys[1])
    np.testing.assert_array_equal(keys[0] * 2, values[0])
    return keys[0][0, :, 0].tolist()  # type: ignore[no-any-return]


@settings(max_examples=60, deadline=None)
@given(st.lists(moves, max_size=30))
def test_every_sequence_is_kept_through_all_moves(told: list[tuple[str, int, int, int]]) -> None:
    slots = Slots(MODEL, SLOTS, LENGTH)
    expected: list[list[float]] = [[] for _ in range(SLOTS)]
    parked: list[tuple[Parked, list[float]]] = []
    written = 0.0
    for what, a, b, tokens in told:
        if what == "write":
            count = min(b, SLOTS - a)
            if max(len(expected[slot]) for slot in range(a, a + count)) + tokens > LENGTH:
                continue
            position, _ = slots.begin(a, count, tokens)
            assert position[:, 0].tolist() == [len(expected[slot]) for slot in range(a, a + count)]
            new = written + torch.arange(count * tokens, dtype=torch.float32).view(count, 1, tokens, 1)
            written += count * tokens
            for layer in range(LAYERS):
                keys, _ = slots.update(
                    (new + layer).expand(-1, 1, -1, 8), (2 * new).expand(-1, 1, -1, 8), layer
                )
                assert keys.shape[2] == max(len(expected[s]) for s in range(a, a + count)) + tokens
            for at in range(count):
                slots.advance(a + at)
                expected[a + at] += new[at].flatten().tolist()
        elif what == "swap":
            slots.swap(a, b)
            expected[a], expected[b] = expected[b], expected[a]
        elif what == "park":
            parked.append((slots.park(a), list(expected[a])))
        elif what == "resume" and parked:
            kept, numbers = parked.pop()
            slots.resume(a, kept)
            expected[a] = numbers
        elif what == "free":
            slots.free(a)
            expected[a] = []
        assert slots.lengths == [len(numbers) for numbers in expected]
    for slot, numbers in enumerate(expected):
        assert held(slots, slot) == numbers


def test_what_is_not_seen_is_masked() -> None:
    """Each position attends to itself and before, and where a layer slides to no more than its window."""
    slots = Slots(MODEL, SLOTS, LENGTH)
    slots.lengths = [6, 2, 0, 0]
    _, masks = slots.begin(0, 2, 1)
    window = MODEL.config.sliding_window
    assert masks["full_attention"][:, 0, 0].tolist() == [[True] * 7, [True] * 3 + [False] * 4]
    near = [[7 - window <= at <= 6 for at in range(7)], [at <= 2 for at in range(7)]]
    assert masks["sliding_attention"][:, 0, 0].tolist() == near


def test_a_slot_takes_what_its_bytes_say() -> None:
    config = MODEL.config
    one = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * 4
    assert Slots.bytes_for(MODEL, 3, 5) == 15 * one
