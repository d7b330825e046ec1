"""Objects of code beside a state dict are passed over: nothing runs or is kept, damage stays a
UserError.
"""

import argparse
import os
import time
from collections import Counter, OrderedDict, defaultdict

import numpy as np
import pytest

from support.weights import torch_files as tf
from vtd_jax.clip.weights.pytorch.unpickle import read_pickle
from vtd_jax.clip.weights.pytorch.values import Foreign, TensorView
from vtd_jax.errors import UserError


class Settings(dict):
    """A dict of a class of its own, with attributes, that holds itself."""

    def __init__(self, *args):
        super().__init__(*args)
        self.frozen, self.me = True, self


class Runs:
    """Pickles to a call that would leave a file behind."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def objects():
    return {
        "settings": Settings({"a": {"b": [1, Settings()]}}),
        "namespace": argparse.Namespace(lr=0.1, names=["x"]),
        "counter": Counter({3: 2}),
        "default": defaultdict(list, {"a": [1]}),
        "scalar": np.float64(2.5),
        "array": np.arange(3),
        "kind": os.path.join,
        "list": [np.float32(1), {Settings: 2}],
        "weights": OrderedDict(w=tf.tensor(np.ones((2, 3)))),
        "epoch": 7,
    }


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_what_is_kept_and_what_is_not(protocol):
    found = read_pickle(tf.dumps(objects(), protocol)[0], "x", skip_foreign=True)
    assert list(found) == list(objects())
    assert isinstance(found["weights"]["w"], TensorView)
    assert found["epoch"] == 7
    for name in ("settings", "namespace", "counter", "default", "scalar", "array", "kind"):
        assert isinstance(found[name], Foreign), name
    assert found["settings"].kind.endswith("test_foreign_objects.Settings")
    assert found["kind"].kind == "posixpath.join"
    assert [type(value) for value in found["list"]] == [Foreign, dict]


def test_without_leave_it_is_refused():
    for name in ("settings", "namespace", "counter", "scalar"):
        with pytest.raises(UserError, match=r"x: carries code \("):
            read_pickle(tf.dumps({name: objects()[name]})[0], "x")


@pytest.mark.parametrize("protocol", [2, 4])
def test_nothing_runs(tmp_path, protocol):
    mark = tmp_path / "ran"
    calls = [
        Runs(os.system, f"touch {mark}"),
        Runs(open, str(mark), "w"),
        Runs(eval, f"open({str(mark)!r}, 'w')"),
    ]
    data, _ = tf.dumps(
        {"a": calls, "b": Settings({"c": calls[0]}), "t": tf.tensor(np.ones(2))}, protocol
    )
    found = read_pickle(data, "x", skip_foreign=True)
    assert [type(value) for value in found["a"]] == [Foreign] * 3
    assert isinstance(found["t"], TensorView)
    assert not mark.exists()


def test_a_tensor_of_a_storage_that_is_not_known_is_foreign():
    storage = b"(X\x07\x00\x00\x00storagectorch\nQuantStorage\n"
    storage += b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"
    data = (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + b"K\x00K\x04\x85K\x01\x85\x89}tR."
    )
    found = read_pickle(data, "x", skip_foreign=True)
    assert (type(found), found.kind) == (Foreign, "torch.QuantStorage")


def test_a_doubling_chain_of_keys_is_refused_at_once():
    data = b"\x80\x02}" + b"cposix\nsystem\n\x85" + b"q\x01h\x01\x86" * 60 + b"Ns."
    started = time.process_time()
    with pytest.raises(UserError, match="damaged"):
        read_pickle(data, "x", skip_foreign=True)
    assert time.process_time() - started < 2


@pytest.mark.slow
def test_flipped_bytes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = tf.dumps(objects())[0]
    rng, read = np.random.default_rng(0), 0
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] = rng.integers(256)
        try:
            read_pickle(bytes(changed), "x", skip_foreign=True)
            read += 1
        except UserError:
            pass
    assert 0 < read < len(data)
    assert list(tmp_path.iterdir()) == []
