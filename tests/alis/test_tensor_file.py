"""A file of tensors: any change of names, types, shapes, values or metadata is found."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from alis import tensor_file

TENSORS = {
    "half": torch.tensor([1.0, 2.0], dtype=torch.bfloat16),
    "none": torch.zeros(0, 3),
    "scalar": torch.tensor(3.5),
    "turned": torch.arange(6.0).reshape(2, 3).T,
}


def test_tensors_come_back_as_they_went(tmp_path: Path) -> None:
    tensor_file.save(TENSORS, tmp_path / "x", {"from": "here"})
    found, about = tensor_file.load(tmp_path / "x")
    assert about == {"from": "here"}
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in TENSORS.items())


@pytest.mark.parametrize(
    "change",
    [
        {"scalar": torch.tensor(3.25)},
        {"half": torch.tensor([1.0, 2.0], dtype=torch.float16)},
        {"none": torch.zeros(3, 0)},
        {"more": torch.zeros(0)},
        {},
    ],
    ids=["value", "type", "shape", "name", "metadata"],
)
def test_a_change_is_found(change: dict[str, torch.Tensor], tmp_path: Path) -> None:
    tensor_file.save(TENSORS, tmp_path / "x", {"from": "here"})
    about = {"from": "here" if change else "there", tensor_file.KEY: tensor_file.stored_checksum(tmp_path / "x")}
    save_file({name: value.contiguous() for name, value in (TENSORS | change).items()}, tmp_path / "x", metadata=about)
    with pytest.raises(SafetensorError, match="its checksum is wrong"):
        tensor_file.load(tmp_path / "x")


def test_any_flipped_byte_is_found_or_harmless(tmp_path: Path) -> None:
    """Only the checksum's own name may rot unseen: the content is then as it was."""
    tensor_file.save(TENSORS, tmp_path / "x")
    whole = (tmp_path / "x").read_bytes()
    unseen = 0
    for at in range(len(whole)):
        (tmp_path / "x").write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            found, _ = tensor_file.load(tmp_path / "x")
        except SafetensorError:
            continue
        unseen += 1
        assert all(torch.equal(found[name], value) for name, value in TENSORS.items())
    assert unseen <= len("crc32")
