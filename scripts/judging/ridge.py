"""Ridge regression of many labels on the same samples at once: the plainest linear score there is.

Sums over samples are gathered piece by piece (`add`), so that no piece of the data needs to stay; one triangular
factor then serves every label. Samples and labels are centred, so there is no constant to penalise.
Knows arrays only.

Shapes: S samples, D features, N labels.
"""

import torch


class Moments:
    """Sums over samples: all that ridge regression needs to know of them."""

    def __init__(self, features: int, labels: int) -> None:
        self.count = 0
        self.sum_D = torch.zeros(features, dtype=torch.float64)
        self.sum_N = torch.zeros(labels, dtype=torch.float64)
        self.gram_DD = torch.zeros(features, features)
        self.cross_DN = torch.zeros(features, labels)

    def add(self, features_SD: torch.Tensor, labels_SN: torch.Tensor) -> None:
        """Take some samples in."""
        labels_SN = labels_SN.to(torch.float32)
        self.count += len(features_SD)
        self.sum_D += features_SD.sum(dim=0, dtype=torch.float64)
        self.sum_N += labels_SN.sum(dim=0, dtype=torch.float64)
        self.gram_DD += features_SD.T @ features_SD
        self.cross_DN += features_SD.T @ labels_SN

    def solve(self, penalty: float) -> torch.Tensor:
        """Weights [D, N]; the penalty is in units of the mean variance of a feature times the number of samples."""
        mean_D = (self.sum_D / self.count).float()
        gram_DD = self.gram_DD - self.count * torch.outer(mean_D, mean_D)
        cross_DN = self.cross_DN - torch.outer(mean_D, self.sum_N.float())
        gram_DD.diagonal().add_(penalty * gram_DD.diagonal().mean().clamp(min=1e-12))
        return torch.cholesky_solve(cross_DN, torch.linalg.cholesky(gram_DD))
