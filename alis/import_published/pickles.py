"""Bytes of a pickle → plain values, without executing anything: this reader has no means to call a function.

A pickle is a program for a stack machine, whose REDUCE opcode calls any importable function. Here names are never
imported: a name on the list becomes an `InertName`, a call becomes `InertCall(name, args)`; a name that is not on the
list is an error. Memory is bounded by the file's size: no opcode allocates more than its own argument.
Source: pickletools, the commented list of opcodes in Python's standard library.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

from alis.errors import UnsafePickle

# The names that checkpoints of networks use; all of them only hold data.
ALLOWED = frozenset(
    """
    builtins.dict builtins.list builtins.tuple builtins.set builtins.frozenset builtins.int builtins.float
    builtins.str builtins.bool builtins.bytes builtins.complex builtins.slice builtins.object
    collections.OrderedDict collections.defaultdict typing.Any
    _codecs.encode copyreg._reconstructor
    numpy.dtype numpy.ndarray numpy.core.multiarray.scalar numpy.core.multiarray._reconstruct
    numpy._core.multiarray.scalar numpy._core.multiarray._reconstruct
    torch_utils.persistence._reconstruct_persistent_obj dnnlib.util.EasyDict dnnlib.EasyDict
    torch.storage._load_from_bytes torch.storage.TypedStorage torch.storage.UntypedStorage torch.device torch.Size
    torch._utils._rebuild_tensor torch._utils._rebuild_tensor_v2 torch._utils._rebuild_parameter
    torch.nn.parameter.Parameter
    torch.FloatStorage torch.DoubleStorage torch.HalfStorage torch.BFloat16Storage torch.LongStorage
    torch.IntStorage torch.ShortStorage torch.CharStorage torch.ByteStorage torch.BoolStorage
    omegaconf.dictconfig.DictConfig omegaconf.listconfig.ListConfig omegaconf.base.ContainerMetadata
    omegaconf.base.Metadata omegaconf.nodes.AnyNode omegaconf.nodes.StringNode omegaconf.nodes.IntegerNode
    omegaconf.nodes.FloatNode omegaconf.nodes.BooleanNode
    """.split()  # noqa: SIM905 — a list this long reads better as words
)
MAX_OPCODES = 5_000_000
_OLD_NAMES = {"__builtin__": "builtins", "copy_reg": "copyreg"}
_KEYS = (str, bytes, int, float, bool, type(None))


@dataclass(frozen=True, slots=True)
class InertName:
    """The name of something importable, which is not imported."""

    text: str


@dataclass(eq=False, slots=True)
class InertCall:
    """A call or object construction that is not executed: its name and arguments."""

    name: str
    args: tuple[object, ...]
    state: object = None
    items: dict[object, object] = field(default_factory=dict)
    appended: list[object] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class PersistentId:
    """A reference to something outside the pickle, such as a torch storage."""

    id: object


class _Mark:
    """Marks where an opcode's arguments start on the stack."""


_MARK = _Mark()


def read(stream: io.BytesIO, where: str) -> object:
    """Read the value of the stream's next pickle; the stream is left just behind it.

    Args:
        where: the beginning of error messages.

    Raises:
        UnsafePickle: it asks for something that reading weights never needs, or is malformed.
    """
    return _Machine(where).run(stream)


class _Machine:
    def __init__(self, where: str) -> None:
        self.where = where
        self.stack: list[object] = []
        self.memo: dict[int, object] = {}

    def run(self, stream: io.BytesIO) -> object:
        try:
            for count, (opcode, arg, _) in enumerate(pickletools.genops(stream)):
                if count > MAX_OPCODES:
                    self.refuse(f"more than {MAX_OPCODES:,} opcodes")
                if opcode.name == "STOP":
                    value = self.stack.pop()
                    if self.stack:
                        self.refuse("a stack that is not empty at the end")
                    return value
                self.step(opcode.name, arg)
        except UnsafePickle:
            raise
        except Exception as error:  # a damaged pickle can cause any exception in this reader
            self.refuse(f"not a valid pickle: {type(error).__name__}: {error}"[:300])
        self.refuse("no end")

    def refuse(self, what: str) -> NoReturn:
        raise UnsafePickle(f"{self.where}: {what}", hint="nothing was executed; don't open this file with other tools")

    def step(self, name: str, arg: object) -> None:
        stack = self.stack
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in _LITERALS:
            stack.append(arg)
        elif name in ("PROTO", "FRAME"):
            pass
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            assert isinstance(arg, int)
            self.memo[arg] = self.top()
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.top()
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            assert isinstance(arg, int)
            stack.append(self.memo[arg])
        elif name in _OPERATIONS:
            _OPERATIONS[name](self, arg)
        else:
            self.refuse(f"opcode {name}")

    def top(self) -> object:
        """The topmost value, which stays on the stack."""
        if not self.stack or self.stack[-1] is _MARK:
            self.refuse("an opcode without its arguments")
        return self.stack[-1]

    def pop(self) -> object:
        """Remove and return the topmost value."""
        value = self.top()
        self.stack.pop()
        return value

    def pop_to_mark(self) -> list[object]:
        """Remove everything from the last mark on, and return the values above it."""
        for start in range(len(self.stack) - 1, -1, -1):
            if self.stack[start] is _MARK:
                values = self.stack[start + 1 :]
                del self.stack[start:]
                return values
        self.refuse("an opcode without its mark")

    def named(self, module: str, name: str) -> InertName:
        """The name, if it is allowed; the only place where a pickle's names are checked."""
        text = f"{_OLD_NAMES.get(module, module)}.{name}"
        if text not in ALLOWED:
            self.refuse(f"asks for {text[:200]}, which reading weights never needs")
        return InertName(text)

    def build(self, what: object, args: object) -> InertCall:
        """The inert description of a call."""
        if not isinstance(what, InertName):
            self.refuse(f"calls a value of type {type(what).__name__}")
        if not isinstance(args, tuple):
            self.refuse(f"calls {what.text} with a {type(args).__name__}")
        return InertCall(what.text, args)

    def add_items(self, values: list[object]) -> None:
        target = self.top()
        items = target.items if isinstance(target, InertCall) else target
        if not isinstance(items, dict) or len(values) % 2:
            self.refuse(f"puts items into a {type(target).__name__}")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if not isinstance(key, _KEYS):
                self.refuse(f"a {type(key).__name__} as a key")
            items[key] = value

    def append(self, values: list[object]) -> None:
        target = self.top()
        found = target.appended if isinstance(target, InertCall) else target
        if not isinstance(found, list):
            self.refuse(f"appends to a {type(target).__name__}")
        found.extend(values)

    def add_to_set(self, values: list[object]) -> None:
        target = self.top()
        if not isinstance(target, set) or not all(isinstance(value, _KEYS) for value in values):
            self.refuse("a set of other things than words and numbers")
        target.update(values)


def _stack_global(machine: _Machine, _: object) -> None:
    name, module = machine.pop(), machine.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        machine.refuse("a name that is no text")
    machine.stack.append(machine.named(module, name))


def _global(machine: _Machine, arg: object) -> None:
    module, _, name = str(arg).partition(" ")
    machine.stack.append(machine.named(module, name))


def _inst(machine: _Machine, arg: object) -> None:
    module, _, name = str(arg).partition(" ")
    what = machine.named(module, name)
    machine.stack.append(machine.build(what, tuple(machine.pop_to_mark())))


def _obj(machine: _Machine, _: object) -> None:
    what, *args = machine.pop_to_mark()
    machine.stack.append(machine.build(what, tuple(args)))


def _reduce(machine: _Machine, _: object) -> None:
    args, what = machine.pop(), machine.pop()
    machine.stack.append(machine.build(what, args))


def _newobj_ex(machine: _Machine, _: object) -> None:
    words, args, what = machine.pop(), machine.pop(), machine.pop()
    if words != {}:
        machine.refuse("an object made with keywords")
    machine.stack.append(machine.build(what, args))


def _set_state(machine: _Machine, _: object) -> None:
    state, target = machine.pop(), machine.top()
    if not isinstance(target, InertCall):
        machine.refuse(f"gives a state to a value of type {type(target).__name__}")
    target.state = state


def _tuple(size: int) -> Callable[[_Machine, object], None]:
    def make(machine: _Machine, _: object) -> None:
        values = [machine.pop() for _ in range(size)]
        machine.stack.append(tuple(reversed(values)))

    return make


def _dict(machine: _Machine, _: object) -> None:
    values = machine.pop_to_mark()
    machine.stack.append({})
    machine.add_items(values)


def _pop(machine: _Machine, _: object) -> None:
    if not machine.stack:
        machine.refuse("an opcode without its arguments")
    machine.stack.pop()


def _pop_mark(machine: _Machine, _: object) -> None:
    machine.pop_to_mark()


def _setitem(machine: _Machine, _: object) -> None:
    value, key = machine.pop(), machine.pop()
    machine.add_items([key, value])


def _frozenset(machine: _Machine, _: object) -> None:
    values = machine.pop_to_mark()
    machine.stack.append(set())
    machine.add_to_set(values)


_CONSTANTS: dict[str, Callable[[], object]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": set,
    "MARK": lambda: _MARK,
}
_LITERALS = frozenset(
    """
    INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE
    SHORT_BINUNICODE BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8
    """.split()  # noqa: SIM905
)
_OPERATIONS: dict[str, Callable[[_Machine, object], None]] = {
    "STACK_GLOBAL": _stack_global,
    "GLOBAL": _global,
    "INST": _inst,
    "OBJ": _obj,
    "REDUCE": _reduce,
    "NEWOBJ": _reduce,
    "NEWOBJ_EX": _newobj_ex,
    "BUILD": _set_state,
    "TUPLE": lambda m, _: m.stack.append(tuple(m.pop_to_mark())),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "LIST": lambda m, _: m.stack.append(m.pop_to_mark()),
    "DICT": _dict,
    "FROZENSET": _frozenset,
    "SETITEM": _setitem,
    "SETITEMS": lambda m, _: m.add_items(m.pop_to_mark()),
    "APPEND": lambda m, _: m.append([m.pop()]),
    "APPENDS": lambda m, _: m.append(m.pop_to_mark()),
    "ADDITEMS": lambda m, _: m.add_to_set(m.pop_to_mark()),
    "POP": _pop,
    "POP_MARK": _pop_mark,
    "DUP": lambda m, _: m.stack.append(m.top()),
    "BINPERSID": lambda m, _: m.stack.append(PersistentId(m.pop())),
    "PERSID": lambda m, arg: m.stack.append(PersistentId(arg)),
}
