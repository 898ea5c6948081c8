"""A bare machine → what `alis` imports of pydantic, safetensors and the Hub, as far as right settings need it.

For benchmarks/gpu.py alone, where torch, triton, numpy and Pillow are all there is: nothing is checked, so nothing but
the benchmark's own configurations goes through it. Where the libraries are installed they are used.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import struct
import sys
import types
from pathlib import Path
from typing import Any, ClassVar

import torch

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64, "F64": torch.float64}


def install() -> list[str]:
    """Put stand-ins where libraries are missing; says which."""
    made = []
    for name, make in (("pydantic", _pydantic), ("safetensors", _safetensors), ("huggingface_hub", _hub)):
        if importlib.util.find_spec(name) is None:
            make()
            made.append(name)
    return made


class _Field:
    def __init__(self, default: Any = None, default_factory: Any = None) -> None:
        self.value, self.factory = default, default_factory

    def made(self) -> Any:
        return self.factory() if self.factory else self.value


class _Model:
    """Fields with defaults, validators that run after, copies with changes: what `alis.config.Settings` is."""

    model_fields: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls, **_: Any) -> None:
        fields = dict(cls.model_fields)
        for name in inspect.get_annotations(cls):
            if not name.startswith("model_"):
                default = cls.__dict__.get(name)
                fields[name] = default if isinstance(default, _Field) else _Field(default)
        cls.model_fields = fields

    def __init__(self, **values: Any) -> None:
        for name, field in self.model_fields.items():
            setattr(self, name, values[name] if name in values else field.made())
        for name in dir(type(self)):
            method = getattr(type(self), name)
            if getattr(method, "runs_after", False):
                method(self)

    @classmethod
    def model_validate(cls, table: dict[str, Any]) -> Any:
        return cls(**table)

    def model_copy(self, update: dict[str, Any]) -> Any:
        return type(self)(**{**self.model_dump(deep=False), **update})

    def model_dump(self, deep: bool = True) -> dict[str, Any]:
        found = {name: getattr(self, name) for name in self.model_fields}
        return {k: v.model_dump() if deep and isinstance(v, _Model) else v for k, v in found.items()}

    def __iter__(self) -> Any:
        return iter(self.model_dump(deep=False).items())


def _pydantic() -> None:
    module = types.ModuleType("pydantic")

    def after(*_: Any, **__: Any) -> Any:
        def mark(method: Any) -> Any:
            method.runs_after = True
            return method

        return mark

    stand_in: dict[str, Any] = {
        "BaseModel": _Model,
        "Field": lambda default=None, default_factory=None, **_: _Field(default, default_factory),
        "ConfigDict": dict,
        "model_validator": after,
        "field_validator": lambda *_, **__: lambda method: method,
        "ValidationError": type("ValidationError", (ValueError,), {}),
    }
    for name, value in stand_in.items():
        setattr(module, name, value)
    sys.modules["pydantic"] = module


class _Anything(Exception):
    def __init_subclass__(cls, **_: Any) -> None:
        """Whatever words a class is made with."""


def _hub() -> None:
    module, errors = types.ModuleType("huggingface_hub"), types.ModuleType("huggingface_hub.errors")
    for one, names in (
        (module, ("HfApi", "ModelCard", "hf_hub_download")),
        (errors, ("EntryNotFoundError", "HfHubHTTPError", "LocalEntryNotFoundError")),
    ):
        vars(one).update({name: type(name, (_Anything,), {}) for name in names})
    mixin = type("ModelHubMixin", (), {"__init_subclass__": classmethod(lambda cls, **_: None)})
    vars(module).update(ModelHubMixin=mixin, __path__=[])
    sys.modules |= {"huggingface_hub": module, "huggingface_hub.errors": errors}


def _save(tensors: dict[str, torch.Tensor], path: str | Path, metadata: Any = None) -> None:
    names = {dtype: name for name, dtype in DTYPES.items()}
    header, parts, at = {}, [], 0
    for key, tensor in tensors.items():
        raw = tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()
        header[key] = {"dtype": names[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, at + len(raw)]}
        parts.append(raw)
        at += len(raw)
    text = json.dumps(header).encode()
    Path(path).write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts))


def _load(path: str | Path, device: str = "cpu") -> dict[str, torch.Tensor]:
    raw = Path(path).read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    found = {}
    for key, one in json.loads(raw[8 : 8 + length]).items():
        if key != "__metadata__":
            first, last = (8 + length + offset for offset in one["data_offsets"])
            flat = torch.frombuffer(bytearray(raw[first:last]), dtype=DTYPES[one["dtype"]])
            found[key] = flat.view(one["shape"])
    return found


def _safetensors() -> None:
    module, inner = types.ModuleType("safetensors"), types.ModuleType("safetensors.torch")
    vars(module).update(SafetensorError=type("SafetensorError", (Exception,), {}), torch=inner, __path__=[])
    vars(inner).update(save_file=_save, load_file=_load)
    sys.modules |= {"safetensors": module, "safetensors.torch": inner}
