"""Addresses of stores, by a stand-in for Google's that fsspec gives to epath."""

import json
import sys

import pytest
from safetensors.numpy import load_file

from support.helpers import assert_same_state, random_state
from support.hub.store import Store
from support.weights.encoders import SIGLIP, write_siglip
from support.weights.foreign_files import write_json
from vtd_jax.clip.hub.resolve import held, resolve
from vtd_jax.clip.weights.checkpoints import read_checkpoint
from vtd_jax.errors import UserError
from vtd_jax.untrusted.limits import SHARDS

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


def _index(*shards: str) -> bytes:
    return json.dumps(
        {"weight_map": {f"tensor{i}": each for i, each in enumerate(shards)}}
    ).encode()


@pytest.mark.parametrize("asked", [FOLDER, f"{FOLDER}/model.safetensors.index.json"])
def test_shards_come_whatever_names_the_index_gives_them(store, asked):
    index = _index("one.safetensors", "model-00002-of-00002.safetensors", "one.safetensors")
    _put(store, model__safetensors__index__json=index, config__json=b"{}", other__safetensors=b"x")
    _put(store, one__safetensors=b"first")
    store.pipe_file(f"{FOLDER}/model-00002-of-00002.safetensors", b"second")
    path = resolve(asked).path
    assert {one.name: one.read_bytes() for one in path.parent.iterdir() if one.name[0] != "."} == {
        "model.safetensors.index.json": index,
        "config.json": b"{}",
        "one.safetensors": b"first",
        "model-00002-of-00002.safetensors": b"second",
    }
    # the index stays as it is
    _put(store, one__safetensors=b"other")
    assert (resolve(asked).path.parent / "one.safetensors").read_bytes() == b"other"


def test_a_model_in_shards_is_loaded(store, tmp_path):
    (tmp_path / "original").mkdir()
    state = random_state(SIGLIP, 3)
    folder = write_siglip(tmp_path / "original", state)
    tensors = sorted(load_file(folder / "model.safetensors"))
    (folder / "model.safetensors").rename(folder / "part.safetensors")
    where = {"weight_map": dict.fromkeys(tensors, "part.safetensors")}
    write_json(folder / "model.safetensors.index.json", where)
    for path in folder.iterdir():
        store.pipe_file(f"{FOLDER}/{path.name}", path.read_bytes())
    config, found = read_checkpoint(FOLDER)
    assert config == SIGLIP
    assert_same_state(found, state)


@pytest.mark.parametrize(
    "index, said",
    {
        "../../other/a.safetensors": "shard '../../other/a.safetensors' is not a file of the same",
        "..": "shard '..' is not a file of the same folder",
        "a\\b": "is not a file of the same folder",
        "/etc/passwd": "shard '/etc/passwd' is not a file of the same folder",
        "gs://other/a": "shard 'gs://other/a' is not a file of the same folder",
        "absent.bin": "model.safetensors.index.json names absent.bin, which is not there",
    }.items(),
)
def test_an_index_leads_nowhere_else(store, index, said):
    _put(store, model__safetensors__index__json=_index(index))
    store.pipe_file("gs://bucket/other/a.safetensors", b"secret")
    with pytest.raises(UserError, match=r"models") as caught:
        resolve(FOLDER)
    assert said in str(caught.value)


def test_an_index_is_within_limits(store, monkeypatch, tmp_path):
    _put(store, model__safetensors__index__json=_index(*map(str, range(SHARDS + 1))))
    with pytest.raises(UserError, match=r"gs://bucket.*: 501 files, expected at most 500"):
        resolve(FOLDER)
    _put(store, model__safetensors__index__json=b"{" * 50)
    with pytest.raises(UserError, match=r"gs://bucket.*index.json: not JSON"):
        resolve(FOLDER)
    monkeypatch.setattr("vtd_jax.clip.hub.remote.SMALL_JSON_BYTES", 10)
    with pytest.raises(UserError, match="more than the 10 bytes that an index may have"):
        resolve(FOLDER)
    assert not list((tmp_path / "cache").rglob("*.json"))


def test_spellings_of_one_place_share_a_copy(store, monkeypatch, tmp_path):
    _put(store, model__safetensors=b"weights", config__json=b"{}")
    first = resolve(FOLDER).path
    spellings = (f"{FOLDER}/", f"{FOLDER}//./", f"{FOLDER}/model.safetensors")
    monkeypatch.setenv("VTD_JAX_DOWNLOAD", "0")
    # the file of a folder is known without a request
    assert [held(each) for each in spellings] == [first] * 3
    monkeypatch.setenv("VTD_JAX_DOWNLOAD", "1")
    assert [resolve(each).path for each in spellings] == [first] * 3
    assert list((tmp_path / "cache").rglob("model.safetensors")) == [first]
    # which file a folder stands for is not known from the file alone
    store.pipe_file("gs://bucket/two/model.safetensors", b"weights")
    second = resolve("gs://bucket/two/model.safetensors").path
    assert held("gs://bucket/two") is None
    assert resolve("gs://bucket/two").path == second != first


def test_settings_are_small(store, monkeypatch, tmp_path):
    monkeypatch.setattr("vtd_jax.clip.hub.contents._MOST_BESIDE", 100)
    _put(store, model__safetensors=b"w" * 200, tokenizer__json=b" " * 101)
    for address in (FOLDER, f"{FOLDER}/model.safetensors"):
        with pytest.raises(UserError, match=r"tokenizer.json is 101 bytes, expected at most 100"):
            resolve(address)
    assert not list((tmp_path / "cache").rglob("*.json"))
    _put(store, tokenizer__json=b" " * 100)
    assert resolve(FOLDER).path.read_bytes() == b"w" * 200
