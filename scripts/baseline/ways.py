"""Ways to score a bank of lenses, from one module at a time to one graph for all; none of them knows what it scores.

Every way takes states `[B, D]` in fp32 and gives logits `[B, N]` in fp32 on the host. Those of plain torch are made
here out of one `Stack` of weights; ours is `lenses.bank.Bank` on a pack of the same weights.

Compiling may be impossible (no C++ compiler, say) or take longer than there is time: a way that could not be made is a
`NotRun` with the reason, never an exception.

Shapes: N lenses, D hidden size, h1 and h2 the widths, B states, R = N * h1 rows of all first layers.
"""

import math
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from baseline.module import LensModule
from lenses.lens import Floats, Heads
from lenses.text import one_line

Score = Callable[[torch.Tensor], torch.Tensor]
"""States `[B, D]` to logits `[B, N]`, or `[B, 1]` of one lens."""

ONE_AT_A_TIME = "one module at a time, fp32"


@dataclass(frozen=True, slots=True)
class Way:
    """One way that runs."""

    name: str
    score: Callable[[Floats], Floats]
    size_bytes: int
    """Of the weights that one call must read, all layers."""
    lenses: int
    compile_s: float | None = None
    """What compiling took; None where nothing is compiled."""


@dataclass(frozen=True, slots=True)
class NotRun:
    """One way that does not run here, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Stack:
    """All layers of N lenses in fp32, stacked."""

    weight1: torch.Tensor
    """[N, h1, D]"""
    bias1: torch.Tensor
    weight2: torch.Tensor
    """[N, h2, h1]"""
    bias2: torch.Tensor
    weight3: torch.Tensor
    """[N, h2]"""
    bias3: torch.Tensor

    @classmethod
    def random(cls, lenses: int, hidden_size: int, widths: tuple[int, int], seed: int) -> Self:
        """Random lenses whose logits are about as large as those of trained ones."""
        h1, h2 = widths
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int, fan_in: int) -> torch.Tensor:
            return torch.randn(*shape, generator=generator) * math.sqrt(2 / fan_in)

        return cls(
            normal(lenses, h1, hidden_size, fan_in=hidden_size),
            normal(lenses, h1, fan_in=h1),
            normal(lenses, h2, h1, fan_in=h1),
            normal(lenses, h2, fan_in=h2),
            normal(lenses, h2, fan_in=h2),
            normal(lenses, fan_in=2),
        )

    @property
    def lenses(self) -> int:
        """N"""
        return len(self.weight1)

    def heads(self) -> Heads:
        """All but the first layer, uncalibrated, as a pack has it."""
        return Heads(
            bias1=self.bias1.numpy(),
            weight2=self.weight2.numpy(),
            bias2=self.bias2.numpy(),
            weight3=self.weight3.numpy(),
            bias3=self.bias3.numpy(),
            platt_slope=np.ones(self.lenses, np.float32),
            platt_offset=np.zeros(self.lenses, np.float32),
            calibrated=np.zeros(self.lenses, np.bool_),
        )

    def size_bytes(self, item_bytes: int) -> int:
        """Bytes of all layers where a weight of the first takes so many, and all else is fp32."""
        later = (self.bias1, self.weight2, self.bias2, self.weight3, self.bias3)
        return self.weight1.numel() * item_bytes + sum(tensor.nbytes for tensor in later)

    def modules(self, count: int, dtype: torch.dtype = torch.float32) -> list[LensModule]:
        """The first lenses as modules."""
        _, h1, hidden_size = self.weight1.shape
        made = []
        for n in range(count):
            with torch.device("meta"):
                module = LensModule(hidden_size, (h1, self.weight2.shape[1])).eval()
            layers = (
                *(self.weight1[n], self.bias1[n], self.weight2[n], self.bias2[n]),
                *(self.weight3[n : n + 1], self.bias3[n : n + 1]),
            )
            names = module.state_dict()
            weights = {name: layer.to(dtype, copy=True) for name, layer in zip(names, layers, strict=True)}
            module.load_state_dict(weights, assign=True)
            made.append(module.requires_grad_(False))
        return made


def one_at_a_time(stack: Stack, count: int | None = None, *, name: str = ONE_AT_A_TIME) -> Way:
    """The baseline: each lens a module, one synchronisation a lens."""
    lenses = stack.lenses if count is None else count
    return Way(name, _each(stack.modules(lenses)), _part(stack.size_bytes(4), lenses, stack), lenses)


def one_at_a_time_bf16(stack: Stack) -> Way:
    """The baseline in bf16 throughout: half the bytes, and logits that say so."""
    score = _each(stack.modules(stack.lenses, torch.bfloat16), torch.bfloat16)
    return Way("one module at a time, bf16", score, stack.size_bytes(4) // 2, stack.lenses)


def each_compiled(stack: Stack, states_BD: Floats, *, seconds: float) -> Way | NotRun:
    """A module a lens, each compiled by itself; no more lenses than compile within `seconds`.

    Dynamo gives up on a function after a few recompilations: its limits are raised, or most lenses would quietly run
    as they are.
    """
    name = "one module at a time, each compiled"
    compiled: list[Score] = []
    states = torch.from_numpy(states_BD)
    begin = time.perf_counter()
    limits = {"recompile_limit": 2 * stack.lenses + 8, "accumulated_recompile_limit": 4 * stack.lenses + 64}
    with torch._dynamo.config.patch(limits):
        for module in stack.modules(stack.lenses):
            one = _compile(module, states)
            if isinstance(one, str):
                return NotRun(name, one)
            compiled.append(one)
            if time.perf_counter() - begin > seconds:
                break
    taken = time.perf_counter() - begin
    size_bytes = _part(stack.size_bytes(4), len(compiled), stack)
    return Way(name, _each(compiled), size_bytes, len(compiled), taken)


def stacked(stack: Stack) -> Iterator[Way]:
    """All lenses in a few operations, nothing compiled."""
    yield Way("vmap over modules, fp32", _whole(_vmapped(stack)), stack.size_bytes(4), stack.lenses)
    yield Way("stacked einsum, fp32", _whole(_einsum(stack)), stack.size_bytes(4), stack.lenses)
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        score = _concatenated(stack, dtype)
        yield Way(
            f"concatenated F.linear, {name}", _whole(score), stack.size_bytes(dtype.itemsize), stack.lenses
        )
    yield Way("torch._int_mm, W8A8", _whole(_int8(stack)), stack.size_bytes(1), stack.lenses)


def one_graph(stack: Stack, states_BD: Floats) -> Iterator[Way | NotRun]:
    """All lenses as one compiled graph, stacked and concatenated."""
    variants: Sequence[tuple[str, Score, str, int]] = (
        ("one graph: stacked einsum, fp32", _einsum(stack), "default", 4),
        ("one graph: concatenated, fp32", _concatenated(stack, torch.float32), "default", 4),
        ("one graph: concatenated, bf16", _concatenated(stack, torch.bfloat16), "default", 2),
        (
            "one graph: concatenated, bf16, max-autotune",
            _concatenated(stack, torch.bfloat16),
            "max-autotune",
            2,
        ),
    )
    states = torch.from_numpy(states_BD)
    for name, score, mode, item_bytes in variants:
        begin = time.perf_counter()
        compiled = _compile(score, states, mode)
        taken = time.perf_counter() - begin
        if isinstance(compiled, str):
            yield NotRun(name, compiled)
        else:
            yield Way(name, _whole(compiled), stack.size_bytes(item_bytes), stack.lenses, taken)


def start_compiler() -> tuple[float, str | None]:
    """Compile next to nothing: the seconds that a process's first compilation takes, and why there is none, if so."""
    begin = time.perf_counter()
    compiled = _compile(lambda states: states + 1, torch.zeros(1))
    return time.perf_counter() - begin, compiled if isinstance(compiled, str) else None


def _compile(score: Score, states_BD: torch.Tensor, mode: str = "default") -> Score | str:
    """Compile for states of this shape, by calling once; the reason where that cannot be done."""
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler's own, about itself
        compiled: Score = torch.compile(score, mode=mode, dynamic=False)
        try:
            compiled(states_BD)
        except RuntimeError as error:  # what dynamo and inductor raise, whatever it was that failed
            if shutil.which(torch._inductor.config.cpp.cxx[1]) is None:
                return "no C++ compiler here"
            return one_line(str(error).strip().splitlines()[0])
    return compiled


def _each(modules: Sequence[Score], dtype: torch.dtype = torch.float32) -> Callable[[Floats], Floats]:
    def score(states_BD: Floats) -> Floats:
        with torch.inference_mode():
            states = torch.from_numpy(states_BD).to(dtype)
            if len(states) == 1:
                return np.array([[module(states).item() for module in modules]], np.float32)
            return np.array([module(states)[:, 0].tolist() for module in modules], np.float32).T

    return score


def _whole(score: Score) -> Callable[[Floats], Floats]:
    def whole(states_BD: Floats) -> Floats:
        with torch.inference_mode():
            found: Floats = score(torch.from_numpy(states_BD)).numpy()
            return found

    return whole


def _vmapped(stack: Stack) -> Score:
    modules: list[nn.Module] = list(stack.modules(stack.lenses))
    weights, buffers = torch.func.stack_module_state(modules)
    skeleton = modules[0].to("meta")

    def one(
        own: dict[str, torch.Tensor], kept: dict[str, torch.Tensor], states_BD: torch.Tensor
    ) -> torch.Tensor:
        logits: torch.Tensor = torch.func.functional_call(skeleton, (own, kept), (states_BD,))
        return logits

    every = torch.func.vmap(one, in_dims=(0, 0, None))
    return lambda states_BD: every(weights, buffers, states_BD)[:, :, 0].T


def _einsum(stack: Stack) -> Score:
    def score(states_BD: torch.Tensor) -> torch.Tensor:
        return _later(stack, torch.einsum("bd,nhd->bnh", states_BD, stack.weight1))

    return score


def _concatenated(stack: Stack, dtype: torch.dtype) -> Score:
    rows, hidden_size = stack.lenses * stack.weight1.shape[1], stack.weight1.shape[2]
    weight_RD = stack.weight1.reshape(rows, hidden_size).to(dtype)

    def score(states_BD: torch.Tensor) -> torch.Tensor:
        hidden_BR = functional.linear(states_BD.to(dtype), weight_RD).to(torch.float32)
        return _later(stack, hidden_BR.view(len(states_BD), *stack.bias1.shape))

    return score


def _int8(stack: Stack) -> Score:
    """Weights and states in int8, a scale a row of each; the other layers in fp32."""
    rows, hidden_size = stack.lenses * stack.weight1.shape[1], stack.weight1.shape[2]
    weight_RD = stack.weight1.reshape(rows, hidden_size)
    weight_scale_R, quantised_RD = _quantised(weight_RD)
    quantised_DR = quantised_RD.T  # a view: rows stay contiguous, as the kernel wants them

    def score(states_BD: torch.Tensor) -> torch.Tensor:
        state_scale_B, quantised_BD = _quantised(states_BD)
        sums_BR = torch._int_mm(quantised_BD, quantised_DR)
        hidden_BR = sums_BR.to(torch.float32) * weight_scale_R * state_scale_B[:, None]
        return _later(stack, hidden_BR.view(len(states_BD), *stack.bias1.shape))

    return score


def _quantised(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A scale a row, and the rows as int8."""
    scale = (rows.abs().amax(dim=1) / 127).clamp_min(1e-30)
    return scale, torch.round(rows / scale[:, None]).to(torch.int8)


def _later(stack: Stack, hidden_BNh: torch.Tensor) -> torch.Tensor:
    """From the first layer's products, bias not yet added, to logits `[B, N]`."""
    hidden = torch.relu(hidden_BNh + stack.bias1)
    hidden = torch.relu(torch.einsum("bni,noi->bno", hidden, stack.weight2) + stack.bias2)
    return (hidden * stack.weight3).sum(dim=2) + stack.bias3


def _part(size_bytes: int, lenses: int, stack: Stack) -> int:
    return size_bytes * lenses // stack.lenses
