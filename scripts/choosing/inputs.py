"""Compares input states (sites crossed with poolings) by what ridge regression reads out of them.

1. one forward of the host over the training texts gives the states of all inputs at once; only sums are kept of them
   (`ridge.Moments`), so memory does not grow with the number of texts;
2. one forward over the validation texts gives the states that are scored (2 GiB for thirty inputs of 256 numbers and
   all of WordNet's validation nouns);
3. input by input: weights, scores, metrics.

Knows texts and labels, nothing about where they come from.

Shapes: S samples, X texts, D hidden size, N lenses.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from judging.controls import RIDGE_PENALTY
from judging.ridge import Moments
from rich.progress import Progress

from choosing.metrics import metrics
from lenses.concept import Hierarchy
from lenses.lens import Floats
from lenses.metrics import Bools
from lenses.training import Samples
from runtime.host import Host
from runtime.training.states import Input, States, stream


@dataclass(frozen=True, slots=True)
class Told:
    """Some texts and what they are of."""

    texts: Sequence[str]
    positive_XN: Bools


def compare(
    host: Host,
    inputs: Sequence[Input],
    fitted_on: Told,
    judged_on: Told,
    hierarchy: Hierarchy,
    *,
    positions: int,
    seed: int,
    progress: Progress,
) -> Iterator[dict[str, float]]:
    """The metrics of each input, in order."""

    def states(told: Told, title: str) -> Iterator[list[States]]:
        return stream(
            host,
            told.texts,
            inputs=inputs,
            positions=positions,
            seed=seed,
            progress=progress,
            title=title,
        )

    weights = fit(states(fitted_on, "ridge: train"), fitted_on.positive_XN, len(inputs))
    by_input = zip(*states(judged_on, "ridge: validation"), strict=True)
    task = progress.add_task("ridge: metrics", total=len(inputs))
    for weight_DN, pieces in zip(weights, by_input, strict=True):
        found = States.joined(pieces)
        samples = Samples(found.states_SD, found.text_S, judged_on.positive_XN)
        yield metrics(hierarchy, found.states_SD @ weight_DN, samples, found.last_S)
        progress.advance(task)


def fit(batches: Iterator[list[States]], positive_XN: Bools, inputs: int) -> list[Floats]:
    """Ridge weights [D, N] of each input, out of batches of the states of all inputs."""
    moments: list[Moments] = []
    for pieces in batches:
        if not moments:
            moments = [Moments(pieces[0].states_SD.shape[1], positive_XN.shape[1]) for _ in range(inputs)]
        labels_SN = torch.from_numpy(positive_XN[pieces[0].text_S]).float()
        for sums, piece in zip(moments, pieces, strict=True):
            sums.add(torch.from_numpy(piece.states_SD), labels_SN)
    return [sums.solve(RIDGE_PENALTY).numpy() for sums in moments]
