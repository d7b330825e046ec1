"""What PyTorch files of strangers claim: modules, shapes, streams and records without end, each
refused in a line, at once.
"""

import json
import struct
import zipfile

import numpy as np
import pytest

from support.helpers import random_state
from support.weights import torch_files as tf
from support.weights.foreign_files import CONFIG, OPEN_CLIP, refused_at_once
from vtd_jax.clip.weights.pytorch.unpickle import read_pickle

pytestmark = pytest.mark.slow

ONE = np.zeros(1, np.float32)


def nested(depth, leaf, names=("a", "b")):
    module = tf.script_object(leaf)
    for _ in range(depth):
        module = tf.script_object(dict.fromkeys(names, module))
    return module


@pytest.mark.parametrize(
    "depth, count, name, message",
    [
        (12, 40, "t", "nest without end"),
        (12, 3, "t", "elements, all in"),
        (60, 1, "t", "nest without end"),
        (8, 200, "x" * 800, "characters, expected at most 100,000 and 16,777,216"),
        (1, 1, "x" * 2_000_000, "has 2,000,003 characters, expected at most 1,000"),
    ],
    ids=["tensors", "elements", "modules", "names", "name"],
)
def test_modules_that_hold_the_next_one_twice(tmp_path, depth, count, name, message):
    leaf = {f"{name}{place}": tf.tensor(np.zeros(40, np.float32)) for place in range(count)}
    refused_at_once(tf.save(tmp_path / "x.pt", nested(depth, leaf)), message)


SHAPES = {
    "dimensions": ((1,) * 33, (1,) * 33, 0, "tensor w has 33 dimensions, expected at most 32"),
    "many dimensions": ((1,) * 40_000, (1,) * 40_000, 0, "tensor w has 40,000 dimensions"),
    "empty and huge": (
        (0, 2**80),
        (1, 1),
        0,
        "tensor w is (0, 1208925819614629174706176), expected sizes",
    ),
    "empty and huger": ((0, 2**40, 2**40), (1, 1, 1), 0, "tensor w is (0, "),
    "negative": ((-1,), (1,), 0, "tensor w is (-1,)"),
    "stride": (
        (3, 1),
        (1, 2**62),
        0,
        "tensor w: shape (3, 1) with strides (1, 4611686018427387904)",
    ),
    "offset": (
        (3,),
        (1,),
        2**70,
        "tensor w: shape (3,) with strides (1,) from 1180591620717411303424",
    ),
    "too many bits": ((2**2000,), (1,), 0, "a number of 2,001 bits"),
}


@pytest.mark.parametrize("shape, stride, offset, message", SHAPES.values(), ids=SHAPES)
def test_shapes_that_no_array_has(tmp_path, shape, stride, offset, message):
    storage = tf.FakeStorage(np.zeros(4, np.float32), "f4")
    refused_at_once(
        tf.save(tmp_path / "x.pt", {"w": tf.FakeTensor(storage, shape, stride, offset)}), message
    )


def _text(text: bytes) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text


def _long(number: int) -> bytes:
    return b"\x8a\x0a" + number.to_bytes(10, "little", signed=True)


STREAMS = {
    # the same long value copied, or looked through, at every turn
    "sizes": b"ctorch\nSize\nq\x00("
    + b"N" * 100_000
    + b"tq\x01\x85q\x02"
    + b"h\x00h\x02R" * 20_000,
    "arguments": b"ctorch.jit._pickle\nbuild_intlist\nq\x00("
    + b"N" * 200_000
    + b"tq\x01"
    + b"h\x00h\x01R" * 100_000,
    "pairs": b"ccollections\nOrderedDict\nq\x00]("
    + b"NN\x86" * 60_000
    + b"e\x85q\x02"
    + b"h\x00h\x02R" * 50_000,
    "attributes": b"c__torch__\nA\nq\x00}q\x01("
    + b"".join(b"J" + struct.pack("<I", i) + b"N" for i in range(30_000))
    + b"u"
    + b"h\x00)\x81h\x01b" * 50_000,
    # whole numbers with one hash: each is compared with all before it
    "keys": b"}(" + b"".join(_long(i * (2**61 - 1)) + b"N" for i in range(1, 40_000)) + b"u",
    "number": b"}" + b"\x8b" + struct.pack("<I", 400_000) + b"\x7f" * 400_000 + b"Ns",
    "key": b"}" + _text(b"\x1bx" * 500_000) + b"Ns",
    "deep": b"}" + _text(b"model") + b"N" + b"\x85" * 200_000 + b"s",
}


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_streams_that_take_for_ever(tmp_path, stream):
    refused_at_once(tf.save_raw(tmp_path / "x.pt", b"\x80\x02" + stream + b"."))


def test_what_a_stream_copies_once_is_fine():
    state = {f"a.{i}": tf.tensor(ONE) for i in range(2000)}
    data, _ = tf.dumps(
        {"model": tf.state_dict(dict.fromkeys(state, ONE)), "rng": 2**127 - 1, "epoch": {0: 1}}
    )
    found = read_pickle(data, "x")
    assert (len(found["model"]), found["rng"]) == (2000, 2**127 - 1)


def test_records_that_lie(tmp_path, monkeypatch):
    path = tf.save(
        tmp_path / "x.pt", {"v": tf.tensor(np.zeros(300, np.float32)), "w": tf.tensor(ONE)}
    )
    content = path.read_bytes()
    # the second record of the table of contents claims the bytes of the first, too
    at = content.rindex(b"archive/data/1") - 46
    path.write_bytes(content[: at + 20] + struct.pack("<II", 1200, 1200) + content[at + 28 :])
    refused_at_once(path, "its records claim 2,")
    with zipfile.ZipFile(path, "w") as file:
        for i in range(100):
            file.writestr(f"archive/data/{i}", b"")
    monkeypatch.setattr("vtd_jax.clip.weights.pytorch.records.ZIP_TABLE_BYTES", 5000)
    monkeypatch.setattr("vtd_jax.clip.weights.pytorch.records.CHUNK", 5000)
    refused_at_once(path, "a table of 6,090 bytes, expected at most 5,000")
    monkeypatch.undo()
    monkeypatch.setattr("vtd_jax.clip.weights.pytorch.records.PICKLE_BYTES", 100)
    refused_at_once(
        tf.save(path, {"w": tf.tensor(ONE)}), "record data.pkl of", "expected at most 100"
    )


def test_storages_that_are_read_over_and_over(tmp_path, monkeypatch):
    monkeypatch.setattr("vtd_jax.clip.weights.pytorch.records.READ_AGAIN", 1)
    monkeypatch.setattr("vtd_jax.clip.weights.checkpoints.check_shapes", lambda *_: None)
    one, other = (tf.FakeStorage(np.zeros(200_000, np.float32), "f4") for _ in range(2))
    state = dict(random_state(CONFIG))
    root = tf.state_dict(state)
    for place in range(5):
        root[f"visual.x{place}"] = tf.FakeTensor(one, (1,), (1,), place)
        root[f"visual.y{place}"] = tf.FakeTensor(other, (1,), (1,), place)
    (tmp_path / "open_clip_config.json").write_text(json.dumps(OPEN_CLIP))
    refused_at_once(tf.save(tmp_path / "x.pt", root), "reading would take 1 times its bytes")
