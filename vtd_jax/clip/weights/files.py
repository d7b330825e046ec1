"""Opens a file or folder of weights of any format, or reports in one line what it is instead."""

import contextlib
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError

from vtd_jax.clip.hub.names import is_inside, meant
from vtd_jax.clip.weights.claims import check_names
from vtd_jax.clip.weights.lazy import LazyTensor
from vtd_jax.clip.weights.pytorch.archive import open_torch_archive
from vtd_jax.clip.weights.safetensors_files import open_safetensors
from vtd_jax.errors import UserError, function
from vtd_jax.printable import listed
from vtd_jax.untrusted import json_text
from vtd_jax.untrusted.limits import SHARDS, SMALL_JSON_BYTES
from vtd_jax.untrusted.regular_files import is_regular, open_regular

SOURCES = (
    "CLIP checkpoints: by name (ViT-B/16, hf:openai/clip-vit-base-patch16, "
    "open_clip:ViT-B-16/laion2b_s34b_b88k), OpenAI's .pt files, Hugging Face and open_clip files "
    "or folders, or tiny, the one shipped here"
)
# the first of these in a folder is read; the first four are Hugging Face's, the others open_clip's
FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)
# PyTorch's format before 1.6: a pickled magic number comes first
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_FLOATS = ("F16", "BF16", "F32", "F64")


class Weights(NamedTuple):
    """Tensors that are not read yet, and facts about the file.

    Attributes:
      tensors: by the names that the file uses.
      metadata: the text that a safetensors header carries.
      folder: where a config.json or open_clip_config.json would be.
      is_script: True for a TorchScript archive: OpenAI's own, which no config describes.
      kind: of a TorchScript archive: its class.
      ordered: True where tensors come in the order in which a module listed them, as in PyTorch's
        files.
    """

    tensors: dict[str, LazyTensor]
    metadata: dict[str, str]
    folder: Path
    is_script: bool = False
    kind: str = ""
    ordered: bool = False


def open_weights(
    path: Path,
    stack: contextlib.ExitStack,
    *,
    skip_foreign: bool = False,
    sources: str = SOURCES,
    also: tuple[str, ...] = (),
) -> Weights:
    """Opens a checkpoint file, a sharded one by its index, or a folder that has one of `FILES`.

    Args:
      path: file or folder.
      stack: keeps files open for as long as tensors are read.
      skip_foreign, also: as for `open_torch_archive`.
      sources: where a right file comes from, for messages.

    Raises:
      UserError: nothing there, an empty or truncated file, or something that is no checkpoint.
    """
    try:
        if path.is_dir():
            path = _in_folder(path)
        if not path.exists():
            name = meant(str(path))
            # a `Path` and what begins with ./ are never names
            how = " (a text, no Path and without ./)" if name == str(path) else ""
            instead = f"; did you mean the name {name}{how}?" if name else "."
            raise UserError(f"{path}: no such file or folder{instead} {sources}")
        if path.name.endswith(".index.json"):
            return _open_shards(path, stack)
        with open_regular(path, "checkpoint") as file:
            head = file.read(1024)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    if head.startswith(b"PK\x03\x04"):
        archive = open_torch_archive(path, stack, skip_foreign, also)
        return Weights(
            archive.tensors, {}, path.parent, archive.is_script, archive.kind, ordered=True
        )
    # the header's length comes first and may begin like any other format: its upper half and the
    # brace decide
    is_safetensors = head[4:9] == b"\0\0\0\0{"
    misplaced = "" if is_safetensors else _misplaced(head)
    if is_safetensors or (path.suffix == ".safetensors" and not misplaced):
        return _open_safetensors(path, stack)
    raise UserError(f"{path}: {misplaced or 'not a checkpoint that is known here'}. {sources}")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file beside weights, an object of at most 16 MiB; anything else is a `UserError`."""
    return json_text.read_json(path, dict[str, Any], most=SMALL_JSON_BYTES)


def _misplaced(head: bytes) -> str:
    """What a file that is no checkpoint most likely is, by its first bytes; "" if that is open."""
    text = head.lstrip().lower()
    if not head:
        return "empty file: the download failed"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the weights: run git lfs pull in its repository"
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "a web page saved under this name, not the weights: download the file itself"
    if head.startswith(_LEGACY) or head[257:262] == b"ustar":
        return (
            "PyTorch's format from before 1.6, read only by PyTorch: convert it there once, "
            "torch.save(torch.load(FILE, map_location='cpu', weights_only=True), NEW_FILE)"
        )
    if head.startswith(b"\x80"):
        return (
            "a Python pickle, which could run code and is not opened: save it with torch.save or "
            "as safetensors"
        )
    if head.startswith((b"\x1f\x8b", b"7z\xbc\xaf", b"BZh")):
        return "a compressed file: unpack it first"
    return ""


def _in_folder(folder: Path) -> Path:
    for name in FILES:
        if (folder / name).exists():
            return folder / name
    found = sorted(entry.name for entry in folder.iterdir())
    if "program.jaxexport" in found:
        raise UserError(
            f"{folder}: a folder of {function('write_served')}, whose labels are fixed and whose "
            f"weights are in its program: run python {folder / 'predict.py'} VIDEO, or give the "
            "run or CLIP that it was made of"
        )
    if "checkpoints" in found:
        raise UserError(
            f"{folder}: a run's folder that lacks its config.json, without which checkpoints say "
            "nothing; copy that file from where the run was made"
        )
    raise UserError(
        f"{folder}: folder without weights, it holds {listed(found, 6) or 'nothing'}; "
        f"expected one of {', '.join(FILES)}"
    )


def _open_safetensors(path: Path, stack: contextlib.ExitStack) -> Weights:
    file = open_safetensors(path, stack)
    names = list(file.keys())
    slices = {name: file.get_slice(name) for name in names}
    shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
    kinds = {name: part.get_dtype() for name, part in slices.items()}

    def reader(name: str):
        def read() -> np.ndarray:
            if kinds[name] not in _FLOATS:
                raise UserError(
                    f"{path}: tensor {name} holds {kinds[name]}, expected one of "
                    f"{', '.join(_FLOATS)}"
                )
            try:
                with np.errstate(over="ignore"):
                    return file.get_tensor(name).astype(np.float32, copy=False)
            except (SafetensorError, ValueError, TypeError) as error:
                raise UserError(f"{path}: tensor {name} cannot be read: {error}") from None

        return read

    return Weights(
        {n: LazyTensor(shapes[n], reader(n)) for n in names}, file.metadata() or {}, path.parent
    )


def shards_named(index: Path) -> list[str]:
    """The files that the index of a model cut into several names, in order.

    Raises:
      UserError: it is no index, or names too many files or one of another folder.
    """
    return sorted(_shards(index))


def shards_in(content: bytes, where: str) -> list[str]:
    """As `shards_named`, of an index that is no file here; `where` names it in messages."""
    return sorted(_by_shard(json_text.parse_json(content, where, dict[str, Any]), where))


def _shards(index: Path) -> dict[str, list[str]]:
    return _by_shard(read_json(index), str(index))


def _by_shard(index: dict[str, Any], where: str) -> dict[str, list[str]]:
    """Names of files in an index -> names of the tensors in each."""
    tensors = index.get("weight_map")
    if (
        not isinstance(tensors, dict)
        or not tensors
        or not all(isinstance(file, str) for file in tensors.values())
    ):
        raise UserError(f"{where}: without a weight_map of tensor names to files")
    check_names(tensors, where)
    shards: dict[str, list[str]] = defaultdict(list)
    for tensor, name in tensors.items():
        shards[name].append(tensor)
    if len(shards) > SHARDS:
        raise UserError(f"{where}: {len(shards):,} files, expected at most {SHARDS}")
    for name in sorted(shards):
        if "/" in name or not is_inside(name) or name.endswith(".index.json"):
            raise UserError(f"{where}: shard {name!r} is not a file of the same folder")
    return shards


def _open_shards(index: Path, stack: contextlib.ExitStack) -> Weights:
    """A model cut into several files, by the index that says which tensor is in which."""
    listed = _shards(index)
    tensors: dict[str, LazyTensor] = {}
    for name in sorted(listed):
        if not is_regular(index.parent / name):
            raise UserError(f"{index}: shard {name} is missing: download the whole folder")
        shard = open_weights(index.parent / name, stack).tensors
        if absent := [tensor for tensor in listed[name] if tensor not in shard]:
            raise UserError(
                f"{index}: shard {name} does not hold {absent[0]} (of {len(absent)} such)"
            )
        tensors |= {tensor: shard[tensor] for tensor in listed[name]}
    return Weights(tensors, {}, index.parent)
