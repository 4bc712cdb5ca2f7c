"""The bank equals the one-lens-at-a-time reference, on every back end, kind and dtype, bit-equal in any batch."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lenses.bank import Backend, Bank
from lenses.pack import LensPack
from tests.packs import make_pack

KINDS = [("mlp", "bf16"), ("mlp", "fp32"), ("linear", "bf16"), ("linear", "fp32")]


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def pack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LensPack:
    kind, dtype = request.param
    return make_pack(
        tmp_path_factory.mktemp("pack"), branching=(3, 3, 2), kind=kind, dtype=dtype, hidden_size=48
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


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_base_and_families_equal_one_lens_at_a_time(pack: LensPack, backend: Backend) -> None:
    with_base = Bank(pack, pack.hierarchy.base_families((0, 1)), backend=backend)
    s = states(5, 48)
    assert_faithful(with_base.score_base(s), reference(pack, with_base.base_ids, s))
    for family in pack.hierarchy.families:
        ids = np.arange(family.first, family.first + family.rows)
        found = with_base.score_family(family.index, pack.read_family(family.index), s)
        assert_faithful(found, reference(pack, ids, s))
    with_base.close()


@given(picked=st.lists(st.integers(0, 39), min_size=1, max_size=12))
def test_a_logit_has_the_same_bits_in_any_batch(pack: LensPack, picked: list[int]) -> None:
    bank = Bank(pack, pack.hierarchy.base_families((0, 1)))
    s = states(40, 48)
    assert bank.score_base(s)[picked].tobytes() == bank.score_base(s[picked]).tobytes()
    bank.close()


def test_threads_share_the_work_and_change_no_bit(tmp_path: Path) -> None:
    big = make_pack(tmp_path / "big", branching=(40, 2), hidden_size=256, widths=(32, 8))
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            bank = Bank(big, big.hierarchy.base_families((0, 1)))
            results.append(bank.score_base(states(3, 256)).tobytes())
            bank.close()
    finally:
        torch.set_num_threads(before)
    assert results[0] == results[1] == results[2]


def test_scoring_restores_thread_counts_and_reads_states_of_any_layout(pack: LensPack) -> None:
    bank = Bank(pack, pack.hierarchy.base_families((0,)))
    before = torch.get_num_threads()
    s = states(6, 96)[:, ::2]
    assert bank.score_base(s).tobytes() == bank.score_base(np.ascontiguousarray(s)).tobytes()
    assert torch.get_num_threads() == before
    bank.close()


def test_no_states_give_no_logits(pack: LensPack) -> None:
    bank = Bank(pack, pack.hierarchy.base_families((0,)))
    assert bank.score_base(np.empty((0, 48), np.float32)).shape == (0, 3)
    bank.close()
