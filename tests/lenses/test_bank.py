"""The bank equals the one-lens-at-a-time reference, on every back end, kind and dtype, bit-equal in any batch."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lenses.bank import Backend, Bank
from lenses.pack import LensPack
from tests.packs import make_pack

KINDS = [(kind, dtype) for kind, dtype in product(("mlp", "linear", "compact"), ("bf16", "fp32", "int8"))]
WIDTHS = {"mlp": (12, 3), "linear": (), "compact": (20, 9, 3)}
"""None a multiple of the rows and columns that the kernels take at a time."""
HIDDEN = 53


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def pack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LensPack:
    kind, dtype = request.param
    return make_pack(
        tmp_path_factory.mktemp("pack"),
        branching=(3, 3, 2),
        kind=kind,
        widths=WIDTHS[kind],
        dtype=dtype,
        hidden_size=HIDDEN,
    )


def states(count: int, hidden: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, hidden)).astype(np.float32)


def reference(pack: LensPack, ids: np.ndarray, states_BD: np.ndarray) -> np.ndarray:
    return np.array(
        [[pack.lens(int(i)).logit(torch.from_numpy(s)) for i in ids] for s in states_BD], np.float32
    )


def assert_faithful(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() <= 1e-5 * max(1.0, float(np.abs(expected).max()))


def score_together(
    bank: Bank, pack: LensPack, wanted: dict[int, list[int]], s: np.ndarray
) -> dict[int, np.ndarray]:
    return bank.score_families({f: pack.read_family(f) for f in wanted}, wanted, bank.inputs(s))


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_base_and_families_equal_one_lens_at_a_time(pack: LensPack, backend: Backend) -> None:
    bank = Bank(pack, pack.hierarchy.base_families((0, 1)), backend=backend)
    s = states(5, HIDDEN)
    assert_faithful(bank.score_base(bank.inputs(s)), reference(pack, bank.base_ids, s))
    wanted = {f.index: [f.index % 5, *range(f.index % 4, 5)] for f in pack.hierarchy.families}
    found = score_together(bank, pack, wanted, s)
    for family in pack.hierarchy.families:
        ids = np.arange(family.first, family.first + family.rows)
        assert_faithful(found[family.index], reference(pack, ids, s[wanted[family.index]]))
    bank.close()


@settings(max_examples=40, deadline=None)  # of each kind; the first call compiles the kernels
@given(picked=st.lists(st.integers(0, 39), min_size=1, max_size=12))
def test_a_logit_has_the_same_bits_in_any_batch(pack: LensPack, picked: list[int]) -> None:
    bank = Bank(pack, pack.hierarchy.base_families((0, 1)))
    s = states(40, HIDDEN)
    everything, some = bank.inputs(s), bank.inputs(s[picked])
    assert everything[picked].tobytes() == some.tobytes()
    assert bank.score_base(everything)[picked].tobytes() == bank.score_base(some).tobytes()
    bank.close()


@settings(max_examples=40, deadline=None)  # of each kind; the first call compiles the kernels
@given(
    wanted=st.dictionaries(
        st.integers(0, 12), st.lists(st.integers(0, 9), min_size=1, max_size=9), min_size=1
    )
)
def test_a_family_has_the_same_bits_alone_and_among_others(
    pack: LensPack, wanted: dict[int, list[int]]
) -> None:
    bank = Bank(pack, pack.hierarchy.base_families((0,)))
    s = states(10, HIDDEN)
    together = score_together(bank, pack, wanted, s)
    assert list(together) == list(wanted)
    for family, positions in wanted.items():
        for k, position in enumerate(positions):
            (alone,) = score_together(bank, pack, {family: [0]}, s[[position]]).values()
            assert together[family][k].tobytes() == alone[0].tobytes()
    bank.close()


def test_the_base_has_the_same_bits_as_its_families(pack: LensPack) -> None:
    base = pack.hierarchy.base_families((0, 1, 2))
    bank = Bank(pack, base)
    s = states(4, HIDDEN)
    pieces = score_together(bank, pack, {f: [0, 1, 2, 3] for f in base}, s)
    assert (
        np.concatenate(list(pieces.values()), axis=1).tobytes() == bank.score_base(bank.inputs(s)).tobytes()
    )
    bank.close()


def test_threads_share_the_work_and_change_no_bit(tmp_path: Path) -> None:
    big = make_pack(tmp_path / "big", branching=(40, 2), hidden_size=256, widths=(32, 8))
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            bank = Bank(big, big.hierarchy.base_families((0, 1)))
            results.append(bank.score_base(bank.inputs(states(3, 256))).tobytes())
            bank.close()
    finally:
        torch.set_num_threads(before)
    assert results[0] == results[1] == results[2]


def test_scoring_restores_thread_counts_and_reads_states_of_any_layout(pack: LensPack) -> None:
    bank = Bank(pack, pack.hierarchy.base_families((0,)))
    before = torch.get_num_threads()
    s = states(6, 2 * HIDDEN)[:, ::2]
    scattered, whole = bank.inputs(s), bank.inputs(np.ascontiguousarray(s))
    assert bank.score_base(scattered).tobytes() == bank.score_base(whole).tobytes()
    assert torch.get_num_threads() == before
    bank.close()


def test_no_states_and_no_families_give_no_logits(pack: LensPack) -> None:
    bank = Bank(pack, pack.hierarchy.base_families((0,)))
    nothing = bank.inputs(np.empty((0, HIDDEN), np.float32))
    assert bank.score_base(nothing).shape == (0, 3)
    assert bank.score_families({}, {}, nothing) == {}
    bank.close()
