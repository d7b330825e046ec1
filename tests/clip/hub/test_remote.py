"""Addresses of stores, by a stand-in for Google's that fsspec gives to epath."""

import sys

import pytest

from support.hub.store import Store
from vtd_jax.clip.hub.resolve import held, resolve
from vtd_jax.errors import UserError

FOLDER = "gs://bucket/models"


def _put(store, **files):
    for name, data in files.items():
        store.pipe_file(f"{FOLDER}/{name.replace('__', '.')}", data)


def test_a_file_comes_with_the_settings_beside_it(store, tmp_path):
    _put(store, a__safetensors=b"weights", config__json=b"{}", other__bin=b"x")
    path = resolve(f"{FOLDER}/a.safetensors").path
    assert path.is_relative_to(tmp_path / "cache")
    assert sorted(one.name for one in path.parent.iterdir() if one.name[0] != ".") == [
        "a.safetensors",
        "config.json",
    ]
    assert path.read_bytes() == b"weights"


def test_a_folder_and_a_run(store):
    _put(store, model__safetensors=b"weights", README__md=b"#")
    assert resolve(FOLDER).path.name == "model.safetensors"
    assert resolve(f"{FOLDER}/") == resolve(FOLDER)
    store.pipe_file("gs://bucket/run/config.json", b"{}")
    store.pipe_file("gs://bucket/run/checkpoints/3/state/data", b"1")
    run = resolve("gs://bucket/run").path
    assert (run / "checkpoints" / "3" / "state" / "data").read_bytes() == b"1"
    assert (run / "config.json").is_file()


def test_a_copy_is_made_once_and_again_when_the_original_changes(store, monkeypatch):
    _put(store, a__pt=b"one")
    address = f"{FOLDER}/a.pt"
    first = resolve(address).path
    monkeypatch.setenv("VTD_JAX_DOWNLOAD", "0")
    assert resolve(address).path == first == held(address)
    # as long as before
    _put(store, a__pt=b"two")
    Store.asked.clear()
    assert resolve(address).path == first
    with pytest.raises(UserError, match=r"gs://bucket/models/b.pt: not on this machine"):
        resolve(f"{FOLDER}/b.pt")
    assert Store.asked == [], "no request is made where none is allowed"
    monkeypatch.setenv("VTD_JAX_DOWNLOAD", "1")
    second = resolve(address).path
    assert (first.read_bytes(), second.read_bytes()) == (b"one", b"two")


def test_without_a_connection_the_last_copy_is_taken(store, monkeypatch, capfd):
    _put(store, a__pt=b"one")
    first = resolve(f"{FOLDER}/a.pt").path
    monkeypatch.setattr(Store, "down", True)
    store.invalidate_cache()
    assert resolve(f"{FOLDER}/a.pt").path == first
    assert "so the copy made last is taken" in capfd.readouterr().err
    with pytest.raises(UserError, match=r"b.pt'?: cannot be read .RuntimeError: .*no route"):
        resolve(f"{FOLDER}/b.pt")


def test_what_is_not_there_and_what_is_not_known(store, monkeypatch):
    # also where it is installed
    monkeypatch.setitem(sys.modules, "s3fs", None)
    _put(store, a__txt=b"x")
    for address, said in {
        f"{FOLDER}/none.pt": "no such file or folder",
        FOLDER: "no weights, expected one of",
        "xyz://a/b": "etils.epath does not know xyz://",
        "s3://bucket/a.pt": r"needs s3fs: pip install .*\[hub\]'",
        "az://bucket/a.pt": "needs adlfs: pip install adlfs ",
        "hf://org/model": "write hf:ORG/MODEL",
    }.items():
        with pytest.raises(UserError, match=said) as caught:
            resolve(address)
        assert "\n" not in str(caught.value)


def test_a_file_that_changes_while_it_is_copied_is_not_kept(store, monkeypatch, tmp_path):
    _put(store, a__pt=b"one")

    def longer(self, path, *_, **__):
        return {"name": path, "size": 99, "type": "file", "mtime": 1}

    monkeypatch.setattr(Store, "info", longer)
    with pytest.raises(UserError, match=r"changed while it was copied|no such file"):
        resolve(f"{FOLDER}/a.pt")
    assert not list((tmp_path / "cache").rglob("a.pt"))
