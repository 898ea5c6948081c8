"""Our networks against the published ones at toy size: every tensor of the fixtures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from alis import ops
from alis.plane import coords
from tests.alis import fixture
from tests.alis.fixture import Reference
from tests.alis.models.spec import coordinates, window_shares

FULL, HALF = 1e-4, 3e-2


@pytest.fixture(scope="module", params=["alis-64", "alis-64-half"])
def reference(request: pytest.FixtureRequest, shared: Path) -> Reference:
    found = fixture.read(shared / "fixtures" / request.param)
    assert found.config.num_half_res == (2 if "half" in request.param else 0)
    return found


def limit(reference: Reference) -> float:
    """The half fixture was made in float16."""
    return HALF if reference.config.num_half_res else FULL


def agree(found: Tensor, wanted: Tensor, tolerance: float) -> None:
    assert found.shape == wanted.shape
    error = (found - wanted).abs().max() / wanted.abs().max()
    assert error <= tolerance, f"{float(error):.1e} relative"


def test_mapping_and_truncation(reference: Reference) -> None:
    g, io = reference.generator, reference.io
    agree(g.map(io["z"]), io["w"], FULL)
    agree(g.map(io["z"], psi=0.7), io["w_psi_0.7"], FULL)


@pytest.mark.parametrize("noise", ["none", "const"])
def test_every_shift(reference: Reference, noise: str) -> None:
    shift = torch.tensor(reference.shifts)
    left, centre, right = (reference.io["w"][k].expand(len(shift), -1) for k in range(3))
    with torch.no_grad():
        agree(
            reference.generator(left, centre, right, shift, noise=noise),
            reference.io[f"frames_noise_{noise}"],
            limit(reference),
        )


def test_one_code_for_each_layer(reference: Reference) -> None:
    codes = [reference.io[f"wplus_{anchor}"] for anchor in ("left", "center", "right")]
    with torch.no_grad():
        agree(reference.generator(*codes, 1), reference.io["frame_wplus_shift_1"], limit(reference))


def test_walk_of_a_panorama(reference: Reference) -> None:
    g, wanted = reference.generator, reference.io["panorama"]
    frames = []
    with torch.no_grad():
        w = g.map(reference.io["panorama_z"])
        for left in range(0, len(w) - 2, 2):
            for shift in range(0, g.config.max_shift + 1, g.config.grid_size):
                frames.append(g(w[left : left + 1], w[left + 1 : left + 2], w[left + 2 : left + 3], shift))
    agree(torch.cat(frames, dim=3), wanted, limit(reference))


def test_discriminator_and_its_gradient(reference: Reference) -> None:
    images = reference.io["d_img"].clone().requires_grad_()
    logits = reference.discriminator(images)
    agree(logits.detach(), reference.io["d_logits"], limit(reference))
    (slope,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    penalty = slope.square().sum(dim=(1, 2, 3))
    agree(penalty.detach(), reference.io["r1_penalty"], limit(reference))
    penalty.sum().backward()
    assert all(p.grad is not None for p in reference.discriminator.parameters() if p.ndim > 1)
    reference.discriminator.zero_grad()


def test_path_lengths(reference: Reference) -> None:
    g, w = reference.generator, reference.io["w"]
    centre = w[0:4, None].repeat(1, g.num_ws, 1).requires_grad_()
    images = g(w[[4, 5, 0, 1]], centre, w[[5, 4, 1, 0]], torch.tensor([0, 1, 1, 0]))
    (slope,) = torch.autograd.grad((images * reference.io["pl_noise"]).sum(), centre, create_graph=True)
    lengths = slope.square().sum(dim=2).mean(dim=1).sqrt()
    agree(lengths.detach(), reference.io["pl_lengths"], limit(reference))
    lengths.sum().backward()
    assert g.synthesis.b4.column.grad is not None
    g.zero_grad()


def test_resampling_and_alignment(reference: Reference) -> None:
    io = reference.io
    agree(ops.up2(io["resample_in"]), io["resample_up2"], FULL)
    agree(ops.down2(io["resample_in"]), io["resample_down2"], FULL)
    column = io["sa_shift"][:, None] * 4 + torch.arange(8)
    agree(ops.align(io["resample_in"], io["sa_styles"], window_shares(column, 16)), io["sa_out"], FULL)


@pytest.mark.parametrize("width", [4, 16, 64])
def test_coordinates_and_bases(reference: Reference, width: int) -> None:
    io = reference.io
    agree(coordinates(reference.config, width, io["sa_shift"]), io[f"coords_{width}"], FULL)
    agree(torch.tensor(coords.basis(width, limit=512)), io[f"basis_{width}"], FULL)
