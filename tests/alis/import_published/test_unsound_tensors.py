"""Tensors in a pickle: read exactly, or refused if their sizes and bytes don't match."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from pathlib import Path

import pytest
import torch

from alis.errors import UnsafePickle
from alis.import_published.pickles import InertCall, read
from alis.import_published.storages import tensor
from tests.alis.import_published.pickles import ATTACKS, CANARY, storage, zip_of


def tensors_of(value: object, protocol: int = 4) -> torch.Tensor:
    return tensor(read(io.BytesIO(pickle.dumps(value, protocol=protocol)), "t"), "t")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool]
)
def test_tensors_are_read_exactly(protocol: int, dtype: torch.dtype) -> None:
    value = (torch.arange(24).reshape(2, 3, 4) % 5).to(dtype)
    for view in (
        value,
        value[:, 1:],
        value.transpose(0, 2),
        value[1, 2, 3],
        value[:0],
        torch.nn.Parameter(value) if dtype.is_floating_point else value,
    ):
        assert torch.equal(tensors_of(view, protocol), view.detach())


def test_zipped_storages_are_read() -> None:
    out = io.BytesIO()
    torch.save(torch.arange(6, dtype=torch.float32).storage(), out)
    built = InertCall(
        "torch._utils._rebuild_tensor_v2",
        (InertCall("torch.storage._load_from_bytes", (out.getvalue(),)), 1, (2, 2), (2, 1)),
    )
    assert tensor(built, "t").tolist() == [[1, 2], [3, 4]]


def _stored(data: bytes, size: tuple[int, ...] = (2,), stride: tuple[int, ...] = (1,), offset: int = 0) -> InertCall:
    storage = InertCall("torch.storage._load_from_bytes", (data,))
    return InertCall("torch._utils._rebuild_tensor_v2", (storage, offset, size, stride))


def _legacy(value: torch.Tensor) -> bytes:
    out = io.BytesIO()
    torch.save(value.storage(), out, _use_new_zipfile_serialization=False)
    return out.getvalue()


def _bad_zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02N.")
        archive.writestr("archive/data/0", b"\0" * 50_000_000)
    return out.getvalue()


SOUND = _legacy(torch.zeros(4))


STORAGES: dict[str, InertCall] = {
    "beyond its storage": _stored(SOUND, (5,)),
    "beyond by stride": _stored(SOUND, (2,), (4,)),
    "beyond by offset": _stored(SOUND, (2,), (1,), 3),
    "negative offset": _stored(SOUND, offset=-1),
    "negative size": _stored(SOUND, (-2,)),
    "expanded to a terabyte": _stored(SOUND, (10**6, 10**6), (0, 0)),
    "one number of many words": _stored(SOUND, (2, 2), (1,)),
    "truncated": _stored(SOUND[:-8]),
    "longer than said": _stored(SOUND.replace(struct.pack("<q", 4), struct.pack("<q", 2**60))),
    "zip bomb": _stored(_bad_zip()),
    "zip with a call": _stored(zip_of(ATTACKS["os.system"][0])),
    "stream with a call": _stored(ATTACKS["os.system"][0]),
    "call in the third pickle": _stored(
        pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + ATTACKS["eval"][0]
    ),
    "pickle in pickle in pickle": _stored(storage(ATTACKS["eval"][0])),
    "no bytes": InertCall(
        "torch._utils._rebuild_tensor_v2", (InertCall("torch.storage._load_from_bytes", (7,)), 0, (), ())
    ),
    "no tensor": InertCall("collections.OrderedDict", ()),
}


@pytest.mark.parametrize("case", STORAGES, ids=lambda name: name)
def test_invalid_tensors_are_refused(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnsafePickle):
        tensor(STORAGES[case], "t")
    assert not (tmp_path / CANARY).exists()
