"""Reads the pickle inside a PyTorch archive without the power to run anything.

Python's unpickler calls whatever the stream names. This stack machine imports and calls nothing: a
name is looked up in a short list of what tensors and containers are made of, and any other is
refused, or stands for an empty object.
"""

import pickletools
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from vtd_jax.errors import UserError

# storage class -> NumPy dtype of its elements; "bfloat16" is widened by hand, NumPy has none
STORAGES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "u1",
    "UntypedStorage": "u1",
}


class Storage(NamedTuple):
    """A flat run of elements: the record `data/<key>` of the archive."""

    dtype: str
    key: str
    numel: int


class TensorView(NamedTuple):
    """A tensor not read yet: which elements of which storage it is made of."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(eq=False)
class ScriptObject:
    """A TorchScript object (class `__torch__.…`): only its attributes, its code is never looked at."""

    kind: str
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(eq=False)
class Foreign:
    """What would have been made by code of `kind`, which was not looked up and has not run: nothing
    is in it.
    """

    kind: str


class _Name(NamedTuple):
    """A class or function that the stream names; it stands on the stack and can do nothing."""

    name: str


class _Unexpected(Exception):
    """The stream is well-formed but means nothing to us."""


_MARK = object()
# numbers are of sizes, steps and seeds; more digits than this, Python does not even print
_NUMBER_BITS = 1024
# whole numbers beyond this have equal hashes in any amount, and take a dict for ever
_KEY = 2**60
# how many values may be copied for each byte of the stream; what was written once is copied once or
# twice
_COPIES = 4


def read_pickle(data: bytes, where: str, skip_foreign: bool = False) -> Any:
    """The object that a PyTorch pickle describes.

    Args:
      data: the bytes of `data.pkl`.
      where: the file, for messages.
      skip_foreign: whether code that the stream names becomes an empty `Foreign`, where else it is
        refused. A training script's settings and scheduler are such objects; either way nothing
        runs.

    Returns:
      Dicts, lists, tuples and plain values with `TensorView`, `Storage`, `ScriptObject` and
      `Foreign` among them.

    Raises:
      UserError: the stream names code (told by name; nothing has run), or is damaged.
    """
    machine = _Machine(where, skip_foreign, _COPIES * len(data))
    try:
        with warnings.catch_warnings():
            # pickletools decodes the texts of protocol 0 with Python's escapes, and warns of odd
            # ones
            warnings.simplefilter("ignore", DeprecationWarning)
            for opcode, argument, _ in pickletools.genops(data):
                machine.step(opcode.name, argument)
        (root,) = machine.stack
        return root
    except UserError:
        raise
    except (
        _Unexpected,
        ArithmeticError,
        LookupError,
        TypeError,
        ValueError,
        struct.error,
    ) as error:
        raise UserError(
            f"{where}: damaged, its table of tensors (data.pkl) cannot be read: {error}"
        ) from None


class _Machine:
    """The stack, the memo and one method per kind of instruction."""

    def __init__(self, where: str, skip_foreign: bool, copies: int):
        self.where, self.skip_foreign, self.copies = where, skip_foreign, copies
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def step(self, op: str, argument: Any) -> None:
        """Carries out one instruction."""
        if op in _CONSTANTS:
            self.stack.append(_CONSTANTS[op])
        elif op in _LITERALS:
            if isinstance(argument, int) and argument.bit_length() > _NUMBER_BITS:
                raise _Unexpected(f"a number of {argument.bit_length():,} bits")
            self.stack.append(argument)
        elif op in _EMPTY:
            self.stack.append(_EMPTY[op]())
        elif op in _TUPLES:
            size = _TUPLES[op]
            self.stack[-size:] = [tuple(self._top(size))]
        elif op in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if argument is None else argument] = self._top(1)[0]
        elif op in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif op not in ("PROTO", "FRAME", "STOP"):
            act = _ACTIONS.get(op)
            if act is None:
                raise _Unexpected(f"instruction {op} has no place in a checkpoint")
            act(self, argument)

    def _top(self, size: int) -> list[Any]:
        if len(self.stack) < size or any(x is _MARK for x in self.stack[-size:]):
            raise _Unexpected("its stack runs empty")
        return self.stack[-size:]

    def _spend(self, *values: Any) -> None:
        """Notes that these are copied: one that is named again and again would be copied without
        end.
        """
        self.copies -= sum(
            len(value)
            for value in values
            if isinstance(value, tuple | list | dict | set | str | bytes)
        )
        if self.copies < 0:
            raise _Unexpected("the same values are copied over and over")

    def _pop(self) -> Any:
        (value,) = self._top(1)
        self.stack.pop()
        return value

    def _pop_two(self) -> list[Any]:
        pair = self._top(2)
        del self.stack[-2:]
        return pair

    def _pop_to_mark(self) -> list[Any]:
        for at in range(len(self.stack) - 1, -1, -1):
            if self.stack[at] is _MARK:
                values = self.stack[at + 1 :]
                del self.stack[at:]
                return values
        raise _Unexpected("its stack has no mark")

    def _container(self, kind: type) -> Any:
        (value,) = self._top(1)
        if isinstance(value, Foreign):
            # what is put into it is let go
            return kind()
        if not isinstance(value, kind):
            raise _Unexpected(f"items for a {type(value).__name__}")
        return value

    def push_name(self, name: str) -> None:
        """A class or function: admitted by name, or passed over or refused by name."""
        storage = name.removeprefix("torch.").removeprefix("storage.")
        if name not in _CALLS and not name.startswith("__torch__.") and storage not in STORAGES:
            if self.skip_foreign:
                self.stack.append(Foreign(name))
                return
            raise UserError(
                f"{self.where}: carries code ({name}): a checkpoint holds tensors and containers "
                "only, so loading refuses it and has run none of it; save the model's "
                "state_dict() alone, or get the file elsewhere"
            )
        self.stack.append(_Name(name))

    def stack_global(self, _: Any) -> None:
        """A name given as two strings."""
        module, name = self._pop_two()
        if not (isinstance(module, str) and isinstance(name, str)):
            raise _Unexpected("a name that is not text")
        self.push_name(f"{module}.{name}")

    def refuse_instance(self, argument: Any) -> None:
        """`INST` and `OBJ` make objects the way no PyTorch does."""
        if argument is not None:
            self.push_name(argument.replace(" ", "."))
        raise _Unexpected("instruction INST or OBJ has no place in a checkpoint")

    def persistent(self, _: Any) -> None:
        """A storage, named by `("storage", class, key, device, elements)`."""
        match self._pop():
            case ("storage", Foreign() as kind, *_):
                self.stack.append(kind)
            case ("storage", _Name(name=name), str(key), str(), int(numel)) if numel >= 0:
                dtype = STORAGES.get(name.removeprefix("torch.").removeprefix("storage."))
                if dtype is None:
                    raise _Unexpected(f"a storage of {name}")
                self.stack.append(Storage(dtype, key, numel))
            case _:
                raise _Unexpected("a storage in words that PyTorch does not use")

    def reduce(self, _: Any) -> None:
        """A call: only those of `_CALLS`, which build plain values; with anything foreign in it, it
        is foreign.
        """
        name, arguments = self._pop_two()
        if isinstance(arguments, tuple):
            self._spend(arguments)
            foreign = next((part for part in (name, *arguments) if isinstance(part, Foreign)), None)
            if foreign is not None:
                self.stack.append(Foreign(foreign.kind))
                return
        if not isinstance(name, _Name) or not isinstance(arguments, tuple):
            raise _Unexpected("a call of something that is no function")
        if name.name in _CALLS:
            self._spend(*arguments)
            self.stack.append(_CALLS[name.name](*arguments))
        elif name.name.startswith("__torch__."):
            self.stack.append(ScriptObject(name.name))
        else:
            raise _Unexpected(f"a call of {name.name}")

    def new_object(self, _: Any) -> None:
        """A TorchScript object without attributes yet."""
        name, arguments = self._pop_two()
        if isinstance(name, Foreign):
            self.stack.append(Foreign(name.kind))
            return
        if not isinstance(name, _Name) or not name.name.startswith("__torch__.") or arguments != ():
            raise _Unexpected("an object of a class that is not TorchScript's")
        self.stack.append(ScriptObject(name.name))

    def build(self, _: Any) -> None:
        """Attributes of a TorchScript object; a state dict's `_metadata` is let go."""
        target, state = self._top(2)
        self.stack.pop()
        if isinstance(target, ScriptObject):
            if isinstance(state, dict):
                self._spend(state)
                target.attributes.update(state)
        elif not isinstance(target, dict | Foreign):
            raise _Unexpected(f"attributes for a {type(target).__name__}")

    def set_items(self, pairs: list[Any]) -> None:
        """Keys and values, in turn, into the dict on top."""
        if len(pairs) % 2:
            raise _Unexpected("a key without a value")
        self._container(dict).update(zip(_plain(pairs[::2]), pairs[1::2]))

    def append(self, _: Any) -> None:
        """One value into the list below it."""
        value = self._pop()
        self._container(list).append(value)

    def extend(self, _: Any) -> None:
        """The values since the mark into the list below it."""
        values = self._pop_to_mark()
        self._container(list).extend(values)

    def add_items(self, _: Any) -> None:
        """The values since the mark into the set below it."""
        values = self._pop_to_mark()
        self._container(set).update(_plain(values))


def _plain(keys: list[Any]) -> list[Any]:
    """Keys and set items: no containers, as hashing crafted tuples can take for ever."""
    for key in keys:
        if not isinstance(key, str | int | float | bytes | Foreign | None):
            raise _Unexpected(f"a {type(key).__name__} as a key")
        if isinstance(key, int) and abs(key) > _KEY:
            raise _Unexpected(f"the number {key} as a key")
    return keys


def _ordered_dict(pairs: Any = ()) -> dict:
    pairs = [(key, value) for key, value in pairs]
    return dict(zip(_plain([key for key, _ in pairs]), (value for _, value in pairs)))


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> TensorView:
    if (
        not isinstance(storage, Storage)
        or not isinstance(shape, tuple)
        or not isinstance(stride, tuple)
    ):
        raise _Unexpected("a tensor without storage, shape or strides")
    # whether they lie in the storage is checked where the tensor's name is known
    if len(shape) != len(stride) or any(type(n) is not int for n in (offset, *shape, *stride)):
        raise _Unexpected("a tensor whose offset, shape or strides are no numbers")
    return TensorView(storage, offset, shape, stride)


def _first(value: Any, *_: Any) -> Any:
    return value


_CALLS: dict[str, Callable] = {
    "collections.OrderedDict": _ordered_dict,
    "torch.Size": tuple,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch.jit._pickle.build_intlist": _first,
    "torch.jit._pickle.build_doublelist": _first,
    "torch.jit._pickle.build_boollist": _first,
    "torch.jit._pickle.build_tensorlist": _first,
    "torch.jit._pickle.restore_type_tag": _first,
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "MARK": _MARK}
_LITERALS = frozenset(
    (
        "BININT",
        "BININT1",
        "BININT2",
        "LONG1",
        "LONG4",
        "BINFLOAT",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE8",
    )
    + ("BINBYTES", "SHORT_BINBYTES", "BINBYTES8")
)
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": set}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "GLOBAL": lambda machine, argument: machine.push_name(argument.replace(" ", ".")),
    "STACK_GLOBAL": _Machine.stack_global,
    "INST": _Machine.refuse_instance,
    "OBJ": _Machine.refuse_instance,
    "BINPERSID": _Machine.persistent,
    "REDUCE": _Machine.reduce,
    "NEWOBJ": _Machine.new_object,
    "BUILD": _Machine.build,
    "SETITEM": lambda machine, _: machine.set_items(machine._pop_two()),
    "SETITEMS": lambda machine, _: machine.set_items(machine._pop_to_mark()),
    "APPEND": _Machine.append,
    "APPENDS": _Machine.extend,
    "ADDITEMS": _Machine.add_items,
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine._pop_to_mark())),
}
