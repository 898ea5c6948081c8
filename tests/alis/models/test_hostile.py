"""Damaged or malicious model folders: each gives a clear error, in little memory, never a traceback."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import alis
from alis.config import ModelConfig
from alis.errors import AlisError, InputError

TINY = ModelConfig(resolution=16, channel_base=128, channel_max=8, z_dim=8, w_dim=8)
NESTED = "[" * 200_000 + "]" * 200_000
HOSTILE = {
    "w_dim": [10**9, 10**400, -1, 0, 8.5, 1e300, "8 or so", None, [8], {"w_dim": 8}, True, 16384],
    "z_dim": [10**9, None, [[8]]],
    "mapping_layers": [100_000, 0, -3, 1e300, None],
    "resolution": [17, 0, -16, 1e300, 10**400, 2048, None, {"a": {"b": {}}}, "16 px", [16]],
    "channel_base": [10**12, 1, 1e300, None],
    "channel_max": [10**9, 0, "many"],
    "grid_size": [3, 0, -2, 10**9, None, 1e300, "4"],
    "w_coord_dist": [1e300, -4, 0, 4.3, 10**400, None, "far", {}],
    "num_half_res": [99, -1, 1e300, None],
    "conv_clamp": [0, -1, "hard", [256], "256", float("inf"), float("nan")],
    "mbstd_group_size": [0, -1, None],
    "wave_limit": [0, None, -(10**30)],
    "padding": ["mirror", None, 7],
    "local_latents": [-1, 1.5, None, "all", True, "1"],
    "start": ["zero", None, 1],
    "no_such_setting": [1],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    alis.save(tmp_path / "model", alis.Generator(TINY))
    return tmp_path / "model"


def by_hand(file: Path) -> dict[str, Any]:
    """A config.json as one that is written by hand: without its checksum."""
    table: dict[str, Any] = json.loads(file.read_text())
    del table["crc32"]
    return table


def test_every_setting_has_invalid_values_in_these_tests() -> None:
    assert HOSTILE.keys() == {*ModelConfig.model_fields, "no_such_setting"}


@pytest.mark.parametrize("name", list(HOSTILE))
def test_an_invalid_setting_is_an_error(folder: Path, name: str) -> None:
    file = folder / "config.json"
    table = by_hand(file)
    for value in HOSTILE[name]:
        file.write_text(json.dumps({**table, "model": {**table["model"], name: value}}))
        with pytest.raises(AlisError) as caught:
            alis.load(folder)
        assert caught.value.exit_code == 2
        assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        '"model"',
        '{"model": null}',
        '{"model": []}',
        '{"model": {"resolution": NaN}}',
        '{"model": {"w_coord_dist": Infinity}}',
        '{"model": {}, "format": "new"}',
        '{"model": {}, "format": null}',
        '{"model": {}, "format": {}}',
        '{"model": {}, "format": 1e300}',
        '{"model": {"w_dim": ' + "9" * 5000 + "}}",
        NESTED,
        '{"model": ' + NESTED + "}",
        " " * (2 << 20),
        "\udcff",
    ],
    ids=range(18),
)
def test_an_invalid_config_is_an_error(folder: Path, text: str) -> None:
    (folder / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(AlisError):
        alis.load(folder)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda t: t.index_fill(0, torch.tensor([0]), float("nan")), "has NaN or infinity"),
        (lambda t: t.index_fill(0, torch.tensor([0]), float("inf")), "has NaN or infinity"),
        (lambda t: t.to(torch.complex64), "has type C64"),
        (lambda t: t.to(torch.int32), "has type I32"),
        (lambda t: t.to(torch.bool), "has type BOOL"),
        (lambda t: t[None], r"is \(1, 8, 8\), config.json asks for \(8, 8\)"),
        (lambda t: None, "is nothing, config.json asks for"),
    ],
)
def test_invalid_weights_are_an_error_by_name(folder: Path, spoil: object, said: str) -> None:
    file = folder / "model.safetensors"
    weights = load_file(file)
    spoiled = spoil(weights.pop("mapping.fc0.weight"))  # type: ignore[operator]
    save_file(weights if spoiled is None else {**weights, "mapping.fc0.weight": spoiled.contiguous()}, file)
    with pytest.raises(InputError, match=rf"model.safetensors: mapping.fc0.weight {said}"):
        alis.load(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_rotten_file_is_an_error_though_its_form_is_sound(folder: Path, name: str) -> None:
    file = folder / name
    if name == "config.json":
        file.write_text(file.read_text().replace('"conv_clamp": 256.0', '"conv_clamp": 216.0'))
    else:
        data = bytearray(file.read_bytes())
        data[-1] ^= 1  # the last weight stays a finite number
        file.write_bytes(data)
    with pytest.raises(InputError, match=rf"{name}: can't be read \(its checksum is wrong.*copy the"):
        alis.load(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "discriminator.safetensors", "config.json"])
def test_a_file_of_another_model_with_the_same_networks_is_refused(tmp_path: Path, name: str) -> None:
    for number in range(2):
        torch.manual_seed(number)
        alis.save(tmp_path / f"{number}", alis.Generator(TINY), alis.Discriminator(TINY))
    shutil.copy(tmp_path / "1" / name, tmp_path / "0" / name)
    for load, file in ((alis.load, "model"), (alis.load_discriminator, "discriminator")):
        refusal = pytest.raises(InputError, match=rf"{file}\.safetensors: is of another model")
        with refusal if name in (f"{file}.safetensors", "config.json") else contextlib.nullcontext():
            load(tmp_path / "0")


def test_files_without_a_checksum_open(folder: Path) -> None:
    """Those of versions before it, and of other programs."""
    wanted = alis.load(folder).state_dict()
    save_file(load_file(folder / "model.safetensors"), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(by_hand(folder / "config.json")))
    found = alis.load(folder).state_dict()
    assert all(torch.equal(found[name], value) for name, value in wanted.items())


def test_half_precision_weights_open(folder: Path) -> None:
    file = folder / "model.safetensors"
    save_file({name: value.half() for name, value in load_file(file).items()}, file)
    assert alis.load(folder).mapping.w_avg.dtype == torch.float32


LIMITED = """
import resource, sys
import alis
from alis.errors import AlisError
alis.load(sys.argv[1])  # what opening a model takes by itself
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for folder in sys.argv[2:]:
    try:
        alis.load(folder)
    except AlisError as error:
        print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_sizes_are_compared_before_memory_is_taken(folder: Path, tmp_path: Path) -> None:
    """The widest networks that config.json may describe would take 40 GB; the weights' header shows the mistake."""
    table = by_hand(folder / "config.json")
    wide = tmp_path / "wide"
    wide.mkdir()
    (wide / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    table["model"] |= {"w_dim": 2**14, "z_dim": 2**14, "channel_max": 2**14, "channel_base": 2**24, "resolution": 1024}
    (wide / "config.json").write_text(json.dumps({**table, "model": {**table["model"], "mapping_layers": 64}}))
    line = [sys.executable, "-c", LIMITED, str(folder), str(wide)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=250, check=True)
    said, grown_kb = done.stdout.splitlines()
    assert "config.json asks for" in said
    assert int(grown_kb) < 200_000
