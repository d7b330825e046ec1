"""Reads the pickle inside a PyTorch archive without the power to run anything.

A subclass of `pickle.Unpickler` with an allow list in `find_class` would refuse code, but bound
neither time nor memory: its C code puts keys into dicts by itself. A key of 60 nested pairs, each
holding the previous one twice, takes 250 bytes and years to hash. 40 000 numbers of equal hash take
15 s, twice as many take four times as long. Only following the stack shows which values become
keys, and that is what this machine does (`torch.load(weights_only=True)` has one, too).
`pickletools` parses the stream and checks every length against the bytes that are left.
"""

import pickletools
import struct
import warnings
from collections.abc import Callable
from typing import Any

from vtd_jax.clip.weights.pytorch.values import (
    CALLS,
    Foreign,
    Name,
    ScriptObject,
    Storage,
    Unexpected,
    plain_keys,
)
from vtd_jax.errors import UserError

_MARK = object()
# numbers are sizes, steps and seeds; Python refuses to print one of many more digits
_NUMBER_BITS = 1024
# values that may be copied for each byte of the stream; an honest one copies each once or twice
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
      UserError: the stream names code (nothing of it has run), or is damaged.
    """
    machine = _Machine(where, skip_foreign, _COPIES * len(data))
    try:
        with warnings.catch_warnings():
            # pickletools decodes texts of protocol 0 with Python's escapes, and warns of odd ones
            warnings.simplefilter("ignore", DeprecationWarning)
            for opcode, argument, _ in pickletools.genops(data):
                machine.step(opcode.name, argument)
        (root,) = machine.stack
        return root
    except UserError:
        raise
    except (Unexpected, ArithmeticError, LookupError, TypeError, ValueError, struct.error) as error:
        raise UserError(
            f"{where}: damaged, its table of tensors (data.pkl) cannot be read: {error}"
        ) from None


class _Machine:
    """The stack, the memo and one method a kind of instruction."""

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
                raise Unexpected(f"a number of {argument.bit_length():,} bits")
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
                raise Unexpected(f"instruction {op} has no place in a checkpoint")
            act(self, argument)

    def _top(self, size: int) -> list[Any]:
        if len(self.stack) < size or any(x is _MARK for x in self.stack[-size:]):
            raise Unexpected("its stack runs empty")
        return self.stack[-size:]

    def _spend(self, *values: Any) -> None:
        """Counts copied values: a stream may use the same long value again and again."""
        self.copies -= sum(
            len(value)
            for value in values
            if isinstance(value, tuple | list | dict | set | str | bytes)
        )
        if self.copies < 0:
            raise Unexpected("the same values are copied over and over")

    def _pop(self, size: int) -> list[Any]:
        values = self._top(size)
        del self.stack[-size:]
        return values

    def _pop_to_mark(self) -> list[Any]:
        for at in range(len(self.stack) - 1, -1, -1):
            if self.stack[at] is _MARK:
                values = self.stack[at + 1 :]
                del self.stack[at:]
                return values
        raise Unexpected("its stack has no mark")

    def _container(self, kind: type) -> Any:
        (value,) = self._top(1)
        if isinstance(value, Foreign):
            # what is put into it is dropped
            return kind()
        if not isinstance(value, kind):
            raise Unexpected(f"items for a {type(value).__name__}")
        return value

    def push_name(self, text: str) -> None:
        """A class or function, which its name admits, skips or refuses."""
        name = Name(text)
        if not name.is_known and not self.skip_foreign:
            raise UserError(
                f"{self.where}: carries code ({text}): a checkpoint holds tensors and containers "
                "only, so loading refuses it and has run none of it; save the model's "
                "state_dict() alone, or get the file elsewhere"
            )
        self.stack.append(name if name.is_known else Foreign(text))

    def stack_global(self, _: Any) -> None:
        """A name given as two strings."""
        module, name = self._pop(2)
        if not (isinstance(module, str) and isinstance(name, str)):
            raise Unexpected("a name that is not text")
        self.push_name(f"{module}.{name}")

    def refuse_instance(self, argument: Any) -> None:
        """`INST` and `OBJ` make objects as PyTorch never does."""
        if argument is not None:
            self.push_name(argument.replace(" ", "."))
        raise Unexpected("instruction INST or OBJ has no place in a checkpoint")

    def persistent(self, _: Any) -> None:
        """A storage, named by `("storage", class, key, device, elements)`."""
        match self._pop(1):
            case [("storage", Foreign() as kind, *_)]:
                self.stack.append(kind)
            case [("storage", Name() as name, str(key), str(), int(numel))] if numel >= 0:
                if name.storage is None:
                    raise Unexpected(f"a storage of {name.name}")
                self.stack.append(Storage(name.storage, key, numel))
            case _:
                raise Unexpected("a storage in words that PyTorch does not use")

    def reduce(self, _: Any) -> None:
        """A call of one of `CALLS`; with anything foreign in it, its result is foreign."""
        name, arguments = self._pop(2)
        if isinstance(arguments, tuple):
            self._spend(arguments)
            foreign = next((part for part in (name, *arguments) if isinstance(part, Foreign)), None)
            if foreign is not None:
                self.stack.append(Foreign(foreign.kind))
                return
        if not isinstance(name, Name) or not isinstance(arguments, tuple):
            raise Unexpected("a call of something that is no function")
        if name.name in CALLS:
            self._spend(*arguments)
            self.stack.append(CALLS[name.name](*arguments))
        elif name.is_script:
            self.stack.append(ScriptObject(name.name))
        else:
            raise Unexpected(f"a call of {name.name}")

    def new_object(self, _: Any) -> None:
        """A TorchScript object without attributes yet."""
        name, arguments = self._pop(2)
        if isinstance(name, Foreign):
            self.stack.append(Foreign(name.kind))
        elif isinstance(name, Name) and name.is_script and arguments == ():
            self.stack.append(ScriptObject(name.name))
        else:
            raise Unexpected("an object of a class that is not TorchScript's")

    def build(self, _: Any) -> None:
        """Attributes of a TorchScript object; a state dict's `_metadata` is dropped."""
        target, state = self._top(2)
        self.stack.pop()
        if isinstance(target, ScriptObject):
            if isinstance(state, dict):
                self._spend(state)
                target.attributes.update(state)
        elif not isinstance(target, dict | Foreign):
            raise Unexpected(f"attributes for a {type(target).__name__}")

    def set_items(self, pairs: list[Any]) -> None:
        """Keys and values, in turn, into the dict on top."""
        if len(pairs) % 2:
            raise Unexpected("a key without a value")
        self._container(dict).update(zip(plain_keys(pairs[::2]), pairs[1::2]))

    def extend(self, values: list[Any]) -> None:
        """Values into the list on top."""
        self._container(list).extend(values)

    def add_items(self, values: list[Any]) -> None:
        """Values into the set on top."""
        self._container(set).update(plain_keys(values))


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "MARK": _MARK}
_LITERALS = {
    *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
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
    "SETITEM": lambda machine, _: machine.set_items(machine._pop(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine._pop_to_mark()),
    "APPEND": lambda machine, _: machine.extend(machine._pop(1)),
    "APPENDS": lambda machine, _: machine.extend(machine._pop_to_mark()),
    "ADDITEMS": lambda machine, _: machine.add_items(machine._pop_to_mark()),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine._pop_to_mark())),
}
