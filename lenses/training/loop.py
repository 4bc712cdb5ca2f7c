"""Training all lenses of a hierarchy together: one stack, one loop, states computed beforehand.

In every step a lens sees samples that all lenses see and some of its own (see `draw`), in the coordinates of `span`,
which are folded into the layer that reads the state when the lenses are exported: what is served reads plain input
states. Lenses that share no projection begin as the linear lenses of `linear`. With validation samples each lens keeps
the weights that were good there (see `stopping`); and where the closed form over all of the state tells a concept
better than what was found in the span, the lens is that one, carried by two of its units.

Compact lenses read a projection of the state that is trained with them. Lenses may be distilled: then a teacher's
probabilities take the labels' place, sample by sample, with the labels' weights.

It knows states and labels, nothing about texts, hosts or files.

Shapes: S samples, B samples that a lens sees in a step, D hidden size, K coordinates, R rows of the projection, N
lenses, h1 and h2 widths.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from lenses.concept import Hierarchy
from lenses.lens import Floats, Heads
from lenses.training.config import TrainingConfig
from lenses.training.draw import Draw
from lenses.training.linear import fit_linear
from lenses.training.samples import CHUNK, Samples, TrainedLenses, by_family
from lenses.training.span import Span
from lenses.training.stack import Stack, carry_linear
from lenses.training.stopping import Best

_SATURATED = 30.0
"""A teacher's log-odds beyond are as good as certain."""


def train(
    samples: Samples,
    hierarchy: Hierarchy,
    config: TrainingConfig,
    *,
    validation: Samples | None = None,
    device: torch.device | str = "cpu",
    teacher: Callable[[Floats], Floats] | None = None,
    progress: Callable[[int, float], None] = lambda step, loss: None,
) -> TrainedLenses:
    """Train lenses for every concept; `progress(step, loss)` is called after every step. Deterministic by seed.

    With `validation`, each lens keeps the weights that were good there, and training may end early.
    `teacher(states_BD)` gives the logits `[B, N]` of lenses that these are to agree with; without it the labels teach.
    Raises HierarchyError where the samples' labels do not fit the hierarchy.
    """
    samples.check(hierarchy)
    rng = np.random.default_rng(config.seed)
    torch_rng = torch.Generator().manual_seed(config.seed)
    parents_N = torch.from_numpy(hierarchy.parents.astype(np.int64)).to(device)
    span = Span.of(samples, config.span, config.seed)
    states_SK = span.coordinates(samples).to(device)
    draw = Draw(samples, hierarchy, config.shared, config.own, config.sibling_weight, rng)
    stack = Stack(len(hierarchy), states_SK.shape[1], config.widths, config.rank, torch_rng, device)
    if teacher is None and stack.can_begin_linear:
        _begin_linear(stack, states_SK, samples, hierarchy, config)
    taught_SN = None if teacher is None else _teach(samples, teacher, len(hierarchy))
    gather = _Gather()
    best = None
    if validation is not None:
        validation.check(hierarchy)
        best = Best(
            validation,
            hierarchy,
            span.coordinates(validation).to(device),
            stack,
            config.patience,
            np.random.default_rng([config.seed, 1]),
        )
        best.look(gather)
    optimiser = _optimiser(stack, config)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, config.steps))
    every = -(-config.steps // config.looks)
    for step in range(1, config.steps + 1):
        picked_NB = draw()
        positive_NB, weight_NB = draw.labels(picked_NB)
        target_NB = torch.from_numpy(positive_NB).to(device, torch.float32)
        if taught_SN is not None:
            lens_N1 = np.arange(len(hierarchy))[:, None]
            taught_NB = torch.from_numpy(taught_SN[picked_NB, lens_N1]).to(device, torch.float32)
            target_NB = torch.sigmoid(taught_NB)
        index_NB = torch.from_numpy(picked_NB).to(device)
        parts = states_SK[index_NB[0, : draw.shared]], gather(states_SK, index_NB[:, draw.shared :])
        if config.dropout:
            # The same numbers are left out for all lenses: they do not know of each other, and dice are slow.
            for states in parts:
                keep_BK = torch.rand(states.shape[-2:], generator=torch_rng) >= config.dropout
                states *= keep_BK.to(device) / (1 - config.dropout)
        logits_NB = stack.score(*parts).requires_grad_()
        loss = _loss(logits_NB, target_NB, torch.from_numpy(weight_NB).to(device))
        if config.coherence:
            loss = loss + config.coherence * _incoherence(logits_NB, parents_N, draw)
        (slope_NB,) = torch.autograd.grad(loss, logits_NB)
        stack.backward(slope_NB)
        optimiser.step()
        schedule.step()
        progress(step, float(loss.detach()) / len(hierarchy))
        is_look = step % every == 0 or step == config.steps
        if best is not None and is_look and not best.look(gather):
            break
    if best is None or validation is None:
        return _export(_folded(stack, span), hierarchy)
    best.restore()
    weights = _folded(stack, span)
    if stack.can_begin_linear and span.is_narrower:
        linear = fit_linear(samples, hierarchy, sibling_weight=config.sibling_weight)
        better = best.beaten_by(_linear_logits(linear, validation).to(device)).cpu()
        chosen = {name: weight[better] for name, weight in weights.items()}
        carry_linear(
            chosen, torch.cat(linear.first_layers)[better], torch.from_numpy(linear.heads.bias1[:, 0])[better]
        )
        for name, weight in chosen.items():
            weights[name][better] = weight
    return _export(weights, hierarchy)


def incoherence(logits_BN: torch.Tensor, parents_N: torch.Tensor) -> torch.Tensor:
    """Mean over samples of the summed squares of what logits are above the parent's; 0 where none is.

    A text of a concept is one of its parent's, so a lens that is surer than its parent's contradicts it; and a walk
    down the hierarchy never comes to it.
    """
    child_N = torch.nonzero(parents_N >= 0).squeeze(1)
    above = torch.relu(logits_BN[:, child_N] - logits_BN[:, parents_N[child_N]])
    return above.square().sum() / len(logits_BN)


def _incoherence(logits_NB: torch.Tensor, parents_N: torch.Tensor, draw: Draw) -> torch.Tensor:
    """`incoherence` over the samples that a lens and its parent have both seen."""
    child = torch.nonzero(parents_N >= 0).squeeze(1)
    shared, own = draw.shared, draw.own
    of_child, of_parent = logits_NB[child], logits_NB[parents_N[child]]
    seen_by_child = torch.cat([of_child[:, :shared], of_child[:, shared + own :]], dim=1)
    above = torch.relu(seen_by_child - of_parent[:, : shared + own])
    return above.square().sum() / (shared + own)


def _loss(logits_NB: torch.Tensor, target_NB: torch.Tensor, weight_NB: torch.Tensor) -> torch.Tensor:
    each = torch.nn.functional.binary_cross_entropy_with_logits(
        logits_NB, target_NB, weight=weight_NB, reduction="sum"
    )
    return each / logits_NB.shape[1]


def _begin_linear(
    stack: Stack, states_SK: torch.Tensor, samples: Samples, hierarchy: Hierarchy, config: TrainingConfig
) -> None:
    """Have every lens be the linear one of its coordinates: concepts of few texts are better learnt from there."""
    reduced = Samples(states_SK.cpu().numpy(), samples.text_S, samples.positive_XN)
    linear = fit_linear(reduced, hierarchy, sibling_weight=config.sibling_weight)
    weight_NK, bias_N = torch.cat(linear.first_layers), torch.from_numpy(linear.heads.bias1[:, 0])
    stack.begin_with(weight_NK.to(states_SK.device), bias_N.to(states_SK.device))


class _Gather:
    """Collects the states of each lens's samples into one array that is used again and again."""

    def __init__(self) -> None:
        self._arrays: dict[torch.Size, torch.Tensor] = {}

    def __call__(self, states_SK: torch.Tensor, index_NB: torch.Tensor) -> torch.Tensor:
        shape = torch.Size((*index_NB.shape, states_SK.shape[1]))
        if shape not in self._arrays:
            self._arrays[shape] = states_SK.new_empty(shape)
        found = self._arrays[shape]
        torch.index_select(states_SK, 0, index_NB.flatten(), out=found.flatten(0, 1))
        return found


def _teach(samples: Samples, teacher: Callable[[Floats], Floats], lenses: int) -> NDArray[np.float16]:
    """[S, N] what the teacher says of every sample."""
    said_SN = np.empty((len(samples.text_S), lenses), np.float16)
    for start in range(0, len(said_SN), CHUNK):
        some = slice(start, start + CHUNK)
        states = np.ascontiguousarray(samples.states_SD[some], np.float32)
        said_SN[some] = np.clip(teacher(states), -_SATURATED, _SATURATED)
    return said_SN


def _optimiser(stack: Stack, config: TrainingConfig) -> torch.optim.Optimizer:
    decayed = [weight for name, weight in stack.weights.items() if not name.startswith("bias")]
    undecayed = [weight for name, weight in stack.weights.items() if name.startswith("bias")]
    return torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": config.weight_decay},
            {"params": undecayed, "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
        betas=(0.9, 0.99),
        fused=True,  # one pass over the weights instead of ten
    )


def _rate(step: int, steps: int) -> float:
    """Warm-up, then half a cosine down to a fiftieth."""
    warm_up = max(1, min(100, steps // 10))
    return min(1.0, (step + 1) / warm_up) * (0.02 + 0.98 * (1 + math.cos(math.pi * step / steps)) / 2)


def _linear_logits(linear: TrainedLenses, samples: Samples) -> torch.Tensor:
    """[S, N] what linear lenses say of all samples."""
    weight_ND, bias_N = torch.cat(linear.first_layers), torch.from_numpy(linear.heads.bias1[:, 0])
    return torch.cat([torch.addmm(bias_N, states, weight_ND.T) for _, states in samples.chunks()])


def _folded(stack: Stack, span: Span) -> dict[str, torch.Tensor]:
    """The stack's weights, the coordinates folded into the layer that reads the state, in fp32."""
    of = {name: weight.detach().cpu() for name, weight in stack.weights.items()}
    if "projection" in of:
        of["projection"], at_mean = span.fold(of["projection"])
        at_mean = of["weight1"] @ at_mean
    else:
        weight1, at_mean = span.fold(of["weight1"].flatten(0, 1))
        of["weight1"] = weight1.view(*of["bias1"].shape, -1)
        at_mean = at_mean.view_as(of["bias1"])
    return of | {"bias1": of["bias1"] - at_mean}


def _export(weights: dict[str, torch.Tensor], hierarchy: Hierarchy) -> TrainedLenses:
    """First layers by family, and all else as heads."""
    count, h1 = weights["bias1"].shape
    rest = {name: weight.numpy() for name, weight in weights.items() if name != "weight1"}
    heads = Heads(
        bias1=rest["bias1"],
        weight2=rest.get("weight2"),
        bias2=rest.get("bias2"),
        weight3=rest.get("weight3"),
        bias3=rest.get("bias3"),
        platt_slope=np.ones(count, np.float32),
        platt_offset=np.zeros(count, np.float32),
        calibrated=np.zeros(count, np.bool_),
        projection=rest.get("projection"),
    )
    return TrainedLenses(by_family(weights["weight1"].flatten(0, 1), hierarchy, h1), heads)
