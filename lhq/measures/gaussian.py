"""Features → Gaussian → log-likelihood, all in float64 and streamed: no feature is kept longer than its batch.

With few samples the covariance is shrunk towards a multiple of the identity by the oracle-approximating rule:
unlike Ledoit and Wolf's it needs nothing but the covariance, so one pass suffices.
Source: Chan, Golub, LeVeque 1983 (merging of moments); Chen, Wiesel, Eldar, Hero 2010, eq. 23 (OAS).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lhq.errors import InputError

Doubles = npt.NDArray[np.float64]


class Moments:
    """Count, mean and covariance of all rows added so far."""

    def __init__(self, num_features: int) -> None:
        self.num = 0
        self.mean_D: Doubles = np.zeros(num_features)
        self._scatter_DD: Doubles = np.zeros((num_features, num_features))

    def add(self, features_BD: npt.NDArray[np.floating]) -> None:
        """Take a batch of rows in; all finite."""
        num = len(features_BD)
        if not num:
            return
        batch_BD = np.asarray(features_BD, np.float64)
        mean_D = batch_BD.mean(0)
        centred_BD = batch_BD - mean_D
        step_D = mean_D - self.mean_D
        total = self.num + num
        self._scatter_DD += centred_BD.T @ centred_BD
        self._scatter_DD += np.outer(step_D, step_D) * (self.num * num / total)
        self.mean_D = self.mean_D + step_D * (num / total)
        self.num = total

    def covariance(self) -> Doubles:
        """The maximum-likelihood estimate (divided by the count), [D, D]."""
        return self._scatter_DD / max(1, self.num)


def oas_shrinkage(covariance_DD: Doubles, num: int) -> float:
    """How far to shrink towards the identity, 0..1, for a covariance estimated from `num` rows."""
    size = len(covariance_DD)
    of_square = float((covariance_DD**2).sum())
    trace = float(np.trace(covariance_DD))
    below = (num + 1 - 2 / size) * (of_square - trace**2 / size)
    return 1.0 if below <= 0 else min(1.0, ((1 - 2 / size) * of_square + trace**2) / below)


@dataclass(frozen=True)
class Gaussian:
    """A fitted Gaussian. `whiten_DD` is the inverse of the covariance's lower Cholesky factor."""

    mean_D: Doubles
    whiten_DD: Doubles
    half_log_det: float
    num: int
    shrinkage: float

    @classmethod
    def fit(cls, moments: Moments, shrinkage: float | None = None) -> Gaussian:
        """The Gaussian of these moments; `shrinkage` None: by `oas_shrinkage`.

        Raises:
            InputError: fewer than two rows, or rows without any spread.
        """
        if moments.num < 2:
            raise InputError(f"a Gaussian can't be fitted to {moments.num} photos", hint="trust more photos")
        covariance_DD = moments.covariance()
        size = len(covariance_DD)
        scale = float(np.trace(covariance_DD)) / size
        rho = oas_shrinkage(covariance_DD, moments.num) if shrinkage is None else shrinkage
        shrunk_DD = (1 - rho) * covariance_DD
        shrunk_DD[np.diag_indices(size)] += rho * scale
        try:
            factor_DD = np.linalg.cholesky(shrunk_DD)
        except np.linalg.LinAlgError:
            raise InputError(
                f"the covariance of {moments.num} photos' {size} features is singular at shrinkage {rho:g}",
                hint="trust more photos, or leave shrinkage to the rule",
            ) from None
        whiten_DD = np.linalg.solve(factor_DD, np.eye(size))
        return cls(moments.mean_D, np.tril(whiten_DD), float(np.log(np.diag(factor_DD)).sum()), moments.num, rho)

    def log_likelihood(self, features_BD: npt.NDArray[np.floating]) -> Doubles:
        """Natural log of the density at each row, [B]; NaN where a feature is not finite."""
        away_BD = np.asarray(features_BD, np.float64) - self.mean_D
        finite_B = np.isfinite(away_BD).all(axis=1)
        white_BD = np.where(np.isfinite(away_BD), away_BD, 0) @ self.whiten_DD.T
        values = -0.5 * (white_BD**2).sum(1) - self.half_log_det - 0.5 * len(self.mean_D) * np.log(2 * np.pi)
        return np.where(finite_B, values, np.nan)

    def fingerprint(self) -> str:
        """Ten hex digits that name this fit."""
        digest = hashlib.sha256(self.mean_D.tobytes())
        digest.update(self.whiten_DD.tobytes())
        return digest.hexdigest()[:10]
