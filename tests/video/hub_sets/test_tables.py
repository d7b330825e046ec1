"""Parquet files in a process of its own: damage that ends Arrow's process ends no other."""

import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vtd_jax.errors import UserError
from vtd_jax.video.hub_sets import tables
from vtd_jax.video.hub_sets.tables import Tables

VIDEO = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.fixture
def path(tmp_path):
    """Three rows of a video and a label."""
    rows = [{"bytes": bytes([i]) * 50, "path": f"{i}.mp4"} for i in range(3)]
    made = pa.table({"video": pa.array(rows, VIDEO), "label": pa.array([0, 1, None])})
    pq.write_table(made, tmp_path / "a.parquet", row_group_size=2)
    return tmp_path / "a.parquet"


def test_one_process_answers_all(path):
    with Tables() as reader:
        look = reader.look(path, "a")
        assert (look.rows, look.kinds) == (3, {"video": "file", "label": "number"})
        assert reader.check(path, "a", ["label"]) < reader.check(path, "a", ["video", "label"])
        rows = list(reader.read(path, "a", ["video", "label"]))
        assert rows[1:] == [[[b"\1" * 50, "1.mp4"], 1], [[b"\2" * 50, "2.mp4"], None]]
        first = reader._process
        with pytest.raises(UserError, match="a: has no column 'x'"):
            list(reader.read(path, "a", ["x"]))
        with pytest.raises(UserError, match="a folder, expected a Parquet file"):
            reader.look(path.parent, "a")
        with pytest.raises(UserError, match=r"b: .*No such file"):
            reader.look(path.with_name("b"), "b")
        assert reader.look(path, "a") == look
        assert reader._process is first
    assert first.poll() is not None


@pytest.mark.parametrize(
    "code, said",
    [
        ("import os; os.abort()", "the process that read it ended"),
        ("sys.stdout.write('no message at all')", "the process that read it ended"),
        ("sys.stdout.buffer.write(bytes([1, 0, 0, 0, 0xc1]))", "the process that read it ended"),
        ("import time; time.sleep(60)", "nothing came of it in 0 s"),
    ],
)
def test_a_process_that_dies_is_one_line(path, monkeypatch, code, said):
    with Tables() as reader:
        with monkeypatch.context() as patched:
            patched.setattr(tables, "_CODE", code)
            if "sleep" in code:
                patched.setattr(tables, "_PATIENCE", 0.1)
            with pytest.raises(UserError, match=f"a: .*{said}"):
                reader.look(path, "a")
        # the next file has a new one
        assert reader.look(path, "a").rows == 3


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zstd", "use_dictionary": False},
        {"data_page_version": "2.0", "compression": "gzip"},
    ],
)
def test_damage_at_every_place_is_one_line(path, options):
    made = pq.read_table(path)
    pq.write_table(made, path, **options)
    whole, draw = path.read_bytes(), random.Random(0)
    ended = 0
    with Tables() as reader:
        for place in range(0, len(whole), 5):
            broken = bytearray(whole)
            broken[place] ^= 1 << draw.randrange(8)
            path.write_bytes(broken)
            try:
                assert len(list(reader.read(path, "a", ["video", "label"]))) == 3
            except UserError as error:
                assert str(error).startswith("a: ")  # noqa: PT017
                ended += 1
        for size in range(0, len(whole), 37):
            path.write_bytes(whole[:size])
            with pytest.raises(UserError, match="a: "):
                list(reader.read(path, "a", ["video", "label"]))
    assert ended > 50
