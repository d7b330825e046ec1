"""Reads the zip files of `torch.save` and `torch.jit.save` without PyTorch, and without running
what they carry.
"""

import contextlib
import io
import math
import os
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vtd_jax.clip.weights.claims import GREATEST, check_names, check_shape
from vtd_jax.clip.weights.torch_pickle import (
    Foreign,
    ScriptObject,
    Storage,
    TensorView,
    read_pickle,
)
from vtd_jax.errors import UserError
from vtd_jax.untrusted.limits import (
    MODULE_ATTRIBUTES,
    PICKLE_BYTES,
    READ_AGAIN,
    SHARED_ELEMENTS,
    TENSOR_NAME,
    TENSORS,
    ZIP_TABLE_BYTES,
)
from vtd_jax.untrusted.regular_files import open_regular

CHUNK = 1 << 24
# what zipfile and its decoders raise on a damaged file
_DAMAGE = (
    zipfile.BadZipFile,
    ArithmeticError,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
    struct.error,
    zlib.error,
)
# where training scripts put the weights inside what they save
_NESTED = ("state_dict", "model_state_dict", "model")


class LazyTensor(NamedTuple):
    """A tensor of a checkpoint before it is read: its shape, a call that gives it as float32, and
    the dtype that it is stored in where that is known ("f4", "f2", "bfloat16", …)."""

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]
    dtype: str = ""


class TorchArchive(NamedTuple):
    """What a `.pt` holds: tensors by dotted name, whether it is a TorchScript module, and of which
    class.
    """

    tensors: dict[str, LazyTensor]
    is_script: bool
    kind: str


def open_torch_archive(
    path: Path, stack: contextlib.ExitStack, skip_foreign: bool = False
) -> TorchArchive:
    """Opens a `.pt`, `.pth` or `.bin` in PyTorch's zip format (1.6 and later, and every TorchScript
    since 1.4).

    Args:
      path: the file.
      stack: keeps the file open for as long as tensors are read.
      skip_foreign: whether objects made by code, beside the state dict, are passed over (see
        `read_pickle`).

    Raises:
      UserError: a truncated or damaged file, another kind of zip file, or one that carries code.
    """
    archive = _Archive(path, stack)
    root = read_pickle(archive.read_small("data.pkl"), str(path), skip_foreign)
    named = _named_tensors(root, str(path))
    check_names((name for name, _ in named), str(path))
    views = dict(named)
    users = Counter(view.storage.key for view in views.values())
    tensors, elements = {}, 0
    for name, view in views.items():
        archive.check(name, view)
        elements += math.prod(view.shape)
        if elements > SHARED_ELEMENTS * archive.size:
            raise UserError(
                f"{path}: damaged: its tensors, up to {name}, have {elements:,} elements, all in "
                f"{archive.size:,} bytes"
            )
        reader = _Reader(archive, name, view, users[view.storage.key] > 1)
        tensors[name] = LazyTensor(view.shape, reader, view.storage.dtype)
    is_script = isinstance(root, ScriptObject)
    return TorchArchive(tensors, is_script, root.kind if is_script else "")


class _Bounded(io.BufferedReader):
    """A zip file whose table of contents, which is read in one go, has an end."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > max(CHUNK, ZIP_TABLE_BYTES):
            raise zipfile.BadZipFile(
                f"a table of {size:,} bytes, expected at most {ZIP_TABLE_BYTES:,}"
            )
        return super().read(size)


class _Archive:
    """The records of one zip file."""

    def __init__(self, path: Path, stack: contextlib.ExitStack):
        self.path = path
        file = stack.enter_context(_Bounded(open_regular(path, "checkpoint").detach()))
        self.size = os.fstat(file.fileno()).st_size
        try:
            self.zip = stack.enter_context(zipfile.ZipFile(file))
        except _DAMAGE as error:
            raise UserError(
                f"{path}: truncated or damaged: {self.size} bytes that begin as a PyTorch archive "
                f"but have no readable table of contents at the end ({error}); download or copy "
                "it again"
            ) from None
        claimed = sum(
            entry.file_size
            for entry in self.zip.infolist()
            if entry.compress_type == zipfile.ZIP_STORED
        )
        if claimed > self.size:
            raise UserError(
                f"{path}: damaged: its records claim {claimed:,} of {self.size:,} bytes"
            )
        # bytes that may be read for all tensors together
        self.left = READ_AGAIN * (self.size + 2**20)
        roots = [
            n.removesuffix("/data.pkl") for n in self.zip.namelist() if n.endswith("/data.pkl")
        ]
        roots = [root for root in roots if "/" not in root]
        if len(roots) != 1:
            old = any(n.endswith("/model.json") for n in self.zip.namelist())
            what = (
                "TorchScript from before PyTorch 1.4: load and save it once"
                if old
                else "no torch.save wrote it"
            )
            raise UserError(
                f"{path}: a zip file without data.pkl ({what}); expected a CLIP checkpoint"
            )
        self.root = roots[0]
        order = self.read_small("byteorder", b"little")
        if order not in (b"little", b"big"):
            raise UserError(f"{path}: damaged: byte order {order[:16]!r}, expected little or big")
        self.endian = "<" if order == b"little" else ">"
        self.cached: tuple[Storage | None, np.ndarray | None] = (None, None)

    def _info(self, name: str) -> zipfile.ZipInfo | None:
        try:
            info = self.zip.getinfo(f"{self.root}/{name}")
        except KeyError:
            return None
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise UserError(
                f"{self.path}: record {name} is compressed or encrypted, torch.save stores "
                "records as they are: the file was re-zipped; use the original"
            )
        if info.file_size > self.size:
            raise UserError(
                f"{self.path}: damaged: record {name} claims {info.file_size} of {self.size} bytes"
            )
        return info

    def read_small(self, name: str, default: bytes | None = None) -> bytes:
        """A record's bytes."""
        info = self._info(name)
        if info is None:
            if default is None:
                raise UserError(
                    f"{self.path}: damaged: record {name} is missing; download or copy it again"
                )
            return default
        if info.file_size > PICKLE_BYTES:
            raise UserError(
                f"{self.path}: record {name} of {info.file_size:,} bytes, expected at most "
                f"{PICKLE_BYTES:,}"
            )
        return self.read(name, info).tobytes()

    def read(self, name: str, info: zipfile.ZipInfo) -> np.ndarray:
        """A record as bytes in memory of its own; its checksum is verified on the way."""
        self.left -= info.file_size
        if self.left < 0:
            raise UserError(
                f"{self.path}: its tensors share storages so that reading would take {READ_AGAIN} "
                "times its bytes; save a state dict of clones"
            )
        out = np.empty(info.file_size, np.uint8)
        at, view = 0, memoryview(out)
        try:
            with self.zip.open(info) as file:
                while chunk := file.read(CHUNK):
                    view[at : at + len(chunk)] = chunk
                    at += len(chunk)
        except _DAMAGE as error:
            raise UserError(
                f"{self.path}: damaged: record {name}: {error}; download or copy it again"
            ) from None
        if at != len(out):
            raise UserError(
                f"{self.path}: truncated: record {name} ends after {at} of {len(out)} bytes"
            )
        return out

    def check(self, name: str, view: TensorView) -> None:
        """Raises unless the tensor lies inside its storage, and the storage inside its record."""
        storage, where = view.storage, f"{self.path}: damaged: tensor {name}"
        info = self._info(f"data/{storage.key}")
        if info is None:
            raise UserError(
                f"{where}: its record data/{storage.key} is missing; download or copy it again"
            )
        if storage.numel * _item_size(storage) > info.file_size:
            raise UserError(
                f"{where}: needs {storage.numel} elements, data/{storage.key} has "
                f"{info.file_size} bytes; download or copy it again"
            )
        check_shape(name, view.shape, str(self.path))
        place = f"shape {view.shape} with strides {view.stride} from {view.offset}"
        if any(not 0 <= n < GREATEST for n in (view.offset, *view.stride)):
            raise UserError(f"{where}: {place}: expected numbers from 0 to below 2⁴⁸")
        last = view.offset + sum((n - 1) * step for n, step in zip(view.shape, view.stride))
        if (count := math.prod(view.shape)) > storage.numel or (count and last >= storage.numel):
            raise UserError(f"{where}: {place} leaves its storage of {storage.numel} elements")

    def elements(self, storage: Storage, shared: bool) -> np.ndarray:
        """The storage's elements; one that several tensors share is kept until another is read."""
        if storage == self.cached[0]:
            return self.cached[1]
        self.cached = (None, None)
        name = f"data/{storage.key}"
        raw = self.read(name, self._info(name))[: storage.numel * _item_size(storage)]
        dtype = np.dtype("u2" if storage.dtype == "bfloat16" else storage.dtype).newbyteorder(
            self.endian
        )
        flat = raw.view(dtype)
        if shared:
            self.cached = (storage, flat)
        return flat


class _Reader(NamedTuple):
    """Reads one tensor as float32: strides and offset honoured, memory never shared with another
    tensor.
    """

    archive: _Archive
    name: str
    view: TensorView
    shared: bool

    def __call__(self) -> np.ndarray:
        storage, offset, shape, stride = self.view
        if storage.dtype[0] not in "bf":
            raise UserError(
                f"{self.archive.path}: tensor {self.name} holds integers, expected floating point"
            )
        flat = self.archive.elements(storage, self.shared)
        # along a side of one element, any step is right
        steps = [step * flat.itemsize if size > 1 else 0 for size, step in zip(shape, stride)]
        array = np.lib.stride_tricks.as_strided(flat[offset:], shape, steps)
        if storage.dtype == "bfloat16":
            # a bfloat16 is the upper half of a float32
            wide = np.array(array, np.uint32, order="C")
            return np.left_shift(wide, 16, out=wide).view(np.float32)
        with np.errstate(over="ignore"):
            return np.array(array, np.float32, order="C", copy=True if self.shared else None)


def _item_size(storage: Storage) -> int:
    return 2 if storage.dtype == "bfloat16" else np.dtype(storage.dtype).itemsize


def _named_tensors(root: Any, where: str) -> list[tuple[str, TensorView]]:
    """Tensors by dotted name, of a TorchScript module or of the state dict wherever a training
    script nested it.
    """
    if isinstance(root, ScriptObject):
        return _module_tensors(root, where)
    level = root
    for _ in range(4):
        if isinstance(level, ScriptObject):
            return _module_tensors(level, where)
        if not isinstance(level, dict):
            break
        named = [(name, value) for name, value in level.items() if isinstance(value, TensorView)]
        if named:
            if wrong := [name for name, _ in named if not isinstance(name, str)]:
                raise UserError(
                    f"{where}: tensor named {wrong[0]!r}, expected a state dict with text for names"
                )
            if foreign := [
                (name, value.kind) for name, value in level.items() if isinstance(value, Foreign)
            ]:
                raise UserError(
                    f"{where}: carries code ({foreign[0][1]}) as {foreign[0][0]!r} among its "
                    "tensors; it has not run"
                )
            return named
        level = next((level[key] for key in _NESTED if key in level), None)
    if isinstance(level, Foreign):
        raise UserError(
            f"{where}: holds an object of code ({level.kind}), which is not run; save its "
            "state_dict()"
        )
    held = (
        f"; it holds {', '.join(map(str, list(root)[:6])) or 'nothing'}"
        if isinstance(root, dict)
        else ""
    )
    raise UserError(
        f"{where}: a PyTorch archive without a state dict, bare or under {', '.join(_NESTED)}{held}"
    )


def _module_tensors(root: ScriptObject, where: str) -> list[tuple[str, TensorView]]:
    """Walks modules in attribute order; a module that appears twice has its tensors under both
    names.
    """
    named, pending, visits = [], [("", root)], 0
    while pending:
        prefix, module = pending.pop()
        visits += 1 + len(module.attributes)
        # a module that holds itself would go on for ever, and a few that hold each other twice
        # nearly so
        if visits > MODULE_ATTRIBUTES or len(named) > TENSORS or len(prefix) > TENSOR_NAME:
            raise UserError(f"{where}: damaged: its modules nest without end")
        for name, value in module.attributes.items():
            if isinstance(value, TensorView):
                named.append((f"{prefix}{name}", value))
            elif isinstance(value, ScriptObject):
                pending.append((f"{prefix}{name}.", value))
    if not named:
        raise UserError(
            f"{where}: a TorchScript archive without tensors; expected a CLIP checkpoint"
        )
    return named
