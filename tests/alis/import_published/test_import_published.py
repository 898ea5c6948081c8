"""Published checkpoints: what is read from them, and that nothing in them can run."""

from __future__ import annotations

import collections
import datetime
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
from alis.import_published.pickles import Built, read
from alis.import_published.storages import tensor
from tests.alis import fixture

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
    with pytest.raises(InputError, match="already holds a model"):
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


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def call(module: str, name: str, *args: str) -> bytes:
    """Opcodes that call a function with words."""
    return f"c{module}\n{name}\n(".encode() + b"".join(text(arg) for arg in args) + b"tR"


def persistent(meta: bytes) -> bytes:
    return b"ctorch_utils.persistence\n_reconstruct_persistent_obj\n(" + meta + b"tR"


class Reduces:
    """An object that any pickle module turns into a call."""

    def __init__(self, *call: object) -> None:
        self.call = call

    def __reduce__(self) -> tuple[object, ...]:
        return self.call  # type: ignore[return-value]


def storage(stream: bytes) -> bytes:
    """A tensor whose storage is these bytes."""
    return pickle.dumps(("tensor", stream))


def _zip_of(member: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", member)
    return out.getvalue()


CANARY = "canary"
TOUCH = f"touch {CANARY}"
PYTHON = f"open('{CANARY}', 'w').write('ran')"
# Functions of the standard library, numpy and torch that run a command, code or a file's code, and that scanners of
# pickles missed, by their public advisories: a list of what is forbidden is never whole.
GADGETS = (Path(__file__).parent / "gadgets.txt").read_text(encoding="utf-8").split()
# How harm is done by pickles, and the word that the refusal must name.
ATTACKS: dict[str, tuple[bytes, str]] = {
    "os.system": (call("os", "system", TOUCH) + b".", "os.system"),
    "posix.system": (call("posix", "system", TOUCH) + b".", "posix.system"),
    "eval": (call("builtins", "eval", PYTHON) + b".", "builtins.eval"),
    "exec, python 2": (call("__builtin__", "exec", PYTHON) + b".", "builtins.exec"),
    "getattr": (call("builtins", "getattr", "a", "b") + b".", "builtins.getattr"),
    "import": (call("builtins", "__import__", "os") + b".", "builtins.__import__"),
    "importlib": (call("importlib", "import_module", "os") + b".", "importlib.import_module"),
    "subprocess": (pickle.dumps(Reduces(subprocess.Popen, (["touch", CANARY],))), "subprocess.Popen"),
    "runpy": (call("runpy", "_run_code", PYTHON) + b".", "runpy._run_code"),
    "torch.load": (call("torch", "load", "evil.pt") + b".", "torch.load"),
    "torch.hub": (call("torch.hub", "load", "a/b", "c") + b".", "torch.hub.load"),
    "torch compile": (call("torch.utils.cpp_extension", "load", "x") + b".", "torch.utils.cpp_extension.load"),
    "pickle in pickle": (call("pickle", "loads", "x") + b".", "pickle.loads"),
    "numpy load": (call("numpy", "load", "x") + b".", "numpy.load"),
    "dotted name": (
        b"\x80\x04" + text("torch_utils.persistence") + text("sys.modules") + b"\x93.",
        "torch_utils.persistence.sys.modules",
    ),
    "attribute of an allowed": (
        b"\x80\x04" + text("collections") + text("OrderedDict.__class__") + b"\x93.",
        "collections.OrderedDict.__class__",
    ),
    "inst": (b"(S'" + TOUCH.encode() + b"'\nios\nsystem\n.", "os.system"),
    "obj": (b"(cos\nsystem\n" + text(TOUCH) + b"o.", "os.system"),
    "newobj": (b"\x80\x02csubprocess\nPopen\n" + text(TOUCH) + b"\x85\x81.", "subprocess.Popen"),
    "nested in the network": (
        persistent(b"}" + text("state") + call("os", "system", TOUCH) + b"s") + b".",
        "os.system",
    ),
    "hidden before the value": (call("os", "system", TOUCH) + b"0}.", "os.system"),
    "state of a class": (b"ccollections\nOrderedDict\n}b.", "state to a Name"),
    "call of a value": (text("x") + b")R.", "calls a str"),
    "extension registry": (b"\x80\x02\x82\x01.", "EXT1"),
    "out-of-band buffer": (b"\x80\x05\x97.", "NEXT_BUFFER"),
    "list as a key": (b"}]Ns.", "list as a key"),
    "deep tuple as a key": (b"})" + b"\x85" * 200_000 + b"Ns.", "tuple as a key"),
    "call behind a pop": (b"(cos\nsystem\n" + text(TOUCH) + b"o0}.", "os.system"),
    "setstate of a call": (call("os", "system", TOUCH) + b"}b.", "os.system"),
    "module in pieces": (
        b"\x80\x04" + text("torch") + text("utils.collect_env.run") + b"\x93.",
        "torch.utils.collect_env.run",
    ),
    "builtins of numpy": (
        b"\x80\x04" + text("numpy") + text("__builtins__.eval") + b"\x93.",
        "numpy.__builtins__.eval",
    ),
    "builtins of an allowed": (
        b"\x80\x04" + text("numpy.core.multiarray") + text("__builtins__") + b"\x93.",
        "numpy.core.multiarray.__builtins__",
    ),
    "function from its code": (call("types", "FunctionType", "c") + b".", "types.FunctionType"),
    **{name: (call(*name.rsplit(".", 1), TOUCH) + b".", name) for name in GADGETS},
    "datetime": (pickle.dumps(datetime.date(2020, 1, 1)), "datetime.date"),
    "counter": (pickle.dumps(collections.Counter()), "collections.Counter"),
}


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
    """The canary dies when such a file is opened in the usual way."""
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


# Files that only want to exhaust: each is small, and must be refused in little time and memory.
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
    "a dict that holds itself": lambda: b"}q\x00" + text("G_ema") + b"h\x00s.",
}


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda name: name)
def test_bombs_are_refused(bomb: str, tmp_path: Path) -> None:
    (tmp_path / "bomb.pkl").write_bytes(BOMBS[bomb]())
    with pytest.raises((UnsafePickle, InputError)):
        convert(tmp_path / "bomb.pkl", tmp_path / "out")


def test_bombs_take_no_memory(tmp_path: Path) -> None:
    """All of them within 1 GB of address space above what the imports take, in one process."""
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


def test_a_network_inside_itself_is_refused(tmp_path: Path) -> None:
    inner = persistent(b"}" + text("state") + b"}q\x01" + text("_modules") + b"}q\x02ss")
    # The network puts itself, by the memo, among its own modules.
    data = b"}" + text("G_ema") + inner + b"q\x03h\x02" + text("me") + b"h\x03s0s."
    (tmp_path / "loop.pkl").write_bytes(data)
    with pytest.raises(UnsafePickle, match="holds itself"):
        convert(tmp_path / "loop.pkl", tmp_path / "out")


def tensors_of(value: object, protocol: int = 4) -> torch.Tensor:
    return tensor(read(io.BytesIO(pickle.dumps(value, protocol=protocol)), "t"), "t")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool]
)
def test_tensors_are_read_as_they_were(protocol: int, dtype: torch.dtype) -> None:
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
    built = Built(
        "torch._utils._rebuild_tensor_v2",
        (Built("torch.storage._load_from_bytes", (out.getvalue(),)), 1, (2, 2), (2, 1)),
    )
    assert tensor(built, "t").tolist() == [[1, 2], [3, 4]]


def _stored(data: bytes, size: tuple[int, ...] = (2,), stride: tuple[int, ...] = (1,), offset: int = 0) -> Built:
    storage = Built("torch.storage._load_from_bytes", (data,))
    return Built("torch._utils._rebuild_tensor_v2", (storage, offset, size, stride))


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
STORAGES: dict[str, Built] = {
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
    "zip with a call": _stored(_zip_of(ATTACKS["os.system"][0])),
    "stream with a call": _stored(ATTACKS["os.system"][0]),
    "call in the third pickle": _stored(
        pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + ATTACKS["eval"][0]
    ),
    "pickle in pickle in pickle": _stored(storage(ATTACKS["eval"][0])),
    "no bytes": Built("torch._utils._rebuild_tensor_v2", (Built("torch.storage._load_from_bytes", (7,)), 0, (), ())),
    "no tensor": Built("collections.OrderedDict", ()),
}


@pytest.mark.parametrize("case", STORAGES, ids=lambda name: name)
def test_unsound_tensors_are_refused(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnsafePickle):
        tensor(STORAGES[case], "t")
    assert not (tmp_path / CANARY).exists()


def test_damaged_and_foreign_files_say_so(shared: Path, tmp_path: Path) -> None:
    whole = (shared / "fixtures/alis-64/snapshot.pkl").read_bytes()
    for size in (0, 1, 100, len(whole) // 3, len(whole) - 1):
        (tmp_path / "cut.pkl").write_bytes(whole[:size])
        with pytest.raises(UnsafePickle):
            convert(tmp_path / "cut.pkl", tmp_path / "out")
    with pytest.raises(InputError, match="can't be read"):
        convert(tmp_path / "missing.pkl", tmp_path / "out")
    (tmp_path / "other.pkl").write_bytes(pickle.dumps({"generator": 1}))
    with pytest.raises(InputError, match="holds no G_ema"):
        convert(tmp_path / "other.pkl", tmp_path / "out")


def test_other_formats_are_called_what_they_are(tmp_path: Path) -> None:
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
        (lambda t: t.fill_(float("nan")), "holds NaN or infinity"),
        (lambda t: t.fill_(float("-inf")), "holds NaN or infinity"),
        (lambda t: t.to(torch.int64), "torch.int64, no weights"),
    ],
)
def test_published_weights_that_are_none_are_refused(spoil: object, said: str) -> None:
    config = ModelConfig(resolution=16, channel_base=128, channel_max=8, z_dim=8, w_dim=8)
    weights = {name: value.clone() for name, value in alis.Generator(config).state_dict().items()}
    weights["mapping.fc0.weight"] = spoil(weights["mapping.fc0.weight"])  # type: ignore[operator]
    with pytest.raises(InputError, match=rf"mapping.fc0.weight .*{said}"):
        _filled(alis.Generator, config, networks.ours(weights, config, "t"), "t")


def test_variants_of_the_method_are_refused(shared: Path, tmp_path: Path) -> None:
    whole = (shared / "fixtures/alis-64/snapshot.pkl").read_bytes()
    assert b"skip" in whole
    (tmp_path / "variant.pkl").write_bytes(whole.replace(b"skip", b"orig"))
    with pytest.raises(InputError, match="architecture"):
        convert(tmp_path / "variant.pkl", tmp_path / "out")


def test_every_setting_of_research_days_is_looked_at(shared: Path) -> None:
    described = read(io.BytesIO((shared / "fixtures/alis-64/snapshot.pkl").read_bytes()), "t")
    assert isinstance(described, dict)
    for setting, wanted in networks.FIXED.items():
        node = dict(networks.modules(described["G_ema"], "t"))["synthesis.b4.conv1"]["cfg"]
        for key in setting.split("."):
            assert isinstance(node, Built)
            assert isinstance(node.state, dict)
            node = node.state["_content"][key]
        assert isinstance(node, Built)
        assert isinstance(node.state, dict)
        assert node.state["_val"] == wanted
        node.state["_val"] = "other"
        with pytest.raises(InputError, match=setting):
            networks.config_of(described["G_ema"], described["D"], "t")
        node.state["_val"] = wanted
    networks.config_of(described["G_ema"], described["D"], "t")
