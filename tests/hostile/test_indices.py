"""Indices of strangers through the commands: one line, nothing opened, no request."""

import json
import os
import zlib

import numpy as np
import pytest

from hostile import harness
from support.video_files import make_video
from vtd_jax.cache.shards import write_shard
from vtd_jax.retrieval.index import Index

pytestmark = pytest.mark.command


@pytest.fixture
def index(tmp_path):
    """An index of two clips, made by the small CLIP."""
    for number in range(2):
        make_video(tmp_path / f"{number}.mp4", 4 + number)
    Index.build(tmp_path / "index", [tmp_path / "0.mp4", tmp_path / "1.mp4"], "tiny", frames=2)
    return tmp_path / "index"


def _changed(index, **about):
    manifest = json.loads((index / "index.json").read_text())
    manifest["about"] |= about
    (index / "index.json").write_text(json.dumps(manifest))


def _rows(index, **changes):
    """Changes all clips; sizes and checksums are no secret."""
    path = index / "00000.json"
    rows = [row | changes for row in json.loads(path.read_text())]
    path.write_text(json.dumps(rows))
    manifest = json.loads((index / "index.json").read_text())
    manifest["files"][path.name] = path.stat().st_size
    manifest["about"]["shards"][0]["rows"] = f"{zlib.crc32(path.read_bytes()):08x}"
    (index / "index.json").write_text(json.dumps(manifest))


def test_paths_are_shown_and_not_opened(index, tmp_path):
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(b"x")
    _changed(index, roots=["/"])
    _rows(index, root=0, path=f"{tmp_path}/secret.mp4\x1b[31m\x07")
    harness.check_right(
        "search", [str(index), "red circle"], folder=tmp_path, trace=True, secrets=[secret],
        texts=["secret.mp4\\x1b[31m\\x07"],
    )  # fmt: skip


def test_the_path_of_an_encoder_is_not_opened(index, tmp_path):
    secret = tmp_path / "secret.pt"
    secret.write_bytes(b"x")
    _changed(index, model=str(secret))
    harness.check_refused(
        "search", [str(index), "red circle"], folder=tmp_path, trace=True, secrets=[secret],
        texts=["a path is not opened because an index says so: give --model="],
    )  # fmt: skip


def test_the_name_of_an_encoder_makes_no_request(index, tmp_path):
    with harness.Listener() as listener:
        name = f"http://127.0.0.1:{listener.port}/x.safetensors"
        _changed(index, model=name)
        harness.check_refused(
            "search", [str(index), "red circle", "--download"], folder=tmp_path, listener=listener,
            texts=[name],
        )  # fmt: skip


def test_features_that_are_no_numbers_and_huge_claims(index, tmp_path):
    harness.check_refused(
        "search", [str(index), "red circle", "--top=1000000000", "--json=/proc/x.json"],
        folder=tmp_path, texts=["--json=/proc/x.json"],
    )  # fmt: skip
    path = index / "00000.safetensors"
    crc = write_shard(path, np.full((2, 2, 128), np.nan, np.float16))
    manifest = json.loads((index / "index.json").read_text())
    manifest["about"]["shards"][0]["features"] = crc
    (index / "index.json").write_text(json.dumps(manifest))
    said = ["00000.safetensors: features that are NaN", "experiments.index"]
    harness.check_refused("search", [str(index), "red"], folder=tmp_path, texts=said)
    manifest["made_from"]["width"] = 8192
    (index / "index.json").write_text(json.dumps(manifest))
    harness.check_refused("search", [str(index), "--check"], folder=tmp_path, texts=[str(path)])


@pytest.mark.parametrize("name", ["index.json", "00000.json", "00000.safetensors"])
def test_links_and_pipes_in_an_index(index, tmp_path, name):
    secret = tmp_path / "secret"
    secret.write_bytes((index / name).read_bytes() if name == "index.json" else b"secret")
    (index / name).unlink()
    os.mkfifo(index / name)
    texts = ["a pipe"] if name == "index.json" else ["a link, a pipe or a folder"]
    for command, arguments in (
        ("search", [str(index), "red circle"]),
        ("search", [str(index), "--check"]),
    ):
        harness.check_refused(command, arguments, folder=tmp_path, texts=[name, *texts])


def test_an_index_is_added_to_without_following_links(index, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("mine")
    (index / "00001.safetensors").symlink_to(secret)
    (index / "00001.json").symlink_to(secret)
    make_video(tmp_path / "2.mp4", 7)
    harness.check_right(
        "index", [str(tmp_path / "2.mp4"), f"--out={index}"], folder=tmp_path, outputs=[index],
        texts=["3 videos (1 added, 0 unchanged)"],
    )  # fmt: skip
    assert secret.read_text() == "mine"
    assert not (index / "00001.json").is_symlink()
