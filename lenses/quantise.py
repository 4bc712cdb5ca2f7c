"""First layers as int8: a scale for each row, and whole numbers times it.

    scale_r = max |w_r| / 127      q_rc = round(w_rc / scale_r), half to even      w_rc ~ q_rc * scale_r

It is symmetric: no zero point, 0 stays 0, and -w is stored as -q. A row of zeros has scale 1. A weight is off by at
most half a scale. What is written is -127..127; a stored -128 is read like any other number, so whoever computes on
stored rows must stand it.

It knows arrays only; where they are stored is the pack's business.

Shapes: R rows (lenses * h1), C columns.
"""

import numpy as np
import torch
from numpy.typing import NDArray

_LARGEST = 127
_FP32 = torch.finfo(torch.float32)


def quantise_rows(weights_RC: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights `[R, C]` as int8 `[R, C]` and the scale of each row `[R]` in fp32, which is none where a weight is not
    finite or is beyond what int8 can say: see `are_scales`."""
    weights_RC = weights_RC.to(torch.float32)
    peak_R = torch.maximum(
        weights_RC.amax(dim=1), -weights_RC.amin(dim=1)
    )  # no copy of the weights, as abs makes
    # Below the smallest normal number a quotient has few bits left, and a weight could come out above 127 scales.
    scale_R = torch.where(peak_R == 0, 1.0, (peak_R / _LARGEST).clamp(min=_FP32.tiny))
    return (weights_RC / scale_R[:, None]).round_().to(torch.int8), scale_R


def dequantise_rows(stored_RC: torch.Tensor, scale_R: torch.Tensor) -> torch.Tensor:
    """The weights `[R, C]` in fp32 that int8 rows and their scales stand for."""
    return stored_RC.to(torch.float32) * scale_R[:, None]


def are_scales(scales: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Whether each number, of any shape, can be a scale: above 0, and finite times every int8."""
    result: NDArray[np.bool_] = (scales > 0) & (scales <= np.float32(_FP32.max / 128))  # type: ignore[operator]
    return result
