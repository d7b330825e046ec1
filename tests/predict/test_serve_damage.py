"""The served example on folders that were damaged, by chance or on purpose: one line each."""

import hashlib
import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from vtd_jax.predict import serve_example

GOOD = {
    "labels": ["a", "b"],
    "frames": 2,
    "size": 32,
    "preprocessing": {"squash": False},
    "program_sha256": hashlib.sha256(b"program").hexdigest(),
}


def folder_of(tmp_path: Path, about: bytes) -> Path:
    """A folder with a program that is none."""
    (tmp_path / "about.json").write_bytes(about)
    (tmp_path / "program.jaxexport").write_bytes(b"program")
    return tmp_path


ABOUT = {
    "empty": b"",
    "brackets": b"[" * 100_000,
    "closed brackets": b"[" * 100_000 + b"]" * 100_000,
    "a long number": b'{"frames": ' + b"9" * 10_000 + b"}",
    "a list": b"[]",
    "utf-16": json.dumps(GOOD).encode("utf-16")[:-1],
    **{
        name: json.dumps(GOOD | change).encode()
        for name, change in {
            "no labels": {"labels": []},
            "labels of another kind": {"labels": {"a": 0}},
            "a text for labels": {"labels": "ab"},
            "a number for a label": {"labels": ["a", 5]},
            "half a surrogate": {"labels": ["\ud800"]},
            "no frames": {"frames": 0},
            "endless frames": {"frames": 10**9},
            "frames of another kind": {"frames": True},
            "size of another kind": {"size": "32"},
            "no preprocessing": {"preprocessing": None},
            "squash of another kind": {"preprocessing": {"squash": "no"}},
            "frames of another way": {"preprocessing": {"preprocess": "own"}},
            "a list for a word": {"preprocessing": {"preprocess": ["clip"]}},
            "another filter": {"preprocessing": {"preprocess": "clip", "interpolation": "box"}},
            "no filter": {"preprocessing": {"preprocess": "clip"}},
            "null for a filter": {"preprocessing": {"preprocess": "clip", "interpolation": None}},
            "no digest": {"program_sha256": None},
        }.items()
    },
}


@pytest.mark.parametrize("kind", ABOUT)
def test_about_that_is_damaged(kind, tmp_path):
    with pytest.raises(ValueError, match=r"^about\.json is damaged, copy it again$"):
        serve_example.Served(folder_of(tmp_path, ABOUT[kind]))


def test_files_that_are_pipes(tmp_path):
    os.mkfifo(tmp_path / "about.json")
    with pytest.raises(ValueError, match=r"about\.json is damaged"):
        serve_example.Served(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe is not a regular file"):
        serve_example.opened(tmp_path / "pipe")
    os.mkfifo(tmp_path / "weights.npz")
    with pytest.raises(ValueError, match=r"weights\.npz is damaged"):
        serve_example.read_weights(tmp_path / "weights.npz")


def test_a_program_that_is_none(tmp_path):
    with pytest.raises(ValueError, match=r"^program\.jaxexport cannot be read by JAX"):
        serve_example.Served(folder_of(tmp_path, json.dumps(GOOD).encode()))
    (tmp_path / "program.jaxexport").write_bytes(b"another")
    with pytest.raises(ValueError, match=r"^program\.jaxexport is damaged"):
        serve_example.Served(tmp_path)


def member(header: bytes, content: bytes = b"") -> bytes:
    """An `.npy` with this header."""
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content


def archive(content: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as parts:
        parts.writestr("w.npy", content)
    return file.getvalue()


WEIGHTS = {
    "empty": b"",
    "no archive": b"x" * 1000,
    "one array": member(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}\n", bytes(4)),
    "a pickle": archive(
        member(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n", b"cos\nsystem\n")
    ),
    "a claim": archive(
        member(b"{'descr': '<f4', 'fortran_order': False, 'shape': (10**12,)}\n", bytes(4))
    ),
    "a large claim": archive(
        member(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,)}\n", bytes(4))
    ),
    "compressed": archive(
        member(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}\n", bytes(4)),
        zipfile.ZIP_DEFLATED,
    ),
}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_that_are_damaged(kind, tmp_path):
    path = tmp_path / "weights.npz"
    path.write_bytes(WEIGHTS[kind])
    with pytest.raises(ValueError, match=r"^weights\.npz is damaged, copy it again$"):
        serve_example.read_weights(path)
    np.savez(path, w=np.ones(3, np.float32))
    assert serve_example.read_weights(path)["w"].tolist() == [1, 1, 1]


def test_labels_do_nothing_to_a_terminal():
    found = {"label": "a\x1b[31m\x9b1m\u202e\n\U0001f600é"}
    shown = serve_example.shown_json(found)
    assert shown.isprintable()
    assert json.loads(shown) == found
