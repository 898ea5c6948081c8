"""Two sets of features → Fréchet distance, kernel distance (KID), precision and recall."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from alis.errors import InputError


def frechet_distance(mean_a: np.ndarray, cov_a: np.ndarray, mean_b: np.ndarray, cov_b: np.ndarray) -> float:
    """Squared Fréchet distance of two Gaussians: |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2·(Σ₁Σ₂)^½), in float64.

    tr((Σ₁Σ₂)^½) is computed from the eigenvalues of Σ₁^½ Σ₂ Σ₁^½. That is symmetric, so there are no complex or
    ill-conditioned results if there are fewer images than features. Source: arXiv 1706.08500, equation 6.
    """
    root_a = _root(cov_a)
    middle = root_a @ cov_b @ root_a
    values = np.linalg.eigvalsh((middle + middle.T) / 2)
    trace = np.sqrt(np.clip(values, 0, None)).sum()
    return float(np.square(mean_a - mean_b).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * trace)


def _root(covariance: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    root: np.ndarray = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    return root


SUBSET = 1000


def kernel_distance(
    real_NF: Tensor, fake_MF: Tensor, *, num_subsets: int = 100, size: int = SUBSET, seed: int = 0
) -> float:
    """Kernel distance: unbiased squared MMD with (x·y/F + 1)³, mean over random subsets. Source: arXiv 1801.01401.

    Raises:
        InputError: fewer than two rows.
    """
    size = min(size, len(real_NF), len(fake_MF))
    if size < 2:
        raise InputError(
            f"{len(real_NF)} and {len(fake_MF)} images are too few for the kernel distance",
            hint="measure on at least two",
        )
    draw, width, total = np.random.default_rng(seed), real_NF.shape[1], 0.0
    for _ in range(num_subsets):
        x = real_NF[torch.from_numpy(draw.choice(len(real_NF), size, replace=False))].double()
        y = fake_MF[torch.from_numpy(draw.choice(len(fake_MF), size, replace=False))].double()
        within = (x @ x.T / width + 1) ** 3, (y @ y.T / width + 1) ** 3
        own = sum(float(k.sum() - k.diagonal().sum()) for k in within) / (size * (size - 1))
        total += own - 2 * float(((x @ y.T / width + 1) ** 3).mean())
    return total / num_subsets


def precision_recall(real_NF: Tensor, fake_MF: Tensor, *, neighbours: int = 3, rows: int = 1024) -> tuple[float, float]:
    """(share of fakes in the manifold of reals, share of reals in the manifold of fakes). Source: arXiv 1904.06991.

    A manifold is the union of balls around all points, each with its k-th neighbour's distance as radius. Features may
    be far from the origin, as pooled ones are, so they are centred first and distances are float64: in float32,
    |x|² + |y|² − 2x·y for points of norm 10⁴ and distance 1 has no correct digit.

    Raises:
        InputError: no more pictures than neighbours.
    """
    centre = real_NF.double().mean(dim=0)
    real, fake = real_NF.double() - centre, fake_MF.double() - centre
    return _share(real, fake, neighbours, rows), _share(fake, real, neighbours, rows)


def _squared_distances(a_NF: Tensor, b_MF: Tensor) -> Tensor:
    """Squared distances [N, M] by one matrix product; rounding errors of equal points are set to 0."""
    norms = a_NF.square().sum(dim=1)[:, None] + b_MF.square().sum(dim=1)
    found = torch.addmm(norms, a_NF, b_MF.T, alpha=-2)
    return torch.where(found < norms * 1e-12, 0.0, found)


def _share(manifold_NF: Tensor, probes_MF: Tensor, neighbours: int, rows: int) -> float:
    if len(manifold_NF) <= neighbours:
        raise InputError(f"a manifold of {len(manifold_NF)} images", hint=f"measure on more than {neighbours}")
    found = [_squared_distances(part, manifold_NF).kthvalue(neighbours + 1, dim=1) for part in manifold_NF.split(rows)]
    radius = torch.cat([part.values for part in found])
    inside = [(_squared_distances(part, manifold_NF) <= radius).any(dim=1) for part in probes_MF.split(rows)]
    return float(torch.cat(inside).float().mean())
