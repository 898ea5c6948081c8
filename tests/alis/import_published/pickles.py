"""Pickles written by hand, opcode by opcode, and attacks that pickles can contain."""

from __future__ import annotations

import collections
import datetime
import io
import pickle
import struct
import subprocess
import zipfile
from pathlib import Path


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def call(module: str, name: str, *args: str) -> bytes:
    """Opcodes that call a function with strings."""
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


def zip_of(member: bytes) -> bytes:
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


# Attacks by pickles, and the name that the error must contain.
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
    "state of a class": (b"ccollections\nOrderedDict\n}b.", "state to a value of type InertName"),
    "call of a value": (text("x") + b")R.", "calls a value of type str"),
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
