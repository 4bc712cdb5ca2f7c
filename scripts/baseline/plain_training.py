"""The plain way to train mlp lenses: every sample of a batch to every lens, in all numbers of the state, by autograd.

What `lenses.training` is held against for quality: it takes no short cut, and hours for a thousand lenses. Half of a
batch is drawn from all samples, half by first drawing a concept; classes count one half each, a sibling's positive
weighs more. Weights are those of the last step.

Shapes: S samples, B samples of a batch, D hidden size, N lenses, h1 and h2 widths.
"""

import math

import numpy as np
import torch

from lenses.concept import Hierarchy
from lenses.lens import Heads
from lenses.training import Samples, TrainedLenses, TrainingConfig


def train_plainly(
    samples: Samples, hierarchy: Hierarchy, config: TrainingConfig, *, steps: int, batch: int
) -> TrainedLenses:
    """Train mlp lenses of `config.widths`, with its rate of learning, decay, dropout and sibling weight."""
    rng, torch_rng = np.random.default_rng(config.seed), torch.Generator().manual_seed(config.seed)
    mean_D = samples.states_SD.mean(axis=0, dtype=np.float64).astype(np.float32)
    scale_D = np.maximum(samples.states_SD.std(axis=0, dtype=np.float64), 1e-6).astype(np.float32)
    (h1, h2), lenses, hidden = config.widths, len(hierarchy), samples.states_SD.shape[1]

    def normal(*shape: int) -> torch.Tensor:
        return (torch.randn(*shape, generator=torch_rng) * math.sqrt(2 / shape[-1])).requires_grad_()

    weight1, weight2, weight3 = normal(lenses * h1, hidden), normal(lenses, h2, h1), normal(lenses, h2)
    biases = [torch.zeros(lenses, *shape, requires_grad=True) for shape in ((h1,), (h2,), ())]
    groups = [
        {"params": [weight1, weight2, weight3], "weight_decay": config.weight_decay},
        {"params": biases, "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.99), fused=True)
    parents_N = torch.from_numpy(hierarchy.parents.astype(np.int64))
    of_concept = [np.flatnonzero(samples.positive_XN[:, n][samples.text_S]) for n in range(lenses)]
    able = [positives for positives in of_concept if len(positives)]
    for step in range(steps):
        for group in optimiser.param_groups:
            warm = min(1.0, (step + 1) / max(1, steps // 10))
            group["lr"] = config.learning_rate * warm * (1 + math.cos(math.pi * step / steps)) / 2
        chosen = [rng.choice(able[n]) for n in rng.integers(len(able), size=batch // 2)]
        picked = np.concatenate([rng.integers(len(samples.text_S), size=batch - len(chosen)), chosen])
        states = torch.from_numpy((samples.states_SD[picked] - mean_D) / scale_D)
        states = torch.nn.functional.dropout(states, config.dropout)
        positive = torch.from_numpy(samples.positive(picked))
        sibling = positive[:, parents_N.clamp(min=0)] & (parents_N >= 0) & ~positive
        weight = torch.where(sibling, config.sibling_weight, 1.0)
        for of_class in (positive, ~positive):
            mass = (weight * of_class).sum(dim=0)
            weight = torch.where(of_class, weight * batch / (2 * mass.clamp(min=1e-6)), weight)
        first = torch.relu((states @ weight1.T).view(batch, lenses, h1) + biases[0])
        second = torch.relu(torch.einsum("bnh,nkh->bnk", first, weight2) + biases[1])
        logits = (second * weight3).sum(dim=2) + biases[2]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            logits, positive.float(), weight, reduction="sum"
        )
        optimiser.zero_grad()
        (loss / batch).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    scaled = (weight1 / torch.from_numpy(scale_D)).detach()
    bias1 = biases[0].detach() - (scaled @ torch.from_numpy(mean_D)).view(lenses, h1)
    return TrainedLenses(
        [scaled[f.first * h1 : (f.first + f.rows) * h1] for f in hierarchy.families],
        Heads(
            bias1=bias1.numpy(),
            weight2=weight2.detach().numpy(),
            bias2=biases[1].detach().numpy(),
            weight3=weight3.detach().numpy(),
            bias3=biases[2].detach().numpy(),
            platt_slope=np.ones(lenses, np.float32),
            platt_offset=np.zeros(lenses, np.float32),
            calibrated=np.zeros(lenses, np.bool_),
        ),
    )
