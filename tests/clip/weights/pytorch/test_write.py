"""Archives that `torch.load` reads, written without it: here read back by our own reader, bit for
bit.
"""

import contextlib
import os
import pickletools
import zipfile

import numpy as np
import pytest

from vtd_jax.clip.weights.pytorch.archive import open_torch_archive
from vtd_jax.clip.weights.pytorch.write import write_torch_archive
from vtd_jax.errors import UserError

RNG = np.random.default_rng(0)
STATE = {
    "logit_scale": np.array(4.6052, np.float32),
    "lrf.fc1.weight": RNG.standard_normal((300, 70), dtype=np.float32),
    "transposed": RNG.standard_normal((3, 5, 2), dtype=np.float32).T,
    "odd": np.array([np.inf, -0.0, 1e-42], np.float32),
    "empty": np.zeros((0, 3), np.float32),
    "name with ü": np.ones(1, np.float32),
}


def read(path):
    with contextlib.ExitStack() as stack:
        return {name: lazy.read() for name, lazy in open_torch_archive(path, stack).tensors.items()}


def test_comes_back_bit_for_bit(tmp_path):
    write_torch_archive(tmp_path / "x.pth", STATE)
    found = read(tmp_path / "x.pth")
    assert list(found) == list(STATE)
    for name, array in STATE.items():
        assert found[name].shape == np.shape(array)
        assert found[name].tobytes() == np.asarray(array).tobytes(), name


def test_other_floats_become_float32(tmp_path):
    write_torch_archive(
        tmp_path / "x.pth",
        {"a": np.array([0.1, 2]), "b": np.array([0.5], np.float16)},
        key="state_dict",
    )
    found = read(tmp_path / "x.pth")
    assert found["a"].tolist() == [np.float32(0.1), 2]
    assert found["b"].tolist() == [0.5]


def test_records_lie_where_pytorch_puts_them(tmp_path):
    path = tmp_path / "x.pth"
    write_torch_archive(path, STATE)
    data = path.read_bytes()
    with zipfile.ZipFile(path) as file:
        names = [
            f"archive/{name}"
            for name in ("data.pkl", "byteorder", *(f"data/{i}" for i in range(6)), "version")
        ]
        assert file.namelist() == names
        assert file.testzip() is None
        assert (file.read("archive/byteorder"), file.read("archive/version")) == (b"little", b"3\n")
        for info in file.infolist():
            assert info.compress_type == zipfile.ZIP_STORED
            # the name's and the extra field's lengths are in the entry's own header
            lengths = np.frombuffer(data, "<u2", 2, info.header_offset + 26)
            assert (info.header_offset + 30 + int(lengths.sum())) % 64 == 0, info.filename
        table = file.read("archive/data.pkl")
    called = [argument for code, argument, _ in pickletools.genops(table) if code.name == "GLOBAL"]
    assert set(called) == {
        "collections OrderedDict",
        "torch._utils _rebuild_tensor_v2",
        "torch FloatStorage",
    }


def test_the_same_state_gives_the_same_bytes(tmp_path):
    for name in ("a.pth", "b.pth"):
        write_torch_archive(tmp_path / name, STATE)
    assert (tmp_path / "a.pth").read_bytes() == (tmp_path / "b.pth").read_bytes()


def test_refusals_leave_what_was_there(tmp_path):
    path = tmp_path / "x.pth"
    write_torch_archive(path, {"a": np.ones(1, np.float32)})
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"x\.pth: tensor b is int64, expected floating point"):
        write_torch_archive(path, {"a": np.ones(2, np.float32), "b": np.arange(3)})
    with pytest.raises(UserError, match="cannot be written: No such file or directory"):
        write_torch_archive(tmp_path / "no" / "x.pth", STATE)
    assert (path.read_bytes(), os.listdir(tmp_path)) == (before, ["x.pth"])
    write_torch_archive(path, STATE)
    assert set(read(path)) == set(STATE)
