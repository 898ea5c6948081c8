"""10,000 codes → k cluster centres: k-means in w, for truncation towards the nearest cluster instead of the mean.

Saved beside the model as `clusters.safetensors` (`centres` [K, S], `shares` [K]; in its metadata the checksum of that
model, where it was saved by this version). Lloyd's algorithm, initialised by
k-means++, on the model's device; the same seed gives the same centres.
Source: arXiv 2104.06954, section 5 (clustered sampling); k-means++: Arthur and Vassilvitskii, SODA 2007.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from alis import formats, tensor_file
from alis.config import ModelConfig
from alis.errors import InputError
from alis.models import Generator, model_folder
from alis.progress import progress_bar

NAME = model_folder.CLUSTERS
_ROUNDS, _BATCH = 100, 1024


@dataclass(frozen=True)
class Clusters:
    """Cluster centres [K, S], largest cluster first, and the share of codes in each [K].

    `spread` is the mean distance of a code from its centre.
    """

    centres_KS: Tensor
    shares_K: Tensor
    spread: float


@torch.inference_mode()
def compute(g: Generator, *, num_clusters: int = 16, num_samples: int = 10_000, seed: int = 0) -> Clusters:
    """Cluster the codes of random scenes.

    Raises:
        InputError: fewer samples than clusters, or no cluster.
    """
    if num_clusters < 1 or num_samples < num_clusters:
        raise InputError(
            f"{num_clusters} clusters of {num_samples} samples", hint="ask for at least 1 cluster and as many samples"
        )
    random = torch.Generator().manual_seed(seed)
    z_NZ = torch.randn(num_samples, g.config.z_dim, generator=random)
    w_NS = torch.cat([g.map(z_BZ.to(g.device)) for z_BZ in torch.split(z_NZ, _BATCH)])
    centres_KS = _first_centres(w_NS, num_clusters, random)
    nearest_N = torch.full([num_samples], -1, device=g.device)
    with progress_bar("k-means", _ROUNDS) as advance:
        for _ in range(_ROUNDS):
            before_N, nearest_N = nearest_N, torch.cdist(w_NS, centres_KS).argmin(dim=1)
            if torch.equal(before_N, nearest_N):
                break
            sums_KS = torch.zeros_like(centres_KS).index_add_(0, nearest_N, w_NS)
            counts_K = nearest_N.bincount(minlength=num_clusters)
            is_used_K = counts_K > 0
            centres_KS[is_used_K] = sums_KS[is_used_K] / counts_K[is_used_K, None]
            advance(1)
    counts_K = nearest_N.bincount(minlength=num_clusters)
    order_K = counts_K.argsort(descending=True, stable=True)
    spread = torch.cdist(w_NS, centres_KS).amin(dim=1).mean()
    return Clusters(centres_KS[order_K].cpu(), (counts_K[order_K] / num_samples).cpu(), float(spread))


def _first_centres(w_NS: Tensor, num_clusters: int, random: torch.Generator) -> Tensor:
    """k-means++: each next centre is a code drawn in proportion to its squared distance from those chosen."""
    chosen = [int(torch.randint(len(w_NS), [1], generator=random))]
    distance_N = (w_NS - w_NS[chosen[0]]).square().sum(dim=1)
    for _ in range(num_clusters - 1):
        weights_N = distance_N.double().cpu()
        # All codes may be equal (a collapsed mapping); then any will do.
        weights_N = weights_N if bool(weights_N.sum() > 0) else torch.ones_like(weights_N)
        chosen.append(int(torch.multinomial(weights_N, 1, generator=random)))
        distance_N = torch.minimum(distance_N, (w_NS - w_NS[chosen[-1]]).square().sum(dim=1))
    return w_NS[chosen].clone()


def save(model: str | Path, clusters: Clusters) -> Path:
    """Save clusters beside the model and return the file's path.

    Raises:
        InputError: the folder can't be written, or is the demo model's, which belongs to the package.
    """
    path = check(model)
    part = path.with_name(f"{NAME}.part")
    try:
        about = {"model": tensor_file.stored_checksum(path.with_name(model_folder.MODEL))}
        tensor_file.save({"centres": clusters.centres_KS, "shares": clusters.shares_K.float()}, part, about)
        os.replace(part, path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: can't be written ({error})", hint="make the model's folder writable") from None
    return path


def check(model: str | Path) -> Path:
    """The path that a model's clusters are saved to.

    Raises:
        InputError: the folder can't be written, or is the demo model's, which belongs to the package.
    """
    if model == model_folder.DEMO_WORD:
        raise InputError("demo: its clusters come with the package", hint=f"copy {model_folder.DEMO} and name the copy")
    path = model_folder.find(model) / NAME
    formats.check_writable(path)
    return path


def find(model: str | Path, config: ModelConfig) -> Tensor | None:
    """The cluster centres [K, S] saved beside a model, or None if there are none yet.

    Raises:
        InputError: the file is damaged or of another model.
    """
    path = model_folder.find(model) / NAME
    if not path.exists():
        return None
    try:
        tensors, about = tensor_file.load(path)
        centres_KS, own = tensors["centres"], tensor_file.stored_checksum(path.with_name(model_folder.MODEL))
    except (OSError, SafetensorError, KeyError) as error:
        raise InputError(f"{path}: can't be read ({error})", hint="remove it and run alis clusters again") from None
    if about.get("model", own) != own:
        raise InputError(f"{path}: belongs to another model", hint="remove it and run alis clusters again")
    if centres_KS.ndim != 2 or not len(centres_KS) or centres_KS.shape[1] != config.w_dim:
        raise InputError(f"{path}: belongs to another model", hint="remove it and run alis clusters again")
    if not centres_KS.is_floating_point() or not bool(torch.isfinite(centres_KS).all()):
        raise InputError(f"{path}: holds centres that are not finite", hint="remove it and run alis clusters again")
    return centres_KS
