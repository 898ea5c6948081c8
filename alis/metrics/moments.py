"""Features → mean and covariance, streamed in float64 and summed over processes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from alis import dist
from alis.errors import DataError


class Moments:
    """Running mean and covariance of features [B, F]; needs memory for F² numbers, whatever the number of rows.

    The first batch's mean is subtracted before squaring, so that a large common offset does not cost precision.
    """

    def __init__(self) -> None:
        self.num = 0
        self._shift: Tensor | None = None
        self._sum = torch.zeros(0, dtype=torch.float64)
        self._outer = torch.zeros(0, 0, dtype=torch.float64)

    def add(self, features_BF: Tensor) -> None:
        """Add rows of any float type, on any device."""
        rows = features_BF.detach().to("cpu", torch.float64)
        if self._shift is None:
            self._shift = rows.mean(dim=0)
            self._sum = torch.zeros_like(self._shift)
            self._outer = torch.zeros(len(self._shift), len(self._shift), dtype=torch.float64)
        rows = rows - self._shift
        self.num += len(rows)
        self._sum += rows.sum(dim=0)
        self._outer += rows.T @ rows

    def finish(self, num_features: int, device: torch.device | None = None) -> tuple[np.ndarray, np.ndarray, int]:
        """(mean [F], covariance [F, F] with N − 1, number of rows) over all processes.

        Raises:
            DataError: fewer than two rows.
        """
        if dist.world_size() > 1:
            self._gather(num_features, device or torch.device("cpu"))
        if self.num < 2 or self._shift is None:
            raise DataError(f"{self.num} images are too few for a covariance", hint="measure on at least two")
        mean = self._sum / self.num
        covariance = (self._outer - self.num * torch.outer(mean, mean)) / (self.num - 1)
        return (mean + self._shift).numpy(), covariance.numpy(), self.num

    def _gather(self, num_features: int, device: torch.device) -> None:
        """Re-centre the sums of all processes on process 0's shift and add them up."""
        own = self._shift if self._shift is not None else torch.zeros(num_features, dtype=torch.float64)
        common = own.clone().to(device)
        dist.broadcast([common])
        if self._shift is None:
            self._sum, self._outer = own * 0, torch.outer(own * 0, own * 0)
        move = own - common.cpu()
        outer = self._outer + torch.outer(self._sum, move) + torch.outer(move, self._sum)
        outer = outer + self.num * torch.outer(move, move)
        total = self._sum + self.num * move
        number = dist.all_reduce_sum_(torch.tensor([float(self.num)], dtype=torch.float64, device=device))
        self._outer, self._sum = (
            dist.all_reduce_sum_(outer.to(device)).cpu(),
            dist.all_reduce_sum_(total.to(device)).cpu(),
        )
        self._shift, self.num = common.cpu(), int(number.item())
