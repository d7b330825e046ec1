"""Arrays of a stranger's checkpoint: what they claim is refused before memory is allocated, and
nothing waits.
"""

import json
import os
import shutil

import numpy as np
import pytest
import tensorstore

from vtd_jax.errors import UserError
from vtd_jax.train.checkpoints import stored_arrays
from vtd_jax.train.checkpoints.checkpoint import Checkpoints
from vtd_jax.train.checkpoints.stored_arrays import check_folder, read_arrays
from vtd_jax.untrusted import zstd_frames

ARRAYS = {
    "a.b": np.arange(6, dtype=np.float32).reshape(2, 3),
    "scalar": np.asarray(np.float32(2)),
    "many": np.random.default_rng(0).normal(size=(300, 500)).astype(np.float32),
    "zeros": np.zeros((1000, 1000), np.float32),
    "count": np.arange(3, dtype=np.int32),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder of an item of a checkpoint."""
    workdir = tmp_path_factory.mktemp("written")
    checkpoints = Checkpoints(workdir)
    checkpoints.save(1, ARRAYS, {"x": np.zeros(1)}, {})
    checkpoints.close()
    return workdir / "checkpoints" / "1" / "learnable"


@pytest.fixture
def item(written, tmp_path):
    return shutil.copytree(written, tmp_path / "learnable")


def _store(item):
    return tensorstore.KvStore.open(
        {"driver": "ocdbt", "base": {"driver": "file", "path": f"{item}/"}}
    ).result()


def _frame(*blocks):
    """A Zstandard frame of blocks that repeat a byte so many times."""
    parts = [
        (size << 3 | 1 << 1 | (number == len(blocks) - 1)) for number, size in enumerate(blocks)
    ]
    # no checksum, no content size, a window of 128 KiB
    return (
        zstd_frames.MAGIC
        + b"\x00\x38"
        + b"".join(part.to_bytes(3, "little") + b"\0" for part in parts)
    )


BLOCK = 128 * 1024


def test_what_was_written_is_read(item):
    found = read_arrays(item)
    assert found.keys() == ARRAYS.keys()
    for name, value in ARRAYS.items():
        np.testing.assert_array_equal(found[name], value)
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape)


def test_links_of_a_cache_of_downloads_are_read(item, tmp_path):
    for number, path in enumerate([path for path in item.rglob("*") if path.is_file()]):
        path.rename(tmp_path / f"blob{number}")
        path.symlink_to(tmp_path / f"blob{number}")
    assert read_arrays(item).keys() == ARRAYS.keys()


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"shape": [10**12], "chunks": [10**12]},
            r"many: claims chunks of 4,000,000,000,000 bytes",
        ),
        (
            {"shape": [10**12], "chunks": [1]},
            r"its arrays claim 4,000,00\d,\d{3},\d{3} bytes, expected at most",
        ),
        ({"shape": [2**53] * 30, "chunks": [2**53] * 30}, "many: claims chunks of"),
        ({"shape": [2**64]}, "many: shape"),
        ({"shape": [10**8], "chunks": [1]}, "its arrays claim more than 10,000 chunks"),
        ({"shape": [300, 500], "chunks": [0, 500]}, r"many: chunks of \[0, 500\]"),
        ({"shape": [300, 500], "chunks": [500]}, r"many: chunks of \[500\]"),
        (
            {"shape": [1] * 33, "chunks": [1] * 33},
            "many: (shape|chunks): expected at most 32 entries",
        ),
        ({"shape": [300, 1000], "chunks": [300, 500]}, r"many/0\.1 is missing"),
        ({"dtype": "|S100000"}, "many: dtype: invalid enum value"),
        ({"dtype": [["a", "<f4", [10**9]]]}, "many: dtype"),
        (
            {"compressor": {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1}},
            "many: compressor",
        ),
        ({"filters": [{"id": "delta"}]}, "many: filters"),
        ({"driver": "http"}, "many: object contains unknown field driver"),
        (b'{"shape": [' + b"9" * 5000 + b"]}", "many: not JSON|many: shape"),
        (b"[" * 100_000, "many: "),
    ],
)
def test_claims_are_held_against_limits(item, changes, message):
    store = _store(item)
    found = json.loads(store.read("many/.zarray").result().value)
    store.write(
        "many/.zarray", changes if isinstance(changes, bytes) else json.dumps(found | changes)
    ).result()
    with pytest.raises(UserError, match=message):
        read_arrays(item)


def test_a_piece_that_would_become_gigabytes_is_refused(item):
    _store(item).write("a.b/0.0", _frame(*[BLOCK] * 100_000)).result()
    with pytest.raises(UserError, match=r"a\.b: .*24 bytes"):
        read_arrays(item)


def test_a_piece_without_a_frame_is_refused(item):
    _store(item).write("a.b/0.0", b"none").result()
    with pytest.raises(UserError, match=r"a\.b: not compressed with zstd"):
        read_arrays(item)


def test_an_index_that_would_become_gigabytes_is_refused(item):
    manifest = item / "manifest.ocdbt"
    content = manifest.read_bytes()
    start = content.index(zstd_frames.MAGIC)
    manifest.write_bytes(content[:start] + _frame(*[BLOCK] * 20_000))
    with pytest.raises(
        UserError, match=r"manifest\.ocdbt: indices that would have more than 67,108,864 bytes"
    ):
        read_arrays(item)


def test_many_empty_blocks_take_no_time():
    assert zstd_frames.bound(_frame(*[0] * 300_000), 0, 10**6)[0] == 10**6 + 1


@pytest.mark.parametrize(
    "content, message",
    [
        (b"[" * 100_000, "_METADATA: "),
        (b'{"tree_metadata": ' + b"9" * 5000 + b"}", "_METADATA: "),
        (b'{"tree_metadata": {}}', "_METADATA: 0 arrays"),
        (
            b'{"tree_metadata": {"x": {"key_metadata": [{"key": "none"}]}}}',
            r"none/\.zarray is missing",
        ),
        (b'{"tree_metadata": {"x": {"key_metadata": [{"key": 3}]}}}', "expected str, got int"),
        (b'{"tree_metadata": {}, "use_zarr3": true}', "use_zarr3: invalid enum value"),
        (b"\xff\xfe", "_METADATA: "),
    ],
)
def test_the_list_of_arrays(item, content, message):
    (item / "_METADATA").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_arrays(item)


def _pipe(item):
    (item / "manifest.ocdbt").unlink()
    os.mkfifo(item / "manifest.ocdbt")


def _device(item):
    (item / "manifest.ocdbt").unlink()
    (item / "manifest.ocdbt").symlink_to("/dev/zero")


def _folder_elsewhere(item):
    shutil.move(item / "d", item.parent / "d")
    (item / "d").symlink_to(item.parent / "d")


def _around_in_a_circle(item):
    (item / "more").symlink_to(item)


def _hole(item):
    os.truncate(item / "manifest.ocdbt", 2**42)


def _dangling(item):
    (item / "more").symlink_to("nowhere")


@pytest.mark.parametrize(
    "damage, message",
    {
        _pipe: "manifest.ocdbt: not a regular file",
        _device: "manifest.ocdbt: not a regular file",
        _folder_elsewhere: "d: not a regular file",
        _around_in_a_circle: "more: not a regular file",
        _hole: "files of 4,398,0.* bytes, expected at most",
        _dangling: "more: No such file",
    }.items(),
)
def test_only_regular_files_are_opened(item, damage, message):
    damage(item)
    with pytest.raises(UserError, match=message):
        read_arrays(item)


def test_more_files_than_any_checkpoint_has(item, monkeypatch):
    monkeypatch.setattr(stored_arrays, "CHECKPOINT_FILES", 100)
    for number in range(101):
        (item / str(number)).touch()
    with pytest.raises(UserError, match="more than 100 files"):
        check_folder(item)
