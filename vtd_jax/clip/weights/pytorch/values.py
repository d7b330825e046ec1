"""Values that the pickle of a PyTorch archive may hold: tensors, storages and containers.

Nothing that a file names is imported or run. A name that is not in `CALLS` is refused, or becomes
an empty stand-in.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

# storage class -> NumPy dtype of its elements; NumPy has no bfloat16, `archive` widens it
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
# whole numbers beyond this can be chosen to have equal hashes, and fill a dict in quadratic time
_KEY = 2**60


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
    """A TorchScript object (class `__torch__.…`): its attributes only, its code is never read."""

    kind: str
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(eq=False)
class Foreign:
    """Stands for an object that the code named `kind` would have made; it is empty."""

    kind: str


class Name(NamedTuple):
    """A class or function that the stream names: text on the stack, never looked up."""

    name: str

    @property
    def is_script(self) -> bool:
        """Whether it is a class of TorchScript."""
        return self.name.startswith("__torch__.")

    @property
    def storage(self) -> str | None:
        """The dtype of its elements, of a class of storages; None for any other name."""
        return STORAGES.get(self.name.removeprefix("torch.").removeprefix("storage."))

    @property
    def is_known(self) -> bool:
        """Whether a checkpoint of tensors and containers may hold it."""
        return self.name in CALLS or self.is_script or self.storage is not None


class Unexpected(Exception):
    """The stream is well-formed, but describes no checkpoint."""


def plain_keys(keys: Sequence[Any]) -> Sequence[Any]:
    """Keys of dicts and items of sets, if their hashes are cheap and differ.

    Raises:
      Unexpected: a container, whose hash may take for ever, or a number of many digits.
    """
    for key in keys:
        if not isinstance(key, str | int | float | bytes | Foreign | None):
            raise Unexpected(f"a {type(key).__name__} as a key")
        if isinstance(key, int) and abs(key) > _KEY:
            raise Unexpected(f"the number {key} as a key")
    return keys


def _ordered_dict(pairs: Any = ()) -> dict:
    pairs = [(key, value) for key, value in pairs]
    return dict(zip(plain_keys([key for key, _ in pairs]), (value for _, value in pairs)))


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> TensorView:
    if not (
        isinstance(storage, Storage) and isinstance(shape, tuple) and isinstance(stride, tuple)
    ):
        raise Unexpected("a tensor without storage, shape or strides")
    # whether they lie in the storage is checked where the tensor's name is known
    if len(shape) != len(stride) or any(type(n) is not int for n in (offset, *shape, *stride)):
        raise Unexpected("a tensor whose offset, shape or strides are no numbers")
    return TensorView(storage, offset, shape, stride)


def _first(value: Any, *_: Any) -> Any:
    return value


CALLS: dict[str, Callable] = {
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
