"""Published checkpoints: what is read from them, and that nothing in them is executed."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import subprocess
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

import alis
from alis.config import ModelConfig
from alis.errors import InputError, UnsafePickle
from alis.import_published import _filled, convert, networks
from alis.import_published.pickles import InertCall, read
from tests.alis import fixture
from tests.alis.import_published.pickles import (
    ATTACKS,
    CANARY,
    persistent,
    text,
)

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")


@pytest.mark.parametrize("name", ["alis-64", "alis-64-half"])
def test_fixture_gives_the_published_networks(shared: Path, tmp_path: Path, name: str) -> None:
    folder = shared / "fixtures" / name
    reference = fixture.read(folder)
    assert convert(folder / "snapshot.pkl", tmp_path / "model") == reference.config
    generator, discriminator = alis.load(tmp_path / "model"), alis.load_discriminator(tmp_path / "model")
    for ours, theirs in ((generator, reference.generator), (discriminator, reference.discriminator)):
        wanted = theirs.state_dict()
        assert ours.state_dict().keys() == wanted.keys()
        assert all(torch.equal(value, wanted[key]) for key, value in ours.state_dict().items())
    io_ = reference.io
    if reference.config.num_half_res:
        generator.set_precision(torch.float16)
    left, centre, right = (generator.map(io_["z"])[k].expand(len(reference.shifts), -1) for k in range(3))
    frames = generator(left, centre, right, torch.tensor(reference.shifts), noise="const")
    error = (frames - io_["frames_noise_const"]).abs().max() / io_["frames_noise_const"].abs().max()
    assert error < (3e-2 if reference.config.num_half_res else 1e-4)
    assert (tmp_path / "model" / "generator.safetensors").is_file()
    with pytest.raises(InputError, match="already has a model"):
        convert(folder / "snapshot.pkl", tmp_path / "model")


def test_command_imports(shared: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "alis", "import-published", str(shared / "fixtures/alis-64/snapshot.pkl"), "model"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "model\n"), done.stderr
    assert alis.load(tmp_path / "model").config.resolution == 64


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda name: name)
def test_attacks_are_refused_by_name(attack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data, word = ATTACKS[attack]
    (tmp_path / "evil.pkl").write_bytes(data)
    with pytest.raises(UnsafePickle) as caught:
        convert("evil.pkl", "out")
    assert word in caught.value.message
    assert not (tmp_path / CANARY).exists()
    assert not (tmp_path / "out").exists()


def test_the_attacks_are_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The canary file is created if such a file is opened in the usual way."""
    monkeypatch.chdir(tmp_path)
    for name in ("os.system", "eval", "inst", "obj", "nested in the network", "hidden before the value"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, "torch_utils", _module("torch_utils"))
            patch.setitem(sys.modules, "torch_utils.persistence", _module("p", _reconstruct_persistent_obj=dict))
            pickle.loads(ATTACKS[name][0])
        assert (tmp_path / CANARY).exists(), name
        (tmp_path / CANARY).unlink()


def _module(name: str, **members: object) -> object:
    module = types.ModuleType(name)
    module.__dict__.update(members)
    return module


# Small files that try to exhaust time or memory: each must be refused quickly and in little memory.
BOMBS: dict[str, Callable[[], bytes]] = {
    "bytes of 2**62": lambda: b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.",
    "text of 4 GB": lambda: b"X" + struct.pack("<I", 2**32 - 1) + b"x.",
    "memo of 2**31": lambda: b"}r" + struct.pack("<I", 2**31 - 1) + b"0.",
    "long of 2 GB": lambda: b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"x.",
    "int of many digits": lambda: b"L" + b"9" * 100_000 + b"L\n.",
    "nested tuples": lambda: b")" + b"\x85" * 300_000 + b".",
    "nested lists": lambda: b"]" * 200_000 + b"a" * 199_999 + b".",
    "lists that double": lambda: b"]" + b"(" + b"2" * 3 + b"e" + b"(22e" * 60 + b".",
    "no end": lambda: b"}" * 10,
    "marks only": lambda: b"(" * 100_000 + b".",
    "empty": lambda: b"",
    "a dict that contains itself": lambda: b"}q\x00" + text("G_ema") + b"h\x00s.",
}


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda name: name)
def test_bombs_are_refused(bomb: str, tmp_path: Path) -> None:
    (tmp_path / "bomb.pkl").write_bytes(BOMBS[bomb]())
    with pytest.raises((UnsafePickle, InputError)):
        convert(tmp_path / "bomb.pkl", tmp_path / "out")


def test_bombs_take_no_memory(tmp_path: Path) -> None:
    """All of them in one process, with 1 GB of address space beyond what the imports take."""
    code = """
import resource, sys
from tests.alis.import_published.test_import_published import BOMBS, convert
from alis.errors import AlisError
pages = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (pages + 2**30, pages + 2**30))
for name, bomb in BOMBS.items():
    open("bomb.pkl", "wb").write(bomb())
    try:
        convert("bomb.pkl", "out")
        sys.exit(name + " was read")
    except AlisError:
        pass
print("refused", len(BOMBS))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout == f"refused {len(BOMBS)}\n", done.stderr


def test_a_network_that_contains_itself_is_refused(tmp_path: Path) -> None:
    inner = persistent(b"}" + text("state") + b"}q\x01" + text("_modules") + b"}q\x02ss")
    # By the memo, the network is one of its own modules.
    data = b"}" + text("G_ema") + inner + b"q\x03h\x02" + text("me") + b"h\x03s0s."
    (tmp_path / "loop.pkl").write_bytes(data)
    with pytest.raises(UnsafePickle, match="contains itself"):
        convert(tmp_path / "loop.pkl", tmp_path / "out")


def test_damaged_and_foreign_files_are_errors(shared: Path, tmp_path: Path) -> None:
    whole = (shared / "fixtures/alis-64/snapshot.pkl").read_bytes()
    for size in (0, 1, 100, len(whole) // 3, len(whole) - 1):
        (tmp_path / "cut.pkl").write_bytes(whole[:size])
        with pytest.raises(UnsafePickle):
            convert(tmp_path / "cut.pkl", tmp_path / "out")
    with pytest.raises(InputError, match="can't be read"):
        convert(tmp_path / "missing.pkl", tmp_path / "out")
    (tmp_path / "other.pkl").write_bytes(pickle.dumps({"generator": 1}))
    with pytest.raises(InputError, match="has no G_ema"):
        convert(tmp_path / "other.pkl", tmp_path / "out")


def test_other_formats_are_refused_by_name(tmp_path: Path) -> None:
    out = io.BytesIO()
    torch.save({"G_ema": torch.zeros(2)}, out)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("snapshot.pkl", b"N.")
    files = {
        "a file of torch.save (a zip of a pickle and its tensors)": out.getvalue(),
        "a zip archive": packed.getvalue(),
        "compressed by gzip": gzip.compress(b"N."),
        "safetensors": safetensors.torch.save({"a": torch.zeros(2)}),
    }
    for said, data in files.items():
        (tmp_path / "x.pkl").write_bytes(data)
        with pytest.raises(InputError) as caught:
            convert(tmp_path / "x.pkl", tmp_path / "out")
        assert f"x.pkl: is {said}" in caught.value.message
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda t: t.fill_(float("nan")), "has NaN or infinity"),
        (lambda t: t.fill_(float("-inf")), "has NaN or infinity"),
        (lambda t: t.to(torch.int64), "torch.int64, not weights"),
    ],
)
def test_invalid_published_weights_are_refused(spoil: object, said: str) -> None:
    config = ModelConfig(resolution=16, channel_base=128, channel_max=8, z_dim=8, w_dim=8)
    weights = {name: value.clone() for name, value in alis.Generator(config).state_dict().items()}
    weights["mapping.fc0.weight"] = spoil(weights["mapping.fc0.weight"])  # type: ignore[operator]
    with pytest.raises(InputError, match=rf"mapping.fc0.weight .*{said}"):
        _filled(alis.Generator, config, networks.convert_weights(weights, config, "t"), "t")


def test_variants_of_the_method_are_refused(shared: Path, tmp_path: Path) -> None:
    whole = (shared / "fixtures/alis-64/snapshot.pkl").read_bytes()
    assert b"skip" in whole
    (tmp_path / "variant.pkl").write_bytes(whole.replace(b"skip", b"orig"))
    with pytest.raises(InputError, match="architecture"):
        convert(tmp_path / "variant.pkl", tmp_path / "out")


def test_every_setting_of_research_variants_is_checked(shared: Path) -> None:
    described = read(io.BytesIO((shared / "fixtures/alis-64/snapshot.pkl").read_bytes()), "t")
    assert isinstance(described, dict)
    for setting, wanted in networks.FIXED.items():
        node = dict(networks.modules(described["G_ema"], "t"))["synthesis.b4.conv1"]["cfg"]
        for key in setting.split("."):
            assert isinstance(node, InertCall)
            assert isinstance(node.state, dict)
            node = node.state["_content"][key]
        assert isinstance(node, InertCall)
        assert isinstance(node.state, dict)
        assert node.state["_val"] == wanted
        node.state["_val"] = "other"
        with pytest.raises(InputError, match=setting):
            networks.config_of(described["G_ema"], described["D"], "t")
        node.state["_val"] = wanted
    networks.config_of(described["G_ema"], described["D"], "t")
