"""Every way to score a bank of lenses computes what one module at a time computes, and says what it reads."""

import shutil
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from baseline.ways import (
    ONE_AT_A_TIME,
    NotRun,
    Stack,
    Way,
    each_compiled,
    one_at_a_time,
    one_at_a_time_bf16,
    stacked,
    start_compiler,
)

from lenses.lens import Floats

LENSES, HIDDEN, WIDTHS = 6, 64, (16, 8)


@pytest.fixture(scope="module")
def stack() -> Stack:
    return Stack.random(LENSES, HIDDEN, WIDTHS, 0)


def states(rows: int) -> Floats:
    return np.random.default_rng(1).standard_normal((rows, HIDDEN), dtype=np.float32)


def expected(stack: Stack, states_BD: Floats) -> Floats:
    """Lens by lens in fp64."""
    columns = []
    for n in range(stack.lenses):
        w1, b1, w2, b2, w3, b3 = (
            layer[n].double().numpy()
            for layer in (stack.weight1, stack.bias1, stack.weight2, stack.bias2, stack.weight3, stack.bias3)
        )
        hidden = np.maximum(np.maximum(states_BD @ w1.T + b1, 0) @ w2.T + b2, 0)
        columns.append(hidden @ w3 + b3)
    return np.stack(columns, axis=1).astype(np.float32)


@pytest.mark.parametrize("rows", [1, 5])
def test_every_way_computes_the_same_to_its_precision(stack: Stack, rows: int) -> None:
    right = expected(stack, states(rows))
    for way in (one_at_a_time(stack), one_at_a_time_bf16(stack), *stacked(stack)):
        found = way.score(states(rows))
        assert found.shape == (rows, LENSES)
        assert found.dtype == np.float32
        tolerance = 1e-5 if "fp32" in way.name else 0.1
        largest = float(np.abs(right).max())
        assert np.abs(found - right).max() <= tolerance * max(1.0, largest), way.name


def test_ways_say_how_many_bytes_they_read(stack: Stack) -> None:
    whole = sum(tensor.nbytes for module in stack.modules(LENSES) for tensor in module.state_dict().values())
    found = {way.name: way.size_bytes for way in stacked(stack)}
    first = stack.weight1.nbytes
    assert one_at_a_time(stack).size_bytes == whole
    assert one_at_a_time(stack, 3).size_bytes == whole // 2
    assert one_at_a_time_bf16(stack).size_bytes == whole // 2
    assert found["concatenated F.linear, fp32"] == whole
    assert found["concatenated F.linear, bf16"] == whole - first // 2
    assert found["torch._int_mm, W8A8"] == whole - 3 * first // 4


def test_fewer_lenses_are_the_first_ones(stack: Stack) -> None:
    few = one_at_a_time(stack, 2, name="few")
    assert (few.name, few.lenses, few.compile_s) == ("few", 2, None)
    np.testing.assert_array_equal(few.score(states(3)), one_at_a_time(stack).score(states(3))[:, :2])


@pytest.fixture
def _no_compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    torch._dynamo.reset()
    with (
        torch._inductor.config.patch({"cpp.cxx": (None, "no-such-compiler")}),
        torch._inductor.utils.fresh_cache(),
    ):
        yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("_no_compiler")
def test_without_a_compiler_a_way_says_so(stack: Stack) -> None:
    seconds, reason = start_compiler()
    assert seconds > 0
    assert reason == "no C++ compiler here"
    assert each_compiled(stack, states(1), seconds=10) == NotRun(
        f"{ONE_AT_A_TIME.removesuffix(', fp32')}, each compiled", "no C++ compiler here"
    )


@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs a C++ compiler")
def test_compiled_lenses_compute_the_same_and_stop_when_time_is_up(stack: Stack) -> None:
    with torch._inductor.utils.fresh_cache():
        few = each_compiled(stack, states(1), seconds=0)
        every = each_compiled(stack, states(1), seconds=600)
    assert isinstance(few, Way)
    assert isinstance(every, Way)
    assert (few.lenses, every.lenses) == (1, LENSES)
    assert every.compile_s is not None
    assert every.compile_s > 0
    np.testing.assert_allclose(every.score(states(1)), expected(stack, states(1)), rtol=1e-4, atol=1e-5)
    torch._dynamo.reset()
