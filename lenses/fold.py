"""A LayerNorm of a lens's own, folded into its first layer in fp32, so that one normalised state serves every lens.

    W1 (g * x + beta) + b1  =  (W1 * g) x + (W1 beta + b1)

Shapes: F lenses, h1 the width of the first layer, D hidden size.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def fold_layer_norm(
    weight_FHD: Floats, bias_FH: Floats, gain_FD: Floats, beta_FD: Floats
) -> tuple[Floats, Floats]:
    """First layers `[F, h1, D]` and `[F, h1]` that do to a normalised state what these do after gain and bias.

    The weights are changed in place: a family may be a hundred megabytes.
    """
    folded_FH = bias_FH + np.einsum("fhd,fd->fh", weight_FHD, beta_FD)
    weight_FHD *= gain_FD[:, None, :]
    return weight_FHD, folded_FH
