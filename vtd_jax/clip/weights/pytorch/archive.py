"""Reads zip files of `torch.save` and `torch.jit.save` without PyTorch or running code."""

import contextlib
import math
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from vtd_jax.clip.weights.claims import check_names
from vtd_jax.clip.weights.lazy import LazyTensor
from vtd_jax.clip.weights.pytorch.records import Reader, Records
from vtd_jax.clip.weights.pytorch.unpickle import read_pickle
from vtd_jax.clip.weights.pytorch.values import Foreign, ScriptObject, TensorView
from vtd_jax.errors import UserError
from vtd_jax.printable import listed
from vtd_jax.untrusted.limits import MODULE_ATTRIBUTES, SHARED_ELEMENTS, TENSOR_NAME, TENSORS

# where training scripts put the weights inside what they save
_NESTED = ("state_dict", "model_state_dict", "model")


class TorchArchive(NamedTuple):
    """Tensors of a `.pt` by dotted name, whether it is a TorchScript module, and of which class."""

    tensors: dict[str, LazyTensor]
    is_script: bool
    kind: str


def open_torch_archive(
    path: Path,
    stack: contextlib.ExitStack,
    skip_foreign: bool = False,
    also: tuple[str, ...] = (),
) -> TorchArchive:
    """Opens a `.pt`, `.pth` or `.bin` in PyTorch's zip format (1.6 and later, and every TorchScript
    since 1.4).

    Args:
      path: the file.
      stack: keeps the file open for as long as tensors are read.
      skip_foreign: whether objects made by code, beside the state dict, are passed over (see
        `read_pickle`).
      also: further names under which a state dict may lie.

    Raises:
      UserError: a truncated or damaged file, another kind of zip file, or one that carries code.
    """
    records = Records(path, stack)
    root = read_pickle(records.read_small("data.pkl"), str(path), skip_foreign)
    named = _named_tensors(root, str(path), (*_NESTED, *also))
    check_names((name for name, _ in named), str(path))
    views = dict(named)
    users = Counter(view.storage.key for view in views.values())
    tensors, elements = {}, 0
    for name, view in views.items():
        records.check(name, view)
        elements += math.prod(view.shape)
        if elements > SHARED_ELEMENTS * records.size:
            raise UserError(
                f"{path}: damaged: its tensors, up to {name}, have {elements:,} elements, all in "
                f"{records.size:,} bytes"
            )
        reader = Reader(records, name, view, users[view.storage.key] > 1)
        tensors[name] = LazyTensor(view.shape, reader, view.storage.dtype)
    is_script = isinstance(root, ScriptObject)
    return TorchArchive(tensors, is_script, root.kind if is_script else "")


def _named_tensors(
    root: Any, where: str, nested: tuple[str, ...] = _NESTED
) -> list[tuple[str, TensorView]]:
    """Tensors by dotted name, of a TorchScript module or of a state dict, bare or under one of the
    names `nested`.
    """
    if isinstance(root, ScriptObject):
        return _module_tensors(root, where)
    level = root
    # training scripts nest it once or twice
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
        level = next((level[key] for key in nested if key in level), None)
    if isinstance(level, Foreign):
        raise UserError(
            f"{where}: holds an object of code ({level.kind}), which is not run; save its "
            "state_dict()"
        )
    held = f"; it holds {listed(list(root), 6) or 'nothing'}" if isinstance(root, dict) else ""
    raise UserError(
        f"{where}: a PyTorch archive without a state dict, bare or under {', '.join(nested)}{held}"
    )


def _module_tensors(root: ScriptObject, where: str) -> list[tuple[str, TensorView]]:
    """Tensors of modules in attribute order; shared modules appear under every name."""
    named, pending, visits = [], [("", root)], 0
    while pending:
        prefix, module = pending.pop()
        visits += 1 + len(module.attributes)
        # a module that holds itself would never end, and a few that hold each other twice
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
