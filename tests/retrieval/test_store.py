"""Files of an index from a stranger: nothing in them opens a file, takes memory, or is believed."""

import json
import os
import zlib

import numpy as np
import pytest
from safetensors.numpy import save

from hostile import harness
from vtd_jax.cache.shards import write_shard
from vtd_jax.errors import UserError
from vtd_jax.retrieval import shard_files, store
from vtd_jax.retrieval.index import Index
from vtd_jax.retrieval.shard_files import Row, with_shard
from vtd_jax.retrieval.store import Contents, read_contents, write_contents

FRAMES, WIDTH = 2, 4
ROWS = [Row(0, f"{n}.mp4", 1, 2, 9, 1.5, [2, 6], [0.2, 0.6], "") for n in range(3)]


@pytest.fixture
def folder(tmp_path):
    """An index of three clips."""
    contents = Contents("e", FRAMES, WIDTH, "tiny", "w", "p", {"dtype": "float32"}, ("/videos",))
    features = np.arange(24, dtype=np.float16).reshape(3, FRAMES, WIDTH)
    write_contents(tmp_path, with_shard(tmp_path, contents, features, ROWS))
    return tmp_path


def _refused(folder, *texts):
    def read():
        index = Index.open(folder)
        index.check()
        list(index)

    return harness.check_call_refused(read, texts=[str(folder), *texts])


def _changed(folder, *path_and_value):
    """Sets a value in the manifest."""
    *path, last, value = path_and_value
    manifest = json.loads((folder / "index.json").read_text())
    place = manifest
    for key in path:
        place = place[key]
    place[last] = value
    (folder / "index.json").write_text(json.dumps(manifest))


def _sign(folder):
    """Makes sizes and checksums right, which are no secret."""
    for number in range(len(json.loads((folder / "index.json").read_text())["about"]["shards"])):
        features, rows = store.file_names(number)
        for name in (features, rows):
            if (folder / name).exists():
                _changed(folder, "files", name, (folder / name).stat().st_size)
        crc = f"{zlib.crc32((folder / rows).read_bytes()):08x}"
        _changed(folder, "about", "shards", number, "rows", crc)


def test_contents_come_back(folder):
    found = read_contents(folder)
    assert (found.frames, found.width, found.model, len(found)) == (FRAMES, WIDTH, "tiny", 3)
    assert found.settings == {"dtype": "float32"}
    assert shard_files.rows_of(folder, found, 0) == ROWS
    features = shard_files.features_of(folder, found, 0, check=True)
    assert isinstance(features, np.memmap)
    assert features.dtype == np.float16
    before = (folder / "index.json").read_bytes()
    write_contents(folder, found)
    assert (folder / "index.json").read_bytes() == before
    assert read_contents(folder.parent / "none") is None


@pytest.mark.parametrize(
    "change, said",
    [
        (("of", "run of a table"), "expected 'index of videos'"),
        (("manifest", 9), "update it"),
        (("made_from", "format", 2), "update it"),
        (("made_from", "format", "1"), "format: expected int"),
        (("made_from", "frames", 0), "frames: expected int >= 1"),
        (("made_from", "frames", 2**40), "frames: expected int <= 4096"),
        (("made_from", "width", 2**62), "width: expected int <= 8192"),
        (("made_from", "width", -1), "width: expected int >= 1"),
        (("about", "model", "x" * 9999), "model: expected at most 4,096 characters"),
        (("about", "roots", "/"), "roots: expected array"),
        (("about", "shards", [{}]), "shards[0]: object missing required field"),
        (("about", "shards", 0, "clips", 10**9), "shards[0].clips: expected int <= 256"),
        (("about", "shards", 0, "number", "../0"), "shards[0].number: expected int"),
        (("about", "shards", 0, "number", -1), "shards[0].number: expected int >= 0"),
        (("about", "shards", 0, "number", 7), "00007.safetensors: No such file"),
        (("about", "shards", 0, "clips", 0), "shards[0].clips: expected int >= 1"),
        (("about", "shards", 0, "dropped", [3]), "shards[0].dropped: a clip that"),
        (("about", "shards", 0, "dropped", [-1]), "dropped[0]: expected int >= 0"),
        (("about", "shards", 0, "features", "../../x"), "features: expected str matching"),
        (("about", "settings", {"dtype": ["\x1b]0;"]}), "settings.dtype: expected"),
        (("about", "settings", {"head_width": 10**9}), "settings.head_width: expected"),
        (("files", "00000.json", 10**15), "bytes, expected 1,000,000,000,000,000"),
        (("files", {}), "bytes, expected none"),
        (("about", "shards", 0, "clips", 4), "expected float16 (4, 2, 4)"),
        (("made_from", "width", 5), "expected float16 (3, 2, 5)"),
        (("made_from", "frames", 3), "expected float16 (3, 3, 4)"),
        (("about", "roots", []), "a folder that the index does not have"),
    ],
)
def test_a_manifest_that_lies_is_one_line(folder, change, said):
    _changed(folder, *change)
    _refused(folder, said)


def test_a_manifest_of_something_else_is_one_line(folder):
    for content in (b"", b"{}", b"[1]", b"\xff", b"{" * 1000, b"1" * 9999):
        (folder / "index.json").write_bytes(content)
        _refused(folder, "index.json")
    (folder / "index.json").unlink()
    os.mkfifo(folder / "index.json")
    _refused(folder, "a pipe")


@pytest.mark.slow
def test_more_shards_than_there_are(folder):
    manifest = json.loads((folder / "index.json").read_text())
    shards = manifest["about"]["shards"]
    _changed(folder, "about", "shards", shards * 2)
    _refused(folder, "shards[1].number: 0, as another shard")
    _changed(folder, "about", "shards", [*shards, shards[0] | {"number": 1}])
    _refused(folder, "00001.safetensors: No such file")
    _changed(folder, "about", "shards", shards * 100_001)
    _refused(folder, "shards: expected at most 100,000 entries")


def _row(**changes):
    row = dict(root=0, path="a.mp4", size=1, mtime=2, total=9, duration=1.5, note="")
    return row | dict(indices=[2, 6], seconds=[0.2, 0.6]) | changes


@pytest.mark.parametrize(
    "rows, said",
    [
        ([_row()] * 2, "2 clips, expected 3"),
        ([_row(path="")] * 3, "path: expected at least 1 character"),
        ([_row(path="x" * 5000)] * 3, "path: expected at most 4,096 characters"),
        ([_row(root=1)] * 3, "a folder that the index does not have"),
        ([_row(root=-1)] * 3, "root: expected int >= 0"),
        ([_row(indices=[1])] * 3, "not 2 frames"),
        ([_row(seconds=[0.1] * 3)] * 3, "not 2 frames"),
        ([_row(seconds=[0.1, 1e300])] * 3, "seconds[1]: expected float <= "),
        ([_row(duration=-1)] * 3, "duration: expected float >= 0"),
        ([_row(size="1")] * 3, "size: expected int"),
        ([_row(indices=[-1, 2])] * 3, "indices[0]: expected int >= 0"),
        ({"a": 1}, "expected array"),
    ],
)
def test_clips_that_lie_are_one_line(folder, rows, said):
    (folder / "00000.json").write_text(json.dumps(rows))
    _sign(folder)
    _refused(folder, said)


def test_not_a_number_is_no_second(folder):
    text = (folder / "00000.json").read_text().replace("0.6", "NaN")
    (folder / "00000.json").write_text(text)
    _sign(folder)
    _refused(folder, "00000.json: not JSON")


def _shard(folder, features, crc=None):
    path = folder / "00000.safetensors"
    found = write_shard(path, features)
    _changed(folder, "about", "shards", 0, "features", crc or found)
    _sign(folder)
    return path


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_refused(folder, value):
    features = np.ones((3, FRAMES, WIDTH), np.float16)
    features[1, 0, 2] = value
    _shard(folder, features)
    _refused(folder, "00000.safetensors: features that are NaN or infinite")


def test_shards_that_lie_are_one_line(folder):
    ones = np.ones((3, FRAMES, WIDTH), np.float16)
    _shard(folder, ones.astype(np.float32))
    _refused(folder, "expected float16 (3, 2, 4)")
    _shard(folder, ones[:2])
    _refused(folder, "expected float16 (3, 2, 4)")
    _shard(folder, ones, "00000000")
    _refused(folder, "rows of another time")
    path = _shard(folder, ones)
    whole = path.read_bytes()
    for content in (
        whole[:8] + whole[8:].replace(b"[0,48]", b"[0,96]"),
        whole[:8] + whole[8:].replace(b"[0,48]", b"[8,56]"),
        (2**40).to_bytes(8, "little") + whole[8:],
        save({"rows": ones, "more": ones}, {"crc32": "00000000"}),
        b"\x80\x04cos\nsystem\n(S'true'\ntR.",
    ):
        path.write_bytes(content)
        _sign(folder)
        _refused(folder, "00000.safetensors: ")


def test_a_sparse_terabyte_is_not_read(folder):
    os.truncate(folder / "00000.safetensors", 2**40)
    _sign(folder)
    _refused(folder, "00000.safetensors: ")


@pytest.mark.parametrize("name", ["00000.safetensors", "00000.json"])
def test_a_link_to_another_file_is_not_followed(folder, tmp_path_factory, name):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / name
    (folder / name).rename(elsewhere)
    (folder / name).symlink_to(elsewhere)
    _refused(folder, name, "a link, a pipe or a folder")
    (folder / name).unlink()
    os.mkfifo(folder / name)
    _refused(folder, name, "a link, a pipe or a folder")


def test_paths_of_clips_are_only_shown(folder, monkeypatch):
    _changed(folder, "about", "roots", ["/etc"])
    rows = [_row(path=path) for path in ("../proc/self/mem", "/dev/zero", "a\x1b[31m\n")]
    (folder / "00000.json").write_text(json.dumps(rows))
    _sign(folder)
    names = [one.clip.name for one in Index.open(folder)]
    assert names == ["/etc/../proc/self/mem", "/dev/zero", "/etc/a\x1b[31m\n"]


def test_a_shard_that_is_dropped_is_not_opened(folder):
    _changed(folder, "about", "shards", 0, "dropped", [0, 1, 2])
    os.unlink(folder / "00000.safetensors")
    index = Index.open(folder)
    assert (len(index), list(index), index.check()) == (0, [], 0)


def test_float16_holds_or_says_so():
    features = np.array([[1.0, -60000.0]], np.float32)
    assert shard_files.as_float16(features, "a.mp4").dtype == np.float16
    for bad in (70000.0, np.nan, np.inf):
        with pytest.raises(UserError, match=r"a\.mp4: frame features up to .* float16"):
            shard_files.as_float16(np.array([[1.0, bad]], np.float32), "a.mp4")


def test_wide_features_make_smaller_shards():
    sizes = {
        Contents("e", frames, width, "m", "w", "p", {}).clips_a_shard
        for frames, width in ((16, 512), (4096, 8192), (64, 1536))
    }
    assert sizes == {256, 1}
