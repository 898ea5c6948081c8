"""An anchor's source → its code w: drawn at random (with truncation, or from one cluster), or saved under a name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from alis.errors import InputError
from alis.models import Generator
from alis.plane.anchors import Draw, SavedCode, Source, draw_z

_ATTEMPTS, _ROUNDS = 32, 8


class AnchorCodes:
    """The code w of each anchor's source, cached.

    Each code is mapped in a batch of its own, so its bits never depend on which other codes are computed with it.
    """

    def __init__(self, g: Generator, saved: Mapping[str, Tensor], centres_KS: Tensor | None) -> None:
        self.g, self.saved, self.centres_KS = g, dict(saved), centres_KS
        self.drawn = lru_cache(maxsize=1024)(self._drawn)

    def code(self, source: Source, psi: float, cluster: int | str | None) -> Tensor:
        """The code [S] or, for a saved W+ code, [num_ws, S].

        Args:
            psi: truncation of drawn codes.
            cluster: None, "nearest" or a number, as in `alis.plane.anchors.Sketch`.
        """
        if isinstance(source, Draw):
            return self.drawn(source, psi, cluster)
        return self.saved[source.name]

    # Callers may differentiate with respect to these codes, so they must not be inference tensors.
    @torch.inference_mode(False)
    @torch.no_grad()
    def _drawn(self, draw: Draw, psi: float, cluster: int | str | None) -> Tensor:
        if cluster is None:
            return self.g.map(self._z(draw, 1), psi=psi)[0]
        assert self.centres_KS is not None, "the sketch was checked"
        if cluster == "nearest":
            w_S = self.g.map(self._z(draw, 1))[0]
            centre_S = self.centres_KS[(self.centres_KS - w_S).square().sum(dim=1).argmin()]
            return centre_S + psi * (w_S - centre_S)
        w_S, centre_S = self._of_cluster(draw, int(cluster)), self.centres_KS[int(cluster)]
        return centre_S + psi * (w_S - centre_S)

    def _of_cluster(self, draw: Draw, cluster: int) -> Tensor:
        """The first of a draw's codes that falls into the cluster; of 256 that do not, the nearest to its centre."""
        assert self.centres_KS is not None
        best, best_distance = None, float("inf")
        for turn in range(_ROUNDS):
            w_BS = self.g.map(self._z(draw, _ATTEMPTS, turn * _ATTEMPTS))
            distance_BK = torch.cdist(w_BS, self.centres_KS)
            inside = (distance_BK.argmin(dim=1) == cluster).nonzero()
            if len(inside):
                return w_BS[inside[0, 0]]
            nearest = int(distance_BK[:, cluster].argmin())
            if float(distance_BK[nearest, cluster]) < best_distance:
                best, best_distance = w_BS[nearest], float(distance_BK[nearest, cluster])
        assert best is not None
        return best

    def _z(self, draw: Draw, num: int, first: int = 0) -> Tensor:
        z_BZ = np.stack([draw_z(draw, self.g.config.z_dim, first + i) for i in range(num)])
        return torch.from_numpy(z_BZ).to(self.g.device)


def checked_codes(g: Generator, codes: object) -> dict[str, Tensor]:
    """Named codes as the generator takes them.

    Raises:
        InputError: not a mapping, a name that can't be part of a URL, or as `checked_code`.
    """
    if not isinstance(codes, Mapping):
        raise InputError(f"codes are {type(codes).__name__}", hint='give a mapping of names, e.g. {"beach": w}')
    return {SavedCode(name).name: checked_code(g, name, code) for name, code in codes.items()}


def checked_code(g: Generator, name: str, code: object) -> Tensor:
    """A code as the generator takes it, without gradient.

    Raises:
        InputError: no tensor of floats, of another shape, or not finite.
    """
    want = (g.config.num_ws, g.config.w_dim)
    hint = f"this model takes [{want[1]}] or {list(want)} of floats"
    if not isinstance(code, Tensor) or not code.is_floating_point():
        raise InputError(
            f"code {name} is {getattr(code, 'dtype', type(code).__name__)}, no tensor of floats", hint=hint
        )
    if code.layout != torch.strided or code.is_meta:
        raise InputError(f"code {name} is a tensor without dense data ({code.layout}, {code.device})", hint=hint)
    if tuple(code.shape) not in {want, want[1:]}:
        raise InputError(f"code {name} has shape {list(code.shape)}", hint=hint)
    code = code.detach().to(g.device, torch.float32)
    if not bool(torch.isfinite(code).all()):
        raise InputError(f"code {name} holds numbers that are not finite in float32", hint=hint)
    return code


def checked_centres(g: Generator, centres: object) -> Tensor:
    """Cluster centres checked and converted to float32 [K, S] on the generator's device.

    Raises:
        InputError: no centres, a wrong shape, or numbers that are not finite.
    """
    hint = f"give [K, {g.config.w_dim}] of floats, as alis.painting.clusters finds them"
    is_right = isinstance(centres, Tensor) and centres.is_floating_point() and centres.ndim == 2
    if not isinstance(centres, Tensor) or not is_right or not len(centres) or centres.shape[1] != g.config.w_dim:
        shape = list(centres.shape) if isinstance(centres, Tensor) else type(centres).__name__
        raise InputError(f"centres are {shape}", hint=hint)
    centres = centres.detach().to(g.device, torch.float32)
    if not bool(torch.isfinite(centres).all()):
        raise InputError("centres hold numbers that are not finite", hint=hint)
    return centres
