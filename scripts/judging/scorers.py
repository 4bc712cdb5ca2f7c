"""The lenses and the controls beside them, each as a score of every token of the held-out texts.

The controls are fitted on the training part.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from data.parts import Part

from judging.bag_of_words import fit as fit_bag_of_words
from judging.controls import ServedLenses, linear_and_random, shuffled
from judging.verdicts import LENS, WORDS
from lenses.lens import Floats
from lenses.metrics import SEED
from lenses.pack import LensPack
from lenses.training import Samples
from runtime.training.states import States

Scorer = Callable[[slice], Floats]
"""Scores [S, lenses] of all tokens of held-out texts for some of the measured lenses."""


def fit_scorers(
    pack: LensPack,
    measured: Sequence[int],
    parts: Mapping[str, Part],
    samples: States,
    states: States,
) -> tuple[dict[str, Scorer], float]:
    """The lenses and the controls fitted on the training part, by name; and the penalty of the bag of words."""
    train, validation, held = (parts[name] for name in ("train", "validation", "held-out"))
    states_SD = states.states_SD
    fitted_on = Samples(samples.states_SD, samples.text_S, train.positive_XN[:, measured])
    linear, random = linear_and_random(fitted_on, SEED)
    words = fit_bag_of_words(
        (train.ids, samples.text_S, samples.at_S),
        train.positive_XN[:, measured],
        validation.ids,
        validation.positive_XN[:, measured],
        vocabulary=1 + max(max(ids) for part in parts.values() for ids in part.ids),
    )
    bags = words.bags(held.ids, states.text_S, states.at_S)
    lenses = ServedLenses(pack)
    with tempfile.TemporaryDirectory() as scratch:
        # An open pack reads from open files, so that the directory may go.
        dealt = ServedLenses(shuffled(fitted_on, pack, measured, Path(scratch), SEED))
    ids = [pack.hierarchy.concepts[n].id for n in measured]
    scorers: dict[str, Scorer] = {
        LENS: lambda some: lenses.score(states_SD, ids[some]),
        WORDS: lambda some: words.score(bags, some),
        "linear": lambda some: linear.score(states_SD, some),
        "random": lambda some: random.score(states_SD, some),
        "shuffled": lambda some: dealt.score(states_SD, ids[some]),
    }
    return scorers, words.penalty
