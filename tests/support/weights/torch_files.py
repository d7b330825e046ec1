"""Writes the zip files of `torch.save` and `torch.jit.save` without PyTorch, through Python's own
pickler.
"""

import contextlib
import io
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

STORAGES = {
    "f8": "DoubleStorage",
    "f4": "FloatStorage",
    "f2": "HalfStorage",
    "bf16": "BFloat16Storage",
    "i8": "LongStorage",
}


@dataclass(eq=False)
class FakeStorage:
    """Elements as PyTorch keeps them; `kind` is a key of STORAGES."""

    array: np.ndarray
    kind: str
    numel: int | None = None

    def record(self, order: str = "<") -> bytes:
        """The bytes of the archive's record."""
        if self.kind == "bf16":
            upper = np.ascontiguousarray(self.array, "f4").view(np.uint32) >> 16
            return upper.astype(f"{order}u2").tobytes()
        return self.array.astype(f"{order}{self.kind}").tobytes()


@dataclass(eq=False)
class FakeTensor:
    """A view of a storage, as the pickle describes it."""

    storage: FakeStorage
    shape: tuple
    stride: tuple
    offset: Any = 0
    parameter: bool = False

    def __reduce__(self):
        utils = sys.modules["torch._utils"]
        plain = (self.storage, self.offset, self.shape, self.stride, False, OrderedDict())
        if not self.parameter:
            return utils._rebuild_tensor_v2, plain
        data = FakeTensor(self.storage, self.shape, self.stride, self.offset)
        return utils._rebuild_parameter, (data, True, OrderedDict())


# OpenAI's archives keep these three beside the weights
SCRIPT_NUMBERS = {"input_resolution": 224, "context_length": 77, "vocab_size": 49408}
_SCRIPT_CLASSES: dict[str, type] = {}


def script_object(attributes: dict, kind: str = "__torch__.multimodal.model.Multimodal"):
    """An object of a TorchScript class: attributes under a class name inside `__torch__`."""
    module, _, name = kind.rpartition(".")
    made = _SCRIPT_CLASSES.setdefault(kind, type(name, (), {"__module__": module}))()
    made.__dict__.update(attributes)
    return made


def tensor(array, kind: str = "f4", **more) -> FakeTensor:
    """A contiguous tensor with a storage of its own."""
    array = np.asarray(array)
    stride = tuple(int(np.prod(array.shape[i + 1 :], dtype=int)) for i in range(array.ndim))
    return FakeTensor(FakeStorage(array.reshape(-1), kind), array.shape, stride, **more)


def state_dict(state: dict, kind: str = "f4", prefix: str = "") -> OrderedDict:
    """Arrays as the `OrderedDict` with `_metadata` that `module.state_dict()` gives."""
    out = OrderedDict((prefix + name, tensor(array, kind)) for name, array in state.items())
    out._metadata = OrderedDict({"": {"version": 1}})
    return out


def script_module(state: dict, kind: str = "f2"):
    """The same arrays as nested modules with the flags and numbers that TorchScript adds."""
    root = script_object({"training": False, "_is_full_backward_hook": None})
    for name, array in state.items():
        *path, leaf = name.split(".")
        module = root
        for depth, part in enumerate(path):
            mangled = f"__torch__.torch.nn.___torch_mangle_{depth}.Sequential"
            module = module.__dict__.setdefault(part, script_object({"training": False}, mangled))
        module.__dict__[leaf] = tensor(array, kind)
    for name, value in SCRIPT_NUMBERS.items():
        root.__dict__[name] = tensor(np.array(value), "i8")
    return root


@contextlib.contextmanager
def _torch_names():
    """Modules named like PyTorch's for as long as the pickler looks names up."""
    classes = {
        f"torch._utils.{name}": None for name in ("_rebuild_tensor_v2", "_rebuild_parameter")
    }
    classes |= dict.fromkeys(f"torch.{name}" for name in STORAGES.values()) | _SCRIPT_CLASSES
    made: dict[str, types.ModuleType] = {}
    for full, cls in classes.items():
        module, _, name = full.rpartition(".")
        parts = module.split(".")
        for i in range(1, len(parts) + 1):
            package = ".".join(parts[:i])
            made.setdefault(package, types.ModuleType(package))
        setattr(made[module], name, cls or type(name, (), {"__module__": module}))
    with pytest.MonkeyPatch.context() as patch:
        for name, module in made.items():
            patch.setitem(sys.modules, name, module)
        yield


@dataclass
class _Keys:
    storages: list = field(default_factory=list)

    def __call__(self, value):
        if not isinstance(value, FakeStorage):
            return None
        if not any(value is known for known in self.storages):
            self.storages.append(value)
        key = next(i for i, known in enumerate(self.storages) if known is value)
        numel = value.array.size if value.numel is None else value.numel
        return (
            "storage",
            getattr(sys.modules["torch"], STORAGES[value.kind]),
            str(key),
            "cpu",
            numel,
        )


def dumps(root: Any, protocol: int = 2) -> tuple[bytes, list[FakeStorage]]:
    """`data.pkl` and the storages that it names."""
    buffer, keys = io.BytesIO(), _Keys()
    kind = type("Pickler", (pickle.Pickler,), {"persistent_id": lambda self, value: keys(value)})
    with _torch_names():
        kind(buffer, protocol).dump(root)
    return buffer.getvalue(), keys.storages


def save(path: Path, root: Any, *, order: str = "<", protocol: int = 2, **options) -> Path:
    """Writes an archive of `root`; options are those of `save_raw`."""
    data, storages = dumps(root, protocol)
    return save_raw(
        path, data, {f"data/{i}": s.record(order) for i, s in enumerate(storages)}, order, **options
    )


def save_raw(
    path: Path,
    data: bytes,
    records=(),
    order: str = "<",
    *,
    name: str = "archive",
    drop=(),
    compression: int = zipfile.ZIP_STORED,
) -> Path:
    """Writes an archive around a given `data.pkl`; `drop` names records to leave out."""
    byteorder = {"<": b"little", ">": b"big"}.get(order, order.encode())
    entries = {
        "data.pkl": data,
        "constants.pkl": b"\x80\x02).",
        "code/__torch__.py": b"def forward(): pass\n",
    }
    entries |= {"byteorder": byteorder, **dict(records), "version": b"3\n"}
    with zipfile.ZipFile(path, "w", compression) as file:
        for entry, content in entries.items():
            if entry not in drop:
                file.writestr(f"{name}/{entry}", content)
    return path
