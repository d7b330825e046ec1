"""Hostile weights: small files that claim much, numbers that no array has, names that act on a
terminal.
"""

import json
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from hostile.fuzzing.targets_weights import STATE, write_clip, write_tuned
from support import small_run
from support.weights import torch_files
from vtd_jax.clip.weights.checkpoints import CONFIG_KEY
from vtd_jax.model.saved.tuned import METADATA_KEY

ACTING = "\x1b]0;x\x07\x1b[31m\u202e\nred\x9b"


def nested_modules(folder: Path, depth: int = 12, tensors: int = 40) -> Path:
    """TorchScript modules that hold the next one twice: 2¹² names for each tensor of the last."""
    module = torch_files.script_object(
        {f"t{i}": torch_files.tensor(np.zeros(1, "f4")) for i in range(tensors)}
    )
    for _ in range(depth):
        module = torch_files.script_object({"a": module, "b": module})
    return torch_files.save(folder / "nested.pt", module)


def _with_tensor(folder: Path, shape: tuple, stride: tuple, offset: int = 0) -> Path:
    storage = torch_files.FakeStorage(np.zeros(4, "f4"), "f4")
    state = torch_files.state_dict(STATE)
    state["visual.proj"] = torch_files.FakeTensor(storage, shape, stride, offset)
    return torch_files.save(folder / "tensor.pt", state)


TENSORS = {
    "stride": ((2, 2), (2**62, 1)),
    "negative_stride": ((2, 2), (-1, 1)),
    "dimensions": ((1,) * 65, (1,) * 65),
    "empty_and_huge": ((0, 2**80), (1, 1)),
    "negative": ((-1, 4), (4, 1)),
    "huge": ((2**40, 2**40), (0, 0)),
}


def odd_tensor(folder: Path, name: str) -> Path:
    """A tensor of one of TENSORS."""
    return _with_tensor(folder, *TENSORS[name])


def acting_name(folder: Path, repeat: int = 1) -> Path:
    """A tensor whose name acts on a terminal, and is long."""
    state = OrderedDict(torch_files.state_dict(STATE))
    state[ACTING * repeat] = torch_files.tensor(np.zeros(1, "f4"))
    return torch_files.save(folder / "name.pt", state)


def safetensors(path: Path, header: Any, data: bytes = b"") -> Path:
    """A file with a given header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def change_header(path: Path, change: Any) -> Path:
    """Changes the header of a file in place; its length stays right."""
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    change(header)
    return safetensors(path, header, content[8 + size :])


def own_config(folder: Path, **fields: Any) -> Path:
    """Our own converted CLIP, with some settings that it never has."""

    def change(header: dict) -> None:
        about = header["__metadata__"]
        about[CONFIG_KEY] = json.dumps(json.loads(about[CONFIG_KEY]) | fields)

    return change_header(write_clip(folder), change)


def tuned(folder: Path, group: str = "", **fields: Any) -> Path:
    """An exported model, with some fields (of `model` or `clip`, if a group is given) that it never
    has.
    """

    def change(header: dict) -> None:
        message = json.loads(header["__metadata__"][METADATA_KEY])
        (message[group] if group else message).update(fields)
        header["__metadata__"][METADATA_KEY] = json.dumps(message)

    # with all of CLIP's tokens, so that labels can be read
    return change_header(write_tuned(folder, small_run.SMALL), change)


HEADERS: dict[str, Any] = {
    "huge_length": struct.pack("<Q", 2**63),
    "brackets": b"[" * 100_000,
    "overlap": {"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}},
    "negative": {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}},
    "number": 3,
}


def odd_header(folder: Path, name: str) -> Path:
    """A safetensors file with a header of HEADERS."""
    return safetensors(folder / "header.safetensors", HEADERS[name], bytes(16))


# settings of our own files that are impossible: (writer, fields)
SETTINGS = {
    "head_width": (own_config, {"vision_head_width": -1}),
    "layers": (own_config, {"vision_layers": 10**9}),
    "context": (own_config, {"context_length": 10**12}),
    "dtype": (tuned, {"group": "clip", "dtype": "int8"}),
    "path": (tuned, {"group": "clip", "path": 5}),
    "frames": (tuned, {"frames": 10**9}),
    "text_prompts": (tuned, {"group": "model", "text_prompts": 10**9}),
    "visual_prompts": (tuned, {"group": "model", "visual_prompts": 10**9}),
    "names": (tuned, {"class_names": [5, ACTING]}),
    "learnt_on": (tuned, {"learnt_on": [ACTING * 10]}),
}


def odd_setting(folder: Path, name: str) -> Path:
    """One of our own files with a setting of SETTINGS."""
    write, fields = SETTINGS[name]
    return write(folder, **fields)
