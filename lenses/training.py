"""Training all lenses of a hierarchy together: one stacked model, one loop, states computed beforehand.

Every batch of input states is scored by every lens at once. A sample counts for each lens as a positive (its text is of
the concept or of one below it), or as a negative; negatives that belong to a sibling weigh more, since a family's own
members are what it must tell apart. For every lens the two classes are given one half of the weight each. Batches are
drawn half from all samples and half concept by concept, so that rare concepts are met often; the weights take the
drawing into account.

Input states are standardised while training; the means and scales are folded into the first layer in fp32 when the
lenses are exported, so what is served reads plain input states.

Compact lenses read a projection of the state that is trained with them. They may be distilled: then a teacher's
probabilities take the labels' place, sample by sample, with the labels' weights.

It knows states and labels, nothing about texts, hosts or files.

Shapes: S samples, B samples of a batch, D hidden size, R rows of the projection, N lenses, h1 and h2 widths, X texts.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lenses.concept import Hierarchy
from lenses.lens import Floats, Heads


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """How lenses are trained."""

    widths: tuple[int, int] = (16, 8)
    """Widths of the two hidden layers."""
    rank: int | None = None
    """R, the rows of a projection that all lenses read through (compact); None: they read the state itself."""
    steps: int = 2000
    batch: int = 1024
    """Samples a step."""
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    sibling_weight: float = 4.0
    """Weight of a negative that is a sibling's positive, against 1 for any other."""
    dropout: float = 0.1
    """Share of the standardised input that is left out while training."""
    coherence: float = 0.1
    """Weight of the penalty on a concept that is surer than its parent: the square of what its log-odds are above."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Samples:
    """Input states and whose they are."""

    states_SD: Floats
    text_S: NDArray[np.int32]
    """[S] row of `positive_XN` that each sample's text has."""
    positive_XN: NDArray[np.bool_]
    """[X, N] whether a text is of the concept or of one below it."""

    def positive(self, samples: NDArray[np.int_] | slice) -> NDArray[np.bool_]:
        """[S', N] the labels of some samples."""
        return self.positive_XN[self.text_S[samples]]


@dataclass(frozen=True, slots=True)
class TrainedLenses:
    """What training gives: first layers by family, and uncalibrated heads."""

    first_layers: list[torch.Tensor]
    """Per family `[rows * h1, D]` fp32."""
    heads: Heads


def sample_weights(positive_SN: torch.Tensor, parents_N: torch.Tensor, sibling_weight: float) -> torch.Tensor:
    """[S, N] the weight of each sample for each lens, classes not yet balanced: more for a sibling's positive."""
    under_parent = positive_SN[:, parents_N.clamp(min=0)] & (parents_N >= 0)
    return torch.where(under_parent & ~positive_SN, sibling_weight, 1.0)


def train(
    samples: Samples,
    hierarchy: Hierarchy,
    config: TrainingConfig,
    *,
    device: torch.device | str = "cpu",
    teacher: Callable[[Floats], Floats] | None = None,
    progress: Callable[[int, float], None] = lambda step, loss: None,
) -> TrainedLenses:
    """Train lenses for every concept; `progress(step, loss)` is called after every step. Deterministic by seed.

    `teacher(states_BD)` gives the logits `[B, N]` of lenses that these are to agree with; without it the labels teach.
    """
    rng = np.random.default_rng(config.seed)
    torch_rng = torch.Generator().manual_seed(config.seed)
    mean_D = samples.states_SD.mean(axis=0, dtype=np.float64).astype(np.float32)
    scale_D = np.maximum(samples.states_SD.std(axis=0, dtype=np.float64), 1e-6).astype(np.float32)
    mean, scale = torch.from_numpy(mean_D).to(device), torch.from_numpy(scale_D).to(device)
    parents_N = torch.from_numpy(hierarchy.parents.astype(np.int64)).to(device)

    draw = _Draw(samples, rng)
    balance = _balance(samples, draw, parents_N.cpu(), config.sibling_weight).to(device)
    model = _Stack(len(hierarchy), samples.states_SD.shape[1], config, torch_rng).to(device)
    undecayed = [model.bias1, model.bias2, model.bias3]
    decayed = [p for p in model.parameters() if all(p is not bias for bias in undecayed)]
    optimiser = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": config.weight_decay},
            {"params": undecayed, "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
        betas=(0.9, 0.99),
    )
    warm_up = max(1, min(100, config.steps // 10))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: (
            min(1.0, (step + 1) / warm_up) * (0.02 + 0.98 * (1 + math.cos(math.pi * step / config.steps)) / 2)
        ),
    )
    for step in range(config.steps):
        picked = draw(config.batch)
        states_BD = (torch.from_numpy(samples.states_SD[picked]).to(device) - mean) / scale
        keep = torch.rand(states_BD.shape, generator=torch_rng).to(device) >= config.dropout
        states_BD = states_BD * keep / (1 - config.dropout)
        positive_BN = torch.from_numpy(samples.positive(picked)).to(device)
        weight_BN = sample_weights(positive_BN, parents_N, config.sibling_weight)
        weight_BN = weight_BN * torch.where(positive_BN, balance[0], balance[1])
        logits_BN = model(states_BD)
        target_BN = positive_BN.float()
        if teacher is not None:
            target_BN = torch.sigmoid(torch.from_numpy(teacher(samples.states_SD[picked]))).to(device)
        loss = _loss(logits_BN, target_BN, weight_BN)
        if config.coherence:
            loss = loss + config.coherence * incoherence(logits_BN, parents_N)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        progress(step + 1, float(loss.detach()) / len(hierarchy))
    return _export(model, hierarchy, mean.cpu(), scale.cpu())


def incoherence(logits_BN: torch.Tensor, parents_N: torch.Tensor) -> torch.Tensor:
    """Mean over samples of the summed squares of what logits are above the parent's; 0 where none is.

    A text of a concept is one of its parent's, so a lens that is surer than its parent's contradicts it; and a walk
    down the hierarchy never comes to it.
    """
    child_N = torch.nonzero(parents_N >= 0).squeeze(1)
    above = torch.relu(logits_BN[:, child_N] - logits_BN[:, parents_N[child_N]])
    return above.square().sum() / len(logits_BN)


def _loss(logits_BN: torch.Tensor, target_BN: torch.Tensor, weight_BN: torch.Tensor) -> torch.Tensor:
    each = torch.nn.functional.binary_cross_entropy_with_logits(
        logits_BN, target_BN, weight=weight_BN, reduction="sum"
    )
    return each / len(logits_BN)


def multiply_in_bf16(device: torch.device) -> torch.autocast:
    """A context in which matrix products are in bf16, where the device has instructions for it.

    A processor without them takes fifty times as long as in fp32, so there it does nothing.
    """
    is_fast = device.type != "cpu" or torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(device.type, torch.bfloat16, enabled=is_fast)


class _Draw:
    """Draws batches: half uniformly, half by first drawing a concept and then one of its positives."""

    def __init__(self, samples: Samples, rng: np.random.Generator) -> None:
        self._rng = rng
        self._count = len(samples.text_S)
        order = np.argsort(samples.text_S, kind="stable")
        starts = np.searchsorted(samples.text_S[order], np.arange(len(samples.positive_XN) + 1))
        self._by_text = order, starts
        has_sample = np.diff(starts) > 0
        positives = [
            np.flatnonzero(samples.positive_XN[:, n] & has_sample)
            for n in range(samples.positive_XN.shape[1])
        ]
        self._positives = [texts for texts in positives if len(texts)]
        share_X = np.zeros(len(has_sample))
        for texts in self._positives:
            share_X[texts] += 1 / (len(self._positives) * len(texts))
        self.probability_X = 0.5 * np.diff(starts) / self._count + 0.5 * share_X
        """[X] how likely a draw is to come from each text."""

    def __call__(self, size: int) -> NDArray[np.int_]:
        uniform = self._rng.integers(self._count, size=size - size // 2)
        concepts = self._rng.integers(len(self._positives), size=size // 2)
        texts = np.array([self._rng.choice(self._positives[n]) for n in concepts])
        order, starts = self._by_text
        within = self._rng.random(len(texts)) * (starts[texts + 1] - starts[texts])
        return np.concatenate([uniform, order[starts[texts] + within.astype(np.int64)]])


def _balance(samples: Samples, draw: _Draw, parents_N: torch.Tensor, sibling_weight: float) -> torch.Tensor:
    """[2, N] factors for positives and negatives that give each class one half of a lens's weight over many draws."""
    mass = torch.zeros(2, len(parents_N), dtype=torch.float64)
    for start in range(0, len(samples.positive_XN), 8192):
        positive = torch.from_numpy(samples.positive_XN[start : start + 8192])
        drawn = torch.from_numpy(draw.probability_X[start : start + 8192])[:, None]
        weight = sample_weights(positive, parents_N, sibling_weight) * drawn
        mass[0] += (weight * positive).sum(dim=0)
        mass[1] += (weight * ~positive).sum(dim=0)
    return torch.where(mass > 0, 0.5 / mass.clamp(min=1e-12), 0.0).float()


class _Stack(torch.nn.Module):
    """N mlp lenses side by side, on the state or on one projection of it."""

    def __init__(self, lenses: int, hidden: int, config: TrainingConfig, rng: torch.Generator) -> None:
        super().__init__()
        h1, h2 = config.widths

        def normal(*shape: int, fan_in: int) -> torch.nn.Parameter:
            return torch.nn.Parameter(torch.randn(*shape, generator=rng) * math.sqrt(2 / fan_in))

        self.projection = None if config.rank is None else normal(config.rank, hidden, fan_in=2 * hidden)
        columns = hidden if config.rank is None else config.rank
        self.weight1 = normal(lenses * h1, columns, fan_in=columns)
        self.bias1 = torch.nn.Parameter(torch.zeros(lenses, h1))
        self.weight2 = normal(lenses, h2, h1, fan_in=h1)
        self.bias2 = torch.nn.Parameter(torch.zeros(lenses, h2))
        self.weight3 = normal(lenses, h2, fan_in=h2)
        self.bias3 = torch.nn.Parameter(torch.zeros(lenses))

    def forward(self, states_BD: torch.Tensor) -> torch.Tensor:
        if self.projection is not None:
            states_BD = states_BD @ self.projection.T
        # The first layer is nearly all of the arithmetic; bf16 halves it, and the stored weights are bf16 anyway.
        with multiply_in_bf16(states_BD.device):
            hidden = torch.nn.functional.linear(states_BD, self.weight1)
        hidden = hidden.float().view(len(states_BD), *self.bias1.shape) + self.bias1
        hidden = torch.bmm(torch.relu(hidden).transpose(0, 1), self.weight2.transpose(1, 2))
        hidden = torch.relu(hidden.transpose(0, 1) + self.bias2)
        return (hidden * self.weight3).sum(dim=2) + self.bias3


def _export(model: _Stack, hierarchy: Hierarchy, mean: torch.Tensor, scale: torch.Tensor) -> TrainedLenses:
    """Fold the standardisation into the layer that reads the state, in fp32, and cut first layers into families."""
    width = model.bias1.shape[1]
    weight1 = model.weight1.detach().cpu()
    projection = None if model.projection is None else model.projection.detach().cpu() / scale
    if projection is None:
        weight1 = weight1 / scale
    at_mean = weight1 @ (mean if projection is None else projection @ mean)
    bias1 = model.bias1.detach().cpu() - at_mean.view(-1, width)
    first_layers = [
        weight1[family.first * width : (family.first + family.rows) * width].clone()
        for family in hierarchy.families
    ]
    count = len(hierarchy)
    heads = Heads(
        bias1=bias1.numpy(),
        weight2=model.weight2.detach().cpu().numpy(),
        bias2=model.bias2.detach().cpu().numpy(),
        weight3=model.weight3.detach().cpu().numpy(),
        bias3=model.bias3.detach().cpu().numpy(),
        platt_slope=np.ones(count, np.float32),
        platt_offset=np.zeros(count, np.float32),
        calibrated=np.zeros(count, np.bool_),
        projection=None if projection is None else projection.numpy(),
    )
    return TrainedLenses(first_layers, heads)
