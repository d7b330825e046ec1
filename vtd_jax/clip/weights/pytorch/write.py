"""Writes tensors as the zip file that `torch.load` reads, without PyTorch."""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vtd_jax.errors import UserError
from vtd_jax.files import replacing

_ALIGNMENT = 64
# bytes before the name in the header of a zip entry
_HEADER = 30
# the extra field of a zip entry that torch.save pads with: two letters, then the length of what
# follows
_PADDING = b"FB"


def write_torch_archive(path: Path, state: Mapping[str, np.ndarray], key: str = "model") -> None:
    """Writes what `torch.save({key: OrderedDict(state)}, path)` would: `torch.load(path,
    weights_only=True)` reads it.

    Args:
      path: written whole or not at all; a file that is there is replaced.
      state: name -> floating array, written as float32 in C order.
      key: under which the state dict lies.

    Raises:
      UserError: an array that is not floating, or the file cannot be written.
    """
    for name, array in state.items():
        if np.asarray(array).dtype.kind != "f":
            raise UserError(
                f"{path}: tensor {name} is {np.asarray(array).dtype}, expected floating point"
            )
    try:
        with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as file:
            _add(file, "data.pkl", _table(state, key))
            _add(file, "byteorder", b"little")
            for number, array in enumerate(state.values()):
                _add(file, f"data/{number}", np.asarray(array).astype("<f4").tobytes())
            _add(file, "version", b"3\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from None


def _add(file: zipfile.ZipFile, name: str, content: bytes) -> None:
    """Adds an uncompressed record, aligned to 64 bytes so that readers can map it."""
    info = zipfile.ZipInfo(f"archive/{name}")
    assert file.fp is not None
    start = file.fp.tell() + _HEADER + len(info.filename) + 4
    padding = -start % _ALIGNMENT
    info.extra = _PADDING + padding.to_bytes(2, "little") + b"Z" * padding
    file.writestr(info, content)


def _table(state: Mapping[str, np.ndarray], key: str) -> bytes:
    """The pickle (protocol 2) of `{key: OrderedDict(name -> tensor)}`, storages by number."""
    items = b"".join(
        _text(name) + _tensor(number, np.shape(array))
        for number, (name, array) in enumerate(state.items())
    )
    pairs = pickle.MARK + items + pickle.SETITEMS
    start = pickle.PROTO + b"\x02" + pickle.EMPTY_DICT + _text(key)
    return start + _ORDERED_DICT + pairs + pickle.SETITEM + pickle.STOP


def _tensor(number: int, shape: tuple[int, ...]) -> bytes:
    """A call of PyTorch's `_rebuild_tensor_v2`."""
    strides = tuple(int(np.prod(shape[axis + 1 :], dtype=np.int64)) for axis in range(len(shape)))
    numel = int(np.prod(shape, dtype=np.int64))
    kind, key = _global("torch", "FloatStorage"), _text(str(number))
    storage = _tuple(_text("storage"), kind, key, _text("cpu"), _int(numel)) + pickle.BINPERSID
    sizes = _tuple(*map(_int, shape)), _tuple(*map(_int, strides))
    # storage, offset, shape, strides, requires_grad, hooks
    arguments = _tuple(storage, _int(0), *sizes, pickle.NEWFALSE, _ORDERED_DICT)
    return _global("torch._utils", "_rebuild_tensor_v2") + arguments + pickle.REDUCE


def _global(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _tuple(*parts: bytes) -> bytes:
    return pickle.MARK + b"".join(parts) + pickle.TUPLE


def _text(value: str) -> bytes:
    encoded = value.encode()
    return pickle.BINUNICODE + len(encoded).to_bytes(4, "little") + encoded


def _int(value: int) -> bytes:
    encoded = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return pickle.LONG1 + bytes([len(encoded)]) + encoded


# an empty one
_ORDERED_DICT = _global("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE
