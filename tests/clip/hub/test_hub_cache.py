"""The hub's cache: what is whole, what other programs left there, and what is fetched again."""

import json
import os
import time
from pathlib import Path

import huggingface_hub
import pytest

from support.hub.server import Fault, sha256
from vtd_jax.clip.hub.hub_cache import hub_cache
from vtd_jax.clip.hub.resolve import held, refreshed, resolve
from vtd_jax.clip.weights.checkpoints import read_checkpoint
from vtd_jax.errors import UserError

NAME = "hf:org/tiny"
RUN = {
    "config.json": b'{"a": 1}',
    "training_list.json": b"{}",
    "checkpoints/10/a": b"aaaa",
    "checkpoints/10/b": b"bbbb",
}
PREPROCESSOR = json.dumps(
    {
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "resample": 2,
        "size": {"shortest_edge": 32},
        "crop_size": 32,
        "image_processor_type": "CLIPImageProcessor",
    }
).encode()


def _left(hub, name, *, commit="", files=None) -> Path:
    """Lets the cache have files of a repository as another program leaves them."""
    commit = commit or hub.revisions[name, "main"]
    folder = hub_cache() / f"models--{name.replace('/', '--')}"
    for file in files or hub.commits[name, commit]:
        data = hub.commits[name, commit][file]
        path, blob = folder / "snapshots" / commit / file, folder / "blobs" / sha256(data)
        for each in (path, blob, folder / "refs" / "main"):
            each.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(data)
        path.symlink_to(os.path.relpath(blob, path.parent))
        (folder / "refs" / "main").write_text(commit)
    return folder / "snapshots" / commit


def test_the_hubs_own_library_and_we_find_each_others_files(hub, weights, monkeypatch, tmp_path):
    # else it asks the hub for a list of the programs that may be calling
    (tmp_path / "callers").write_text('{"harnesses": {}}')
    monkeypatch.setattr("huggingface_hub.constants.AGENT_HARNESSES_PATH", str(tmp_path / "callers"))
    hub.add("org/ours", {"model.safetensors": weights, "config.json": b"{}"})
    hub.add("org/theirs", {"model.safetensors": weights})
    ours = resolve("hf:org/ours").path
    where = {"cache_dir": hub_cache(), "endpoint": hub.url}
    hub.requests.clear()
    for revision in ("main", ours.parent.name):
        for file in ("model.safetensors", "config.json"):
            found = huggingface_hub.hf_hub_download(
                "org/ours", file, revision=revision, local_files_only=True, **where
            )
            assert Path(found) == ours.with_name(file)
    assert hub.requests == []
    theirs = Path(huggingface_hub.hf_hub_download("org/theirs", "model.safetensors", **where))
    assert held("hf:org/theirs") == theirs
    assert resolve("hf:org/theirs").path == theirs
    assert hub.gets("/lfs/") == 1
    cache = huggingface_hub.scan_cache_dir(hub_cache())
    assert {repo.repo_id: repo.nb_files for repo in cache.repos} == {"org/ours": 2, "org/theirs": 1}
    assert cache.warnings == []


def test_a_blob_may_be_a_link_into_a_store_that_repositories_share(hub, weights):
    hub.add("org/tiny", {"model.safetensors": weights})
    path = resolve(NAME).path
    blob = path.parent / os.readlink(path)
    shared = hub_cache() / "blobs" / "ab" / ("ab" * 32)
    shared.parent.mkdir(parents=True)
    blob.rename(shared)
    blob.symlink_to(os.path.relpath(shared, blob.parent))
    hub.requests.clear()
    assert resolve(NAME).path == held(NAME) == path
    read_checkpoint(NAME)
    assert hub.requests == []
    assert refreshed(NAME).path == path
    assert hub.gets("/lfs/") == 0
    # damage behind both links is found
    shared.write_bytes(weights[:-1] + b"x")
    os.utime(shared, ns=(1, 1))
    with pytest.raises(UserError, match=f"damaged, its hash is not {sha256(weights)}"):
        resolve(NAME)


def test_the_same_of_what_another_program_left(hub, weights, capfd):
    hub.add("org/tiny", {"model.safetensors": weights})
    path = _left(hub, "org/tiny") / "model.safetensors"
    blob = path.parent / os.readlink(path)
    shared = hub_cache() / "blobs" / ("cd" * 32)
    shared.parent.mkdir()
    blob.rename(shared)
    blob.symlink_to(shared)
    assert held(NAME) == path
    shared.write_bytes(b"x")
    with pytest.raises(UserError, match="damaged, its hash is not"):
        held(NAME)


@pytest.mark.parametrize("reached", [True, False])
def test_settings_that_another_program_did_not_fetch(hub, weights, monkeypatch, capfd, reached):
    hub.add("org/tiny", {"model.safetensors": weights, "preprocessor_config.json": PREPROCESSOR})
    _left(hub, "org/tiny", files=["model.safetensors"])
    if not reached:
        hub.faults.append(Fault("api/", "status", status=404))
    folder = resolve(NAME).path.parent
    assert (folder / "preprocessor_config.json").is_file() == reached
    said = capfd.readouterr().err
    assert ("settings beside it may be missing" in said) != reached
    assert hub.gets("/lfs/") == 0, "the weights are not fetched again"
    hub.requests.clear()
    if reached:
        assert resolve(NAME).path.parent == folder
        assert hub.requests == []


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "VTD_JAX_DOWNLOAD"])
def test_without_a_request_the_missing_settings_are_named(
    hub, weights, monkeypatch, capfd, variable
):
    hub.add("org/quiet", {"model.safetensors": weights, "preprocessor_config.json": PREPROCESSOR})
    path = _left(hub, "org/quiet", files=["model.safetensors"]) / "model.safetensors"
    monkeypatch.setattr("vtd_jax.clip.hub.hugging_face._warned", set())
    monkeypatch.setenv(variable, "1" if variable == "HF_HUB_OFFLINE" else "0")
    assert resolve("hf:org/quiet").path == resolve("hf:org/quiet").path == path
    said = capfd.readouterr().err
    assert said.count("`refreshed` hf:org/quiet asks the hub") == 1
    assert hub.requests == []


@pytest.mark.parametrize("why", ["not to be written", "a file that fails"])
def test_what_another_program_left_is_taken_where_no_more_comes(hub, weights, why, capfd):
    name = f"org/{why[0]}"
    hub.add(name, {"model.safetensors": weights, "preprocessor_config.json": PREPROCESSOR})
    path = _left(hub, name, files=["model.safetensors"]) / "model.safetensors"
    if why == "not to be written":
        (hub_cache() / ".locks").write_text("")
    else:
        hub.faults.append(Fault("preprocessor", "status", status=404))
    # the second time, too
    assert resolve(f"hf:{name}").path == resolve(f"hf:{name}").path == path
    assert "settings beside it may be missing" in capfd.readouterr().err
    with pytest.raises(UserError, match=r"HF_HOME to a folder that can|fails with HTTP 404"):
        refreshed(f"hf:{name}")


def test_worse_weights_that_are_cached_do_not_become_those_of_the_name(hub, weights):
    hub.add("org/tiny", {"model.safetensors": weights, "pytorch_model.bin": b"PK"})
    resolve(f"{NAME}/pytorch_model.bin")
    assert resolve(NAME).path.name == "model.safetensors"
    assert resolve(f"{NAME}/pytorch_model.bin").path.name == "pytorch_model.bin"


def test_an_interrupted_run_is_not_whole(hub):
    hub.add("org/run", RUN)
    # somebody looked at its settings before
    resolve("hf:org/run/config.json")
    hub.faults.append(Fault("checkpoints/10/b", "status", status=404))
    with pytest.raises(UserError, match="fails with HTTP 404"):
        resolve("hf:org/run")
    assert held("hf:org/run") is None
    hub.faults.clear()
    run = resolve("hf:org/run").path
    assert {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()} == set(RUN)
    hub.requests.clear()
    assert resolve("hf:org/run").path == held("hf:org/run") == run
    assert hub.requests == []
    # one that lacks a file later is completed
    (run / "checkpoints" / "10" / "b").unlink()
    assert held("hf:org/run") is None
    resolve("hf:org/run")
    assert (run / "checkpoints" / "10" / "b").read_bytes() == b"bbbb"


def test_damage_in_a_run_is_found(hub):
    hub.add("org/run", RUN)
    path = resolve("hf:org/run").path / "checkpoints" / "10" / "b"
    path.resolve().write_bytes(b"EVIL")
    with pytest.raises(UserError, match=r"checkpoints/10/b: damaged, its hash is not"):
        resolve("hf:org/run")


def test_of_a_run_comes_what_is_read_again(hub):
    more = {"evil/a.py": b"1", "predict.py": b"1", ".git/x": b"1", "results.md": b"1"}
    hub.add("org/run", RUN | more)
    run = resolve("hf:org/run").path
    assert {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()} == set(RUN)


def test_a_branch_that_moved_asks_for_what_is_new(hub, weights, capfd):
    hub.add("org/tiny", {"model.safetensors": weights})
    resolve(NAME)
    capfd.readouterr()
    hub.add("org/tiny", {"model.safetensors": weights, "preprocessor_config.json": b"{}"})
    path = refreshed(NAME).path
    assert "downloading 2 bytes from" in capfd.readouterr().err
    assert path.read_bytes() == weights
    assert hub.gets("/lfs/") == 1
    # and for nothing where only the commit is new
    hub.add("org/tiny", {"model.safetensors": weights, "README.md": b"#"})
    assert refreshed(NAME).path.parent != path.parent
    assert "downloading" not in capfd.readouterr().err


def test_parts_that_nobody_continues_are_removed(hub, weights):
    hub.add("org/tiny", {"model.safetensors": weights})
    blobs = hub_cache() / "models--org--tiny" / "blobs"
    blobs.mkdir(parents=True)
    digest = "1" * 64
    old, fresh, other = (
        blobs / f".{digest}.{digest[:8]}.part",
        blobs / f".{'2' * 64}.22222222.part",
        blobs / f"{digest}.incomplete",
    )
    week = time.time() - 8 * 86400
    for path, stamp in ((old, week), (fresh, time.time()), (other, week)):
        path.write_bytes(b"x")
        os.utime(path, (stamp, stamp))
    resolve(NAME)
    assert not old.exists()
    assert fresh.exists()
    assert other.exists(), "another program's"


def test_a_reference_that_is_none_counts_as_none(hub, weights):
    hub.add("org/tiny", {"model.safetensors": weights})
    resolve(NAME)
    reference = hub_cache() / "models--org--tiny" / "refs" / "main"
    for text in ("../../../x", "\0", "", "a" * 5000, "\xff"):
        reference.write_text(text)
        assert held(NAME) is None
    assert resolve(NAME).path.is_file()
