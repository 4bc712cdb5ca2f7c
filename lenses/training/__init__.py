"""Training the lenses of a hierarchy from input states and labels.

samples     what they are trained on, and what training gives
config      how
linear      linear lenses in closed form: the fast route, and the baseline
loop        mlp, linear and compact lenses in one stack: read this first
draw        which samples each lens sees
span        the coordinates that are trained in
stack       lenses side by side: scores and gradients
stopping    early stopping, a lens at a time
precision   where bf16 is fast

It knows states and labels, nothing about texts, hosts or files.
"""

from lenses.training.config import TrainingConfig
from lenses.training.linear import fit_linear
from lenses.training.loop import incoherence, train
from lenses.training.precision import multiply_in_bf16
from lenses.training.samples import Samples, TrainedLenses

__all__ = [
    "Samples",
    "TrainedLenses",
    "TrainingConfig",
    "fit_linear",
    "incoherence",
    "multiply_in_bf16",
    "train",
]
