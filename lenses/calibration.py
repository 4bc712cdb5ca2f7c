"""From logits to probabilities that can be ranked together.

Platt scaling, `p = sigmoid(slope * logit + offset)`, fitted for every lens on scores as served and weighted so that
both classes count one half. So a probability says how the evidence stands where the concept is present as often as
not, for every lens alike, and lenses of rare and of common concepts can be thresholded together.

Source of the method: Platt, "Probabilistic outputs for support vector machines" (1999), with its smoothed targets.
Shapes: S samples, N lenses.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def log_odds(logit: Floats, slope: Floats, offset: Floats) -> Floats:
    """The calibrated log-odds in fp32: what concepts are ranked by, since probabilities near 1 all look alike."""
    return np.add(np.multiply(logit, slope, dtype=np.float32), offset, dtype=np.float32)


def probability(logit: Floats, slope: Floats, offset: Floats) -> Floats:
    """The calibrated probability in fp32 at a class prior of 1/2."""
    return sigmoid(log_odds(logit, slope, offset))


def sigmoid(log_odds: Floats) -> Floats:
    """1 / (1 + exp(-x)) in fp32, without overflow at either end."""
    small = np.exp(-np.abs(log_odds, dtype=np.float32), dtype=np.float32)
    return np.where(log_odds >= 0, 1 / (1 + small), small / (1 + small)).astype(np.float32)


def threshold_log_odds(threshold: float) -> np.float32:
    """The log-odds at which a probability reaches `threshold`; -inf at 0, +inf at 1."""
    with np.errstate(divide="ignore"):
        return np.float32(np.log(np.float64(threshold)) - np.log1p(-np.float64(threshold)))


def fit_platt(
    logits_SN: Floats,
    positive_SN: NDArray[np.bool_],
    weight_SN: Floats,
    *,
    iterations: int = 50,
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Fit slope and offset `[N]` of every lens at once by Newton's method; also says which lenses are calibrated.

    `weight_SN` is the weight of a sample for a lens, 0 where it is neither positive nor negative; within each lens
    the two classes are rescaled to one half each. A lens without a sample of both classes, or whose slope comes out
    not positive, stays uncalibrated (slope 1, offset 0).
    """
    logits = logits_SN.astype(np.float64)
    weight = weight_SN.astype(np.float64)
    n_positive = (weight_SN * positive_SN > 0).sum(axis=0)
    n_negative = (weight_SN * ~positive_SN > 0).sum(axis=0)
    able = (n_positive > 0) & (n_negative > 0)
    mass_positive = np.where(able, (weight * positive_SN).sum(axis=0), 1.0)
    mass_negative = np.where(able, (weight * ~positive_SN).sum(axis=0), 1.0)
    weight = np.where(positive_SN, weight / (2 * mass_positive), weight / (2 * mass_negative))
    target = np.where(positive_SN, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))

    # Standardised logits keep the 2x2 Newton systems well conditioned whatever a lens's scale is.
    centre = logits.mean(axis=0)
    scale = np.maximum(logits.std(axis=0), 1e-6)
    z = (logits - centre) / scale
    slope, offset = np.zeros(z.shape[1]), np.zeros(z.shape[1])
    for _ in range(iterations):
        p = 1 / (1 + np.exp(-np.clip(slope * z + offset, -40, 40)))
        gradient = weight * (p - target)
        curvature = weight * np.maximum(p * (1 - p), 1e-9)
        g1, g0 = (gradient * z).sum(axis=0) + 1e-6 * slope, gradient.sum(axis=0)
        h11 = (curvature * z * z).sum(axis=0) + 1e-6
        h10, h00 = (curvature * z).sum(axis=0), curvature.sum(axis=0) + 1e-9
        determinant = np.maximum(h11 * h00 - h10 * h10, 1e-12)
        step1 = (h00 * g1 - h10 * g0) / determinant
        step0 = (h11 * g0 - h10 * g1) / determinant
        shrink = np.minimum(1.0, 4.0 / np.maximum(np.hypot(step1, step0), 1e-12))
        slope, offset = slope - shrink * step1, offset - shrink * step0
        if np.abs(np.stack([step1, step0])).max() < 1e-7:
            break
    calibrated = able & (slope > 0)
    return (
        np.where(calibrated, slope / scale, 1.0).astype(np.float32),
        np.where(calibrated, offset - slope * centre / scale, 0.0).astype(np.float32),
        calibrated,
    )


def fit_platt_in_parts(
    logits_SN: Floats, positive_SN: NDArray[np.bool_], lenses: int = 64
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """`fit_platt` for a few lenses at a time: all at once would take gigabytes."""
    parts = []
    for start in range(0, logits_SN.shape[1], lenses):
        some = slice(start, start + lenses)
        weight = np.ones_like(logits_SN[:, some])
        parts.append(fit_platt(logits_SN[:, some], positive_SN[:, some], weight))
    slope, offset, calibrated = (np.concatenate(column) for column in zip(*parts, strict=True))
    return slope, offset, calibrated
