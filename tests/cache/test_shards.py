"""Shards of rows: the bytes come back, in place, and nothing else is taken for them."""

import os

import numpy as np
import pytest
from safetensors.numpy import save, save_file

from vtd_jax.cache.shards import map_shard, write_shard
from vtd_jax.errors import UserError

ROWS = np.arange(24, dtype=np.float32).reshape(4, 2, 3)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_rows_come_back_in_place(tmp_path, dtype):
    file, rows = tmp_path / "a.safetensors", ROWS.astype(dtype)
    crc = write_shard(file, rows)
    found = map_shard(file, rows.shape, dtype, crc=crc)
    assert isinstance(found, np.memmap)
    assert not found.flags.writeable
    np.testing.assert_array_equal(found, rows)
    first = file.read_bytes()
    # a view in another order is the same rows
    assert write_shard(file, np.asfortranarray(rows)) == crc
    assert file.read_bytes() == first
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    file = tmp_path / "a.safetensors"
    write_shard(file, ROWS)
    before = file.read_bytes()

    def full(temporary, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_shard(file, ROWS + 1)
    assert file.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.safetensors"]


def _refused(file, text, **options):
    with pytest.raises(UserError) as error:
        map_shard(file, ROWS.shape, **options)
    assert text in str(error.value)
    assert str(file) in str(error.value)


def test_damage_is_found_where_it_is_looked_for(tmp_path):
    file = tmp_path / "a.safetensors"
    crc = write_shard(file, ROWS)
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    _refused(file, "other bytes than were written")
    # a search checks a shard once only
    assert map_shard(file, ROWS.shape, check=False).shape == ROWS.shape
    write_shard(file, ROWS + 1)
    _refused(file, "rows of another time", crc=crc)
    file.write_bytes(content[:-4])
    _refused(file, "truncated or damaged")
    file.write_bytes(content + b"1234")
    _refused(file, "truncated or damaged")


def test_other_files_are_no_shards(tmp_path):
    file = tmp_path / "a.safetensors"
    for tensors, metadata in (
        ({"rows": ROWS}, None),
        ({"rows": ROWS}, {"crc32": "1"}),
        ({"more": ROWS}, {"crc32": "00000000"}),
        ({"rows": ROWS, "more": ROWS}, {"crc32": "00000000"}),
    ):
        save_file(tensors, file, metadata)
        _refused(file, "not a shard of rows, expected one tensor")
    for rows in (ROWS[:3], ROWS.astype(np.float16), ROWS.astype(np.int32)):
        file.write_bytes(save({"rows": rows}, {"crc32": "00000000"}))
        _refused(file, "expected float32 (4, 2, 3)")
    file.write_bytes((2**40).to_bytes(8, "little") + b"{}")
    _refused(file, "a header of 1,099,511,627,776 bytes")
    file.write_bytes(b"")
    _refused(file, "not a shard of rows")
    file.unlink()
    os.mkfifo(file)
    _refused(file, "a pipe")
