"""What weights of strangers claim: modules, names, shapes and numbers without end, each refused in
a line, at once.
"""

import contextlib
import json
import os
import struct

import pytest
from safetensors.numpy import save

from support.helpers import random_state
from support.weights.foreign_files import (
    CONFIG,
    HF_CONFIG,
    OPEN_CLIP,
    hugging_face,
    refused_at_once,
    write_json,
)
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.weights.checkpoints import CONFIG_KEY, read_checkpoint, save_clip
from vtd_jax.errors import UserError
from vtd_jax.untrusted import limits

# numbers, texts and groups that a JSON file may have where something else is expected
ODD = (
    None,
    True,
    -1,
    0,
    1e300,
    10**9,
    10**18,
    10**300,
    "x",
    "",
    "a\0b",
    [],
    [1, 2],
    {},
    {"a": 1},
    [[]],
    -1.5,
)


def _safetensors(path, header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def _empty(shape=(0,)):
    return {"dtype": "F32", "shape": list(shape), "data_offsets": [0, 0]}


HEADERS = {
    "brackets": (b"[" * 100_000, "truncated or damaged"),
    "number": (b"9" * 5000, "truncated or damaged"),
    "long name": (
        {"\x1b" * 2_000_000: _empty()},
        "has 2,000,000 characters, expected at most 1,000",
    ),
    "dimensions": ({"w": _empty([0] * 65)}, "tensor w has 65 dimensions"),
    "empty and huge": ({"w": _empty([0, 2**62])}, "tensor w is (0, 4611686018427387904)"),
    "negative": ({"w": _empty([-1])}, "truncated or damaged"),
    "metadata": ({"__metadata__": {"a": 5}}, "truncated or damaged"),
}


@pytest.mark.parametrize("header, message", HEADERS.values(), ids=HEADERS)
def test_headers_of_safetensors(tmp_path, header, message):
    refused_at_once(_safetensors(tmp_path / "x.safetensors", header), message)


def test_headers_without_end(tmp_path, monkeypatch):
    # patched where it is used: a file of 100 000 tensors takes seconds to write
    monkeypatch.setattr("vtd_jax.clip.weights.claims.TENSORS", 5000)
    path = tmp_path / "x.safetensors"
    refused_at_once(
        _safetensors(path, {f"t{i}": _empty() for i in range(6000)}),
        "6,000 tensors",
        "expected at most 5,000",
    )
    monkeypatch.setattr("vtd_jax.clip.weights.safetensors_files.SAFETENSORS_HEADER_BYTES", 1000)
    refused_at_once(path, "a header of", "expected at most 1,000")
    assert limits.TENSORS >= 100_000


# our own settings
# --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "clip.safetensors"
    save_clip(path, CONFIG, random_state(CONFIG))
    return path


def _changed(path, to, text):
    """The file with another text in place of its settings."""
    content = path.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"][CONFIG_KEY] = text
    return _safetensors(to, header, content[8 + size :])


@pytest.mark.slow
@pytest.mark.parametrize("field", [*CONFIG.to_dict(), "preprocessing"])
def test_every_field_of_our_own_settings(own, tmp_path, field):
    fields = CONFIG.to_dict()
    right = fields.get(field)
    for value in ODD:
        # what no tensor determines may have these values, and the rest is compared with the tensors
        if (
            value == right
            or (field == "vision_layers" and value == [1, 2])
            or (field == "preprocessing" and value == {})
        ):
            continue
        with pytest.raises(UserError) as caught:
            read_checkpoint(
                _changed(own, tmp_path / "x.safetensors", json.dumps(fields | {field: value}))
            )
        assert field in str(caught.value), value
        assert str(tmp_path / "x.safetensors") in str(caught.value)
    for text in ("[" * 100_000, "9" * 5000, "NaN", "[]", "5", "", "{", json.dumps(fields)[:-9]):
        with pytest.raises(UserError, match=r"damaged: its vtd_jax\.clip_config cannot be read"):
            read_checkpoint(_changed(own, tmp_path / "x.safetensors", text))


def test_sizes_of_clips_have_an_end():
    fields = CLIPConfig.vit_b16().to_dict()
    for change, message in (
        (
            {"vision_head_width": -1},
            "vision_head_width -1, expected a whole number from 1 to 65,536",
        ),
        ({"image_resolution": 8192, "vision_patch_size": 32}, "image_resolution 8192"),
        ({"image_resolution": 4096}, "256² patches an image, expected at most 16,384"),
        ({"vision_layers": [1, 2, 3]}, "vision_layers (1, 2, 3)"),
        (
            {"vision_layers": [1, 2, 3, 10**9]},
            "vision_layers[3] 1000000000, expected a whole number from 1 to 1,000",
        ),
        ({"preprocessing": {"std": [0.1, 0.1, 1e300]}}, "std is (0.1, 0.1, 1e+300)"),
        ({"preprocessing": {"mean": [10**300, 0, 0]}}, "mean is (1e+300, 0.0, 0.0)"),
    ):
        with pytest.raises(UserError) as caught:
            CLIPConfig.from_dict(fields | change)
        assert message in str(caught.value)


# files beside weights
# ----------------------------------------------------------------------------------------------

FOLDERS = {
    "config.json": HF_CONFIG,
    "preprocessor_config.json": {"size": 32, "crop_size": 32},
    "processor_config.json": {"image_processor": {"size": 32}},
    "tokenizer_config.json": {"tokenizer_class": "CLIPTokenizer"},
    "tokenizer.json": {"model": {"type": "BPE"}},
    "vocab.json": {"a": 1},
    "merges.txt": None,
    "model.safetensors.index.json": {"weight_map": {"a": "model.safetensors"}},
    "open_clip_config.json": OPEN_CLIP,
}
TEXTS = (
    b"", b"[" * 100_000, b"9" * 5000, b'{"a": ' + b"9" * 400 + b"}", b"null", b"5", b'"x"', b"[]",
    b'{"a": NaN}', b"\xff\xfe\x00\x00", b"\0\0\0\0", b'{"a\0": 1}',
)  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The same CLIP as Hugging Face and open_clip write it, a file each."""
    folder = tmp_path_factory.mktemp("folders")
    state = random_state(CONFIG)
    (folder / "hugging_face").write_bytes(save(hugging_face(state)))
    (folder / "open_clip").write_bytes(save(state))
    return folder


def _folder(tmp_path, folders, name):
    """A folder in which the file is looked at; what the folder is called is of no account."""
    kind = "open_clip" if name == "open_clip_config.json" else "hugging_face"
    if name != "model.safetensors.index.json":
        (tmp_path / "model.safetensors").symlink_to(folders / kind)
    if kind == "hugging_face" and name != "config.json":
        write_json(tmp_path / "config.json", HF_CONFIG)
    return tmp_path / name


@pytest.mark.slow
@pytest.mark.parametrize("name", FOLDERS)
def test_files_beside_weights(tmp_path, folders, name):
    path = _folder(tmp_path, folders, name)
    for text in TEXTS:
        path.write_bytes(text)
        if text.startswith(b'{"a": 9') and name in (
            "tokenizer_config.json",
            "processor_config.json",
        ):
            # of these, keys that are not known say nothing
            read_checkpoint(tmp_path)
            continue
        with pytest.raises(UserError) as caught:
            read_checkpoint(tmp_path)
        assert str(path) in str(caught.value), text[:20]
    path.unlink()
    os.mkfifo(path)
    # a pipe beside weights counts as no file, or is refused by name; nothing waits for it
    with contextlib.suppress(UserError):
        read_checkpoint(tmp_path)


def _places(value, place=()):
    """Every place in a JSON value that holds something."""
    yield place
    for key in value if isinstance(value, dict) else ():
        yield from _places(value[key], (*place, key))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["config.json", "preprocessor_config.json", "open_clip_config.json"]
)
def test_wrong_types_beside_weights(tmp_path, folders, name):
    path = _folder(tmp_path, folders, name)
    right = FOLDERS[name]
    read, message = 0, []
    for place in _places(right):
        for value in ODD:
            content = json.loads(json.dumps({"": right}))
            target = content
            for key in ("", *place)[:-1]:
                target = target[key]
            target[("", *place)[-1]] = value
            path.write_text(json.dumps(content[""]))
            try:
                read_checkpoint(tmp_path)
                read += 1
            except UserError as error:
                message.append(str(error))
    assert all(text.startswith(str(tmp_path)) for text in message)
    assert len(message) > 3 * read


@pytest.mark.parametrize("name", ["x.pt", "x.safetensors", "x.bin", "model.safetensors.index.json"])
def test_a_pipe_or_a_device_is_no_checkpoint(tmp_path, name):
    os.mkfifo(tmp_path / name)
    refused_at_once(tmp_path / name, "a pipe, expected a")
    (tmp_path / "link.pt").symlink_to("/dev/zero")
    refused_at_once(tmp_path / "link.pt", "a device, expected a checkpoint")
    refused_at_once(tmp_path / ("n" * 300), "File name too long")


def test_shards_have_an_end(tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    write_json(index, {"weight_map": {f"t{i}": f"{i}.safetensors" for i in range(600)}})
    refused_at_once(index, "600 files, expected at most 500")
    write_json(index, {"weight_map": {"\x1b" * 2000: "x.safetensors"}})
    refused_at_once(index, "has 2,000 characters")
    for name in ("../x.safetensors", "/etc/passwd", "", ".", "..", "n" * 300, "a\0b"):
        write_json(index, {"weight_map": {"a": name}})
        refused_at_once(index, "shard")
