"""The reader of PyTorch archives: every layout it admits, and every way it refuses the rest."""

import contextlib
import os
import pickle
import time
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from support.weights import torch_files as tf
from vtd_jax.clip.weights.pytorch.archive import open_torch_archive
from vtd_jax.clip.weights.pytorch.unpickle import read_pickle
from vtd_jax.errors import UserError

GRID = np.arange(12, dtype=np.float32).reshape(3, 4) / 8 - 0.5


def load(path: Path) -> dict[str, np.ndarray]:
    with contextlib.ExitStack() as stack:
        tensors = open_torch_archive(path, stack).tensors
        return {
            name: lazy.read() for name, lazy in tensors.items() if name not in tf.SCRIPT_NUMBERS
        }


@pytest.mark.parametrize("kind", ["f8", "f4", "f2", "bf16"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("protocol", [2, 4])
def test_dtypes_and_byte_orders(tmp_path, kind, order, protocol):
    root = {"a": tf.tensor(GRID, kind), "b": tf.tensor(np.float32(2.5), kind, parameter=True)}
    state = load(tf.save(tmp_path / "x.pt", root, order=order, protocol=protocol))
    np.testing.assert_array_equal(state["a"], GRID)
    assert state["b"].shape == ()
    assert state["b"] == 2.5
    assert all(array.dtype == np.float32 and array.flags.writeable for array in state.values())


def test_bfloat16_keeps_infinity_and_sign(tmp_path):
    values = np.array([np.inf, -np.inf, -0.0, 1.0078125, 2.0**-130], np.float32)
    (array,) = load(tf.save(tmp_path / "x.pt", {"a": tf.tensor(values, "bf16")})).values()
    np.testing.assert_array_equal(array.view(np.uint32), values.view(np.uint32))


def test_views_of_one_storage(tmp_path):
    storage = tf.FakeStorage(np.arange(24, dtype=np.float32), "f4")
    root = {
        "transposed": tf.FakeTensor(storage, (4, 3), (1, 4), 12),
        "strided": tf.FakeTensor(storage, (3,), (5,), 2),
        "whole": tf.FakeTensor(storage, (24,), (1,)),
        "empty": tf.FakeTensor(storage, (0, 3), (3, 1)),
        "last": tf.FakeTensor(storage, (), (), 23),
    }
    state = load(tf.save(tmp_path / "x.pt", root))
    np.testing.assert_array_equal(state["transposed"], np.arange(12, 24).reshape(3, 4).T)
    np.testing.assert_array_equal(state["strided"], [2, 7, 12])
    assert state["empty"].shape == (0, 3)
    assert state["last"] == 23
    state["whole"][:] = -1
    assert state["last"] == 23, "tensors of one storage do not share memory once read"
    assert state["transposed"].flags.c_contiguous


def test_script_module_and_shared_submodule(tmp_path):
    child = tf.script_object({"weight": tf.tensor(GRID, "f2"), "bias": None, "scale": 0.5})
    root = tf.script_object({"first": child, "second": child, "names": ["a"], "sizes": (1, 2)})
    state = load(tf.save(tmp_path / "x.pt", root, name="any name"))
    assert sorted(state) == ["first.weight", "second.weight"]
    np.testing.assert_array_equal(state["second.weight"], GRID)


@pytest.mark.parametrize("path", [["state_dict"], ["model"], ["model", "state_dict"]])
def test_nested_state_dicts(tmp_path, path):
    root = tf.state_dict({"w": GRID})
    for key in path:
        root = {"epoch": 3, key: root, "name": "run", "optimizer": {"state": {0: {"step": 1.0}}}}
    np.testing.assert_array_equal(load(tf.save(tmp_path / "x.pt", root))["w"], GRID)


class Runs:
    """Pickles to a call that would leave a file behind."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    "place",
    [lambda x: x, lambda x: {"a": {"b": [x]}}, lambda x: {"w": tf.tensor(GRID), "x": (1, x)}],
)
def test_code_is_refused_by_name_and_not_run(tmp_path, place, protocol):
    mark = tmp_path / "ran"
    for function, arguments, name in (
        (os.system, (f"touch {mark}",), "posix.system"),
        (open, (str(mark), "w"), r"(?:_io|io)\.open"),
        (eval, (f"open({str(mark)!r}, 'w')",), r"(?:builtins|__builtin__)\.eval"),
        (
            Path.touch,
            (mark,),
            r"(?:builtins|__builtin__)\.getattr|pathlib(?:\._local)?\.Path\.touch",
        ),
    ):
        path = tf.save(tmp_path / "x.pt", place(Runs(function, *arguments)), protocol=protocol)
        with pytest.raises(UserError, match=rf"carries code \((?:{name})\).*has run none of it"):
            load(path)
    assert not mark.exists()


RAW = {
    "inst": b"(S'touch ran'\niposix\nsystem\n.",
    "obj": b"(cposix\nsystem\nS'touch ran'\no.",
    "stack_global": b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x09touch ran\x85R.",
    "dotted": b"\x80\x04\x8c\x0bcollections\x8c\x12OrderedDict.fromkeys\x93.",
    "no function": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}b.",
    "slots": b"\x80\x02ccollections\nOrderedDict\nN}X\x01\x00\x00\x00aK\x01s\x86b.",
    "newobj": b"\x80\x02ccollections\nOrderedDict\n)\x81.",
    "called text": b"\x80\x02X\x01\x00\x00\x00a)R.",
    "called storage": b"\x80\x02ctorch\nFloatStorage\n)R.",
    "extension": b"\x80\x02\x82\x01.",
    "persistent text": b"Pstorage\n.",
    "other storage": b"\x80\x02(X\x07\x00\x00\x00storagectorch._utils\n_rebuild_tensor_v2\n"
    b"X\x01\x00\x00\x000X\x01\x00\x00\x000K\x01tQ.",
    "hash bomb": b"\x80\x02}" + b"N\x85" + b"q\x01h\x01\x86" * 60 + b"Ns.",
    "import": b"\x80\x02cthis\ns\n.",
    "unknown": b"\x80\x02\xff.",
    "no stop": b"\x80\x02}",
    "two": b"\x80\x02}}.",
    "memo": b"\x80\x02h\x09.",
    "huge memo": b"\x80\x02}r\xff\xff\xff\x7f.",
    "huge bytes": b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f.",
    "huge number": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "empty": b"",
}


@pytest.mark.parametrize("data", RAW.values(), ids=RAW)
def test_hand_made_streams(tmp_path, monkeypatch, data):
    monkeypatch.chdir(tmp_path)
    started = time.process_time()
    with pytest.raises(UserError, match=r"carries code|damaged|without a state dict"):
        load(tf.save_raw(tmp_path / "x.pt", data))
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.pt"], "nothing has run"
    assert time.process_time() - started < 2


def test_a_refused_name_leaves_no_trace():
    """Attributes for a class or function cannot reach our own objects."""
    data = b"\x80\x02ctorch._utils\n_rebuild_parameter\nN}X\x0c\x00\x00\x00__defaults__K\x01s\x86b."
    with pytest.raises(UserError, match="attributes for a"):
        read_pickle(data, "x")
    plain = pickle.dumps(
        {"a": [1, 2.5, True, None, "t", b"b", (), (1,), (1, 2), {3}, -1, 2**40]}, 4
    )
    assert read_pickle(plain, "x") == pickle.loads(plain)
    assert read_pickle(pickle.dumps(OrderedDict(a=1), 2), "x") == {"a": 1}


def _self_holding() -> bytes:
    return b"\x80\x02c__torch__\nA\n)\x81q\x01}X\x01\x00\x00\x00ah\x01sb."


WRONG = {
    "offset": (dict(shape=(12,), stride=(1,), offset=1), "leaves its storage"),
    "stride": (dict(shape=(3, 4), stride=(5, 1)), "leaves its storage"),
    "expanded": (dict(shape=(1 << 40,), stride=(0,)), "leaves its storage"),
    "negative": (
        dict(shape=(3,), stride=(-1,)),
        "tensor w: .* strides .-1,. from 0: expected numbers from 0",
    ),
    "negative offset": (
        dict(shape=(3,), stride=(1,), offset=-1),
        "tensor w: .* from -1: expected numbers from 0",
    ),
    "rank": (dict(shape=(3,), stride=(4, 1)), "are no numbers"),
    "float": (dict(shape=(3.0,), stride=(1,)), "are no numbers"),
    "list": (dict(shape=[3], stride=[1]), "without storage, shape"),
}


@pytest.mark.parametrize("view, message", WRONG.values(), ids=WRONG)
def test_views_are_checked(tmp_path, view, message):
    storage = tf.FakeStorage(GRID.reshape(-1), "f4")
    with pytest.raises(UserError, match=message):
        load(tf.save(tmp_path / "x.pt", {"w": tf.FakeTensor(storage, **view)}))


def test_damaged_archives(tmp_path):
    path, root = tmp_path / "x.pt", {"w": tf.tensor(GRID), "v": tf.tensor(GRID)}
    with pytest.raises(UserError, match="tensor v: its record data/1 is missing"):
        load(tf.save(path, root, drop=["data/1"]))
    with pytest.raises(UserError, match=r"no torch\.save wrote it"):
        load(tf.save(path, root, drop=["data.pkl"]))
    with pytest.raises(UserError, match="compressed or encrypted"):
        load(tf.save(path, root, compression=zipfile.ZIP_DEFLATED))
    with pytest.raises(UserError, match="byte order b'middle'"):
        load(tf.save_raw(path, tf.dumps({})[0], order="middle"))
    long = tf.FakeStorage(GRID.reshape(-1), "f4", numel=13)
    with pytest.raises(UserError, match="needs 13 elements, data/0 has 48 bytes"):
        load(tf.save(path, {"w": tf.FakeTensor(long, (13,), (1,))}))
    with pytest.raises(UserError, match="nest without end"):
        load(tf.save_raw(path, _self_holding()))
    with pytest.raises(UserError, match="without a state dict"):
        load(tf.save(path, {"epoch": 1, "model": [1, 2]}))
    with pytest.raises(UserError, match="tensor named 3"):
        load(tf.save(path, {3: tf.tensor(GRID)}))
    with pytest.raises(UserError, match="w holds integers"):
        load(tf.save(path, {"w": tf.tensor(np.arange(3), "i8")}))
    with pytest.raises(UserError, match=r"before PyTorch 1\.4"):
        load(tf.save_raw(path, b"", {"model.json": b"{}"}, drop=["data.pkl"]))


def test_flipped_weight_is_noticed(tmp_path):
    path = tf.save(tmp_path / "x.pt", {"w": tf.tensor(GRID)})
    data = bytearray(path.read_bytes())
    data[data.index(GRID.tobytes()) + 5] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="record data/0: Bad CRC-32"):
        load(path)


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archives")
    state = {"visual.a.weight": GRID, "visual.a.bias": GRID[0], "b": GRID[:, 0]}
    return [
        tf.save(folder / "state.pt", tf.state_dict(state)).read_bytes(),
        tf.save(folder / "script.pt", tf.script_module(state)).read_bytes(),
    ]


def _survives(path: Path, data: bytes) -> bool:
    """True where it loads; the only error that may come out is a UserError."""
    path.write_bytes(data)
    try:
        load(path)
    except UserError:
        return False
    return True


@pytest.mark.parametrize("which", [0, 1])
def test_truncated_anywhere(tmp_path, archives, which):
    data = archives[which]
    for end in range(4, len(data), 7):
        assert not _survives(tmp_path / "x.pt", data[:end]), f"read {end} of {len(data)} bytes"
    assert _survives(tmp_path / "x.pt", data)


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, 1])
def test_flipped_bytes_anywhere(tmp_path, archives, which):
    data, rng = archives[which], np.random.default_rng(which)
    loaded = 0
    for at in rng.choice(len(data), 400, replace=False):
        changed = bytearray(data)
        changed[at] ^= 1 << rng.integers(8)
        loaded += _survives(tmp_path / "x.pt", bytes(changed))
    assert 0 < loaded < 400


@pytest.mark.slow
def test_flipped_bytes_in_the_table_of_tensors():
    """Without the zip's checksum in the way: the stack machine itself meets every mistake."""
    data, _ = tf.dumps(tf.script_module({"a.b": GRID, "c": GRID[0]}))
    rng, read = np.random.default_rng(0), 0
    for at in range(len(data)):
        for value in rng.choice(256, 2, replace=False):
            changed = bytearray(data)
            changed[at] = value
            try:
                read_pickle(bytes(changed), "x")
                read += 1
            except UserError:
                pass
    assert 0 < read < 2 * len(data)
