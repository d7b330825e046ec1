"""The records of a PyTorch archive: a zip file that is checked before and while it is read."""

import contextlib
import io
import math
import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vtd_jax.clip.weights.claims import GREATEST, check_shape
from vtd_jax.clip.weights.pytorch.values import Storage, TensorView
from vtd_jax.errors import UserError
from vtd_jax.untrusted.limits import PICKLE_BYTES, READ_AGAIN, ZIP_TABLE_BYTES
from vtd_jax.untrusted.regular_files import open_regular

# bytes a read
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


class _Bounded(io.BufferedReader):
    """A zip file whose table of contents, which is read in one go, has an end."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > max(CHUNK, ZIP_TABLE_BYTES):
            raise zipfile.BadZipFile(
                f"a table of {size:,} bytes, expected at most {ZIP_TABLE_BYTES:,}"
            )
        return super().read(size)


class Records:
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
        # bytes that may still be read, for all tensors
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
        # archives of before PyTorch 2.1 have no such record
        has_order = f"{self.root}/byteorder" in self.zip.namelist()
        order = self.read_small("byteorder") if has_order else b"little"
        if order not in (b"little", b"big"):
            raise UserError(f"{path}: damaged: byte order {order[:16]!r}, expected little or big")
        self.endian = "<" if order == b"little" else ">"
        self.cached: tuple[Storage, np.ndarray] | None = None

    def _info(self, name: str, user: str = "") -> zipfile.ZipInfo:
        """The entry of a record, which messages call `user`'s."""
        try:
            info = self.zip.getinfo(f"{self.root}/{name}")
        except KeyError:
            raise UserError(
                f"{self.path}: damaged: {user}record {name} is missing; download or copy it again"
            ) from None
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

    def read_small(self, name: str) -> bytes:
        """A record's bytes."""
        info = self._info(name)
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
        at, view = 0, out.data
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
        info = self._info(f"data/{storage.key}", f"tensor {name}: its ")
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
        if self.cached is not None and storage == self.cached[0]:
            return self.cached[1]
        # freed before the next one is read
        self.cached = None
        name = f"data/{storage.key}"
        raw = self.read(name, self._info(name))[: storage.numel * _item_size(storage)]
        kind = "u2" if storage.dtype == "bfloat16" else storage.dtype
        flat = raw.view(f"{self.endian}{kind}")
        if shared:
            self.cached = (storage, flat)
        return flat


class Reader(NamedTuple):
    """Reads one strided tensor as float32 into memory of its own."""

    records: Records
    name: str
    view: TensorView
    shared: bool

    def __call__(self) -> np.ndarray:
        storage, offset, shape, stride = self.view
        if storage.dtype[0] not in "bf":
            raise UserError(
                f"{self.records.path}: tensor {self.name} holds integers, expected floating point"
            )
        flat = self.records.elements(storage, self.shared)
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
